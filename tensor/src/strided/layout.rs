//! Where the elements of an array lie, and the rules for looking at them in another way.

use std::ops::Range;

use crate::Real;
use crate::shape::{MAX_RANK, Shape, ShapeError};
use crate::view::View;

/// Shape, strides and the position of the first element: an array without its memory.
///
/// The methods are the shape rules of everything that moves no element; [`View`] and [`Tensor`](crate::Tensor) have the
/// same methods and panic where these return an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many elements lie along each dimension.
    pub shape: Shape,
    /// The distance between neighbours along each dimension; 0 repeats the dimension.
    pub strides: [usize; MAX_RANK],
    /// The position of the first element.
    pub offset: usize,
}

/// The value, or a panic with the error's words at the caller's line: shapes that do not fit are misuse.
#[track_caller]
pub fn fit<T>(result: Result<T, ShapeError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

impl Layout {
    /// Elements row by row from position 0.
    pub fn contiguous(shape: Shape) -> Self {
        Layout { shape, strides: shape.contiguous_strides(), offset: 0 }
    }

    /// Whether the elements lie row by row without gaps, from `offset` on.
    pub fn is_contiguous(&self) -> bool {
        let expected = self.shape.contiguous_strides();
        self.shape.elements() == 0
            || (0..self.shape.rank())
                .all(|axis| self.shape[axis] == 1 || self.strides[axis] == expected[axis])
    }

    /// `axis`, if the shape has it.
    pub fn axis(op: &str, shape: &Shape, axis: usize) -> Result<usize, ShapeError> {
        if axis < shape.rank() {
            return Ok(axis);
        }
        Err(ShapeError(format!("{op}: {shape} has {} dimensions, no axis {axis}", shape.rank())))
    }

    /// The same elements in the same order under another shape; `None` if they do not lie row by row.
    pub fn reshape(&self, shape: Shape) -> Result<Option<Layout>, ShapeError> {
        let (have, want) = (self.shape.elements(), shape.elements());
        if have != want {
            let message = format!("reshape: {} has {have} elements, {shape} wants {want}", self.shape);
            return Err(ShapeError(message));
        }
        Ok(self.is_contiguous().then(|| Layout { offset: self.offset, ..Layout::contiguous(shape) }))
    }

    /// Axes `a` and `b` swapped.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Layout, ShapeError> {
        Self::axis("transpose", &self.shape, a.max(b))?;
        let mut order: [usize; MAX_RANK] = std::array::from_fn(|axis| axis);
        order.swap(a, b);
        self.permute(&order[..self.shape.rank()])
    }

    /// The axes in another order: new axis `i` is old axis `order[i]`.
    pub fn permute(&self, order: &[usize]) -> Result<Layout, ShapeError> {
        let rank = self.shape.rank();
        if order.len() != rank || !(0..rank).all(|axis| order.contains(&axis)) {
            let message = format!("permute: {order:?} does not name every axis of {} once", self.shape);
            return Err(ShapeError(message));
        }
        let (mut sizes, mut strides) = ([0; MAX_RANK], [0; MAX_RANK]);
        for (new, &old) in order.iter().enumerate() {
            sizes[new] = self.shape[old];
            strides[new] = self.strides[old];
        }
        Ok(Layout { shape: Shape::new(&sizes[..rank]), strides, offset: self.offset })
    }

    /// Only the elements whose index along `axis` is in `range`.
    pub fn slice(&self, axis: usize, range: Range<usize>) -> Result<Layout, ShapeError> {
        Self::axis("slice", &self.shape, axis)?;
        if range.start > range.end || range.end > self.shape[axis] {
            let message = format!("slice: {range:?} does not lie within axis {axis} of {}", self.shape);
            return Err(ShapeError(message));
        }
        let shape = resized(&self.shape, axis, range.len());
        // A slice of no elements starts where the whole does, so that its offset stays within the memory.
        let start = if shape.elements() == 0 { 0 } else { range.start };
        Ok(Layout { shape, strides: self.strides, offset: self.offset + start * self.strides[axis] })
    }

    /// Dimensions aligned at the end; missing ones and those of size 1 are repeated.
    pub fn broadcast_to(&self, shape: Shape) -> Result<Layout, ShapeError> {
        if self.shape.broadcast(&shape) != Some(shape) {
            return Err(ShapeError(format!("broadcast_to: {} does not stretch to {shape}", self.shape)));
        }
        let mut strides = [0; MAX_RANK];
        let missing = shape.rank() - self.shape.rank();
        for axis in missing..shape.rank() {
            let stretched = self.shape[axis - missing] != shape[axis];
            strides[axis] = if stretched { 0 } else { self.strides[axis - missing] };
        }
        Ok(Layout { shape, strides, offset: self.offset })
    }

    /// Without `axis`, which must have size 1.
    pub fn squeeze(&self, axis: usize) -> Result<Layout, ShapeError> {
        Self::axis("squeeze", &self.shape, axis)?;
        if self.shape[axis] != 1 {
            let message =
                format!("squeeze: axis {axis} of {} has size {}, not 1", self.shape, self.shape[axis]);
            return Err(ShapeError(message));
        }
        let mut strides = self.strides;
        strides[axis..].rotate_left(1);
        Ok(Layout { shape: without(&self.shape, axis), strides, offset: self.offset })
    }

    /// With a new axis of size 1 before `axis` (after the last, if `axis` is the rank).
    pub fn unsqueeze(&self, axis: usize) -> Result<Layout, ShapeError> {
        let rank = self.shape.rank();
        if axis > rank || rank == MAX_RANK {
            let message = format!("unsqueeze: {} cannot have a new axis {axis}", self.shape);
            return Err(ShapeError(message));
        }
        let (mut sizes, mut strides) = ([1; MAX_RANK], self.strides);
        sizes[..axis].copy_from_slice(&self.shape[..axis]);
        sizes[axis + 1..=rank].copy_from_slice(&self.shape[axis..]);
        strides[axis..].rotate_right(1);
        strides[axis] = 0;
        Ok(Layout { shape: Shape::new(&sizes[..=rank]), strides, offset: self.offset })
    }

    /// Looks at `data` through this layout.
    ///
    /// # Panics
    /// If an element would lie outside `data`.
    #[track_caller]
    pub fn view<'a, T: Real>(&self, data: &'a [T]) -> View<'a, T> {
        let data = &data[self.offset..];
        if self.shape.elements() > 0 {
            let last: usize =
                self.shape.iter().zip(self.strides).map(|(size, stride)| (size - 1) * stride).sum();
            assert!(last < data.len(), "layout: {} reaches beyond its memory", self.shape);
        }
        View { data, shape: self.shape, strides: self.strides }
    }
}

