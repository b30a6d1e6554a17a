//! Shapes: how many numbers lie along each dimension.

use std::fmt;
use std::ops::Deref;

/// The most dimensions a shape can have.
pub const MAX_RANK: usize = 8;

/// The sizes of up to [`MAX_RANK`] dimensions, kept inline: copying one allocates nothing.
///
/// The empty shape is a scalar's. Dereferences to a slice of sizes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape of a scalar: no dimensions, one element.
    pub const SCALAR: Shape = Shape { dims: [0; MAX_RANK], rank: 0 };

    /// The shape of a row of no elements.
    pub const EMPTY: Shape = Shape { dims: [0; MAX_RANK], rank: 1 };

    /// A shape of these sizes.
    ///
    /// # Panics
    /// If there are more than [`MAX_RANK`], or if the number of elements overflows.
    #[track_caller]
    #[inline]
    pub fn new(sizes: &[usize]) -> Self {
        assert!(sizes.len() <= MAX_RANK, "shape {sizes:?}: at most {MAX_RANK} dimensions");
        let elements = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        assert!(elements.is_some(), "shape {sizes:?}: the number of elements overflows");
        let mut dims = [0; MAX_RANK];
        dims[..sizes.len()].copy_from_slice(sizes);
        Shape { dims, rank: sizes.len() as u8 }
    }

    /// The number of dimensions.
    #[inline]
    pub fn rank(&self) -> usize {
        self.rank.into()
    }

    /// The number of elements: the product of the sizes, 1 for a scalar.
    #[inline]
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The size of the last dimension, 1 for a scalar: the length of a row.
    #[inline]
    pub fn last(&self) -> usize {
        <[usize]>::last(self).copied().unwrap_or(1)
    }

    /// The number of rows: the product of all sizes but the last.
    #[inline]
    pub fn rows(&self) -> usize {
        self.iter().take(self.rank().saturating_sub(1)).product()
    }

    /// This shape with another last size.
    #[track_caller]
    #[inline]
    pub fn with_last(mut self, size: usize) -> Self {
        assert!(self.rank > 0, "with_last: a scalar has no last dimension");
        self.dims[self.rank() - 1] = size;
        self
    }

    /// The distances between neighbours along each dimension when the elements lie row by row.
    #[inline]
    pub fn contiguous_strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut stride = 1;
        for axis in (0..self.rank()).rev() {
            strides[axis] = stride;
            stride *= self.dims[axis].max(1);
        }
        strides
    }

    /// The shape both broadcast to: dimensions are aligned at the end, and a missing or 1 stretches to the other's size.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_RANK];
        for back in 1..=rank {
            let size = |shape: &Shape| shape.rank().checked_sub(back).map_or(1, |axis| shape.dims[axis]);
            dims[rank - back] = match (size(self), size(other)) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(Shape::new(&dims[..rank]))
    }
}

impl Deref for Shape {
    type Target = [usize];

    #[inline]
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    #[track_caller]
    #[inline]
    fn from(sizes: [usize; N]) -> Self {
        Shape::new(&sizes)
    }
}

impl From<&[usize]> for Shape {
    #[track_caller]
    fn from(sizes: &[usize]) -> Self {
        Shape::new(sizes)
    }
}

/// As a list: `[2, 3]`.
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Shapes that an operation cannot take, in words: the operation, the shapes, the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError(pub String);

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShapeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_aligns_at_the_end() {
        let shape = |sizes: &[usize]| Shape::new(sizes);
        assert_eq!(shape(&[2, 1, 3]).broadcast(&shape(&[4, 1])), Some(shape(&[2, 4, 3])));
        assert_eq!(shape(&[]).broadcast(&shape(&[0, 5])), Some(shape(&[0, 5])));
        assert_eq!(shape(&[1]).broadcast(&shape(&[0])), Some(shape(&[0])));
        assert_eq!(shape(&[2]).broadcast(&shape(&[3])), None);
    }

    #[test]
    fn rows_and_last_cover_every_rank() {
        assert_eq!((Shape::SCALAR.rows(), Shape::SCALAR.last(), Shape::SCALAR.elements()), (1, 1, 1));
        assert_eq!((Shape::from([5]).rows(), Shape::from([5]).last()), (1, 5));
        assert_eq!((Shape::from([2, 3, 5]).rows(), Shape::from([2, 3, 5]).last()), (6, 5));
    }
}
