//! Picking and joining.

use super::Tensor;
use crate::real::Real;
use crate::shape::Shape;
use crate::strided::{self, Layout, check_ids, concat_shape, fit, gather_shape, resized};
use crate::view::View;

impl<T: Real> Tensor<T> {
    /// Entries `ids` along `axis`, in that order: this shape with as many entries along `axis` as there are ids.
    ///
    /// # Panics
    /// If there is no such axis or an id is not below its size.
    #[track_caller]
    pub fn index_select(&self, axis: usize, ids: &[u32]) -> Self {
        fit(Layout::axis("index_select", &self.shape(), axis));
        fit(check_ids("index_select", ids, self.shape()[axis]));
        let shape = resized(&self.shape(), axis, ids.len());
        Tensor::build(shape, |y| strided::index_select(self.view(), axis, ids, y))
    }

    /// At each place, the entry along `axis` that the id there names.
    ///
    /// `ids` lie row by row in this shape with any size along `axis`, which is the result's.
    ///
    /// # Panics
    /// If there is no such axis, the ids do not fill such a shape, or one is not below the size of `axis`.
    #[track_caller]
    pub fn gather(&self, axis: usize, ids: &[u32]) -> Self {
        let shape = fit(gather_shape(&self.shape(), axis, ids));
        Tensor::build(shape, |y| strided::gather(self.view(), axis, ids, y))
    }

    /// The pieces one after another along `axis`.
    ///
    /// # Panics
    /// If there are none, or they differ in another dimension.
    #[track_caller]
    pub fn concat(pieces: &[&Tensor<T>], axis: usize) -> Self {
        let shapes: Vec<Shape> = pieces.iter().map(|piece| piece.shape()).collect();
        let views: Vec<View<'_, T>> = pieces.iter().map(|piece| piece.view()).collect();
        Tensor::build(fit(concat_shape(&shapes, axis)), |y| strided::concat(&views, axis, y))
    }

    /// The pieces, all of one shape, along a new axis before `axis`.
    ///
    /// # Panics
    /// If there are none, their shapes differ, or `axis` is beyond the rank.
    #[track_caller]
    pub fn stack(pieces: &[&Tensor<T>], axis: usize) -> Self {
        if let Some(other) = pieces.iter().find(|piece| piece.shape() != pieces[0].shape()) {
            panic!("stack: {} differs from {}", other.shape(), pieces[0].shape());
        }
        let pieces: Vec<Tensor<T>> = pieces.iter().map(|piece| piece.unsqueeze(axis)).collect();
        Tensor::concat(&pieces.iter().collect::<Vec<_>>(), axis)
    }
}