/// `shape` with another size along `axis`.
pub(crate) fn resized(shape: &Shape, axis: usize, size: usize) -> Shape {
    let mut sizes = [0; MAX_RANK];
    sizes[..shape.rank()].copy_from_slice(shape);
    sizes[axis] = size;
    Shape::new(&sizes[..shape.rank()])
}

/// `shape` without `axis`.
pub(crate) fn without(shape: &Shape, axis: usize) -> Shape {
    let mut sizes = [0; MAX_RANK];
    sizes[..axis].copy_from_slice(&shape[..axis]);
    sizes[axis..shape.rank() - 1].copy_from_slice(&shape[axis + 1..]);
    Shape::new(&sizes[..shape.rank() - 1])
}

impl<'a, T: Real> View<'a, T> {
    /// One number as an array without dimensions.
    pub fn scalar(value: &'a T) -> Self {
        View { data: std::slice::from_ref(value), shape: Shape::SCALAR, strides: [0; MAX_RANK] }
    }

    /// Shape and strides.
    pub fn layout(&self) -> Layout {
        Layout { shape: self.shape, strides: self.strides, offset: 0 }
    }

    #[track_caller]
    fn relaid(self, layout: Result<Layout, ShapeError>) -> Self {
        fit(layout).view(self.data)
    }

    /// The same elements in the same order under another shape; `None` if they do not lie row by row.
    ///
    /// # Panics
    /// If the numbers of elements differ.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Option<Self> {
        fit(self.layout().reshape(shape.into())).map(|layout| layout.view(self.data))
    }

    /// Axes `a` and `b` swapped.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn transpose(self, a: usize, b: usize) -> Self {
        self.relaid(self.layout().transpose(a, b))
    }

    /// The axes in another order: new axis `i` is old axis `order[i]`.
    ///
    /// # Panics
    /// If `order` does not name every axis once.
    #[track_caller]
    pub fn permute(self, order: &[usize]) -> Self {
        self.relaid(self.layout().permute(order))
    }

    /// Only the elements whose index along `axis` is in `range`.
    ///
    /// # Panics
    /// If there is no such axis, or the range leaves it.
    #[track_caller]
    pub fn slice(self, axis: usize, range: Range<usize>) -> Self {
        self.relaid(self.layout().slice(axis, range))
    }

    /// Dimensions aligned at the end; missing ones and those of size 1 are repeated.
    ///
    /// # Panics
    /// If this shape does not stretch to `shape`.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Self {
        self.relaid(self.layout().broadcast_to(shape.into()))
    }

    /// Without `axis`, which must have size 1.
    ///
    /// # Panics
    /// If it has another size, or there is no such axis.
    #[track_caller]
    pub fn squeeze(self, axis: usize) -> Self {
        self.relaid(self.layout().squeeze(axis))
    }

    /// With a new axis of size 1 before `axis`.
    ///
    /// # Panics
    /// If `axis` is beyond the rank, or the rank is at its limit.
    #[track_caller]
    pub fn unsqueeze(self, axis: usize) -> Self {
        self.relaid(self.layout().unsqueeze(axis))
    }
}
