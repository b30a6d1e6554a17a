//! Borrowed strided arrays: what operations read.

use crate::Real;
use crate::shape::{MAX_RANK, Shape};

/// A borrowed array: element (i, j, …) lies at `data[i · strides[0] + j · strides[1] + …]`.
///
/// A stride of 0 repeats a dimension (broadcasting).
#[derive(Clone, Copy)]
pub struct View<'a, T: Real> {
    /// From the first element on.
    pub data: &'a [T],
    /// How many elements lie along each dimension.
    pub shape: Shape,
    /// The distance between neighbours along each dimension.
    pub strides: [usize; MAX_RANK],
}

impl<'a, T: Real> View<'a, T> {
    /// The elements of `data` row by row.
    ///
    /// # Panics
    /// If `data` does not hold exactly as many elements as `shape`.
    #[track_caller]
    pub fn new(data: &'a [T], shape: Shape) -> Self {
        assert_eq!(data.len(), shape.elements(), "view: data and shape {shape} differ in size");
        View { data, shape, strides: shape.contiguous_strides() }
    }

    /// The elements row by row, if that is how they lie in memory.
    pub fn as_slice(&self) -> Option<&'a [T]> {
        let expected = self.shape.contiguous_strides();
        let contiguous = (0..self.shape.rank()).all(|i| self.shape[i] == 1 || self.strides[i] == expected[i]);
        (contiguous || self.shape.elements() == 0).then(|| &self.data[..self.shape.elements()])
    }
}
