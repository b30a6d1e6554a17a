//! Arrays of numbers that own their memory: [`Tensor`].

mod arithmetic;
mod create;
mod format;
mod index;
mod product;
mod reduce;

use std::ops::Range;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::real::Real;
use crate::shape::{Shape, ShapeError};
use crate::strided::{Layout, copy_into, fit};
use crate::view::View;

/// An array of numbers with a shape.
///
/// The memory is shared: a clone, and what [`reshape`](Tensor::reshape), [`transpose`](Tensor::transpose),
/// [`permute`](Tensor::permute), [`slice`](Tensor::slice), [`broadcast_to`](Tensor::broadcast_to),
/// [`squeeze`](Tensor::squeeze) and [`unsqueeze`](Tensor::unsqueeze) return, looks at the same numbers in another way and
/// copies none. No operation writes to shared memory, so sharing shows in speed only.
///
/// Operators and functions take tensors of any layout, broadcast, and give the same bits whatever the layout, the SIMD
/// level and the number of threads. Shapes that do not fit are a mistake in the calling code: they panic at its line with
/// the words of a [`ShapeError`](crate::ShapeError).
#[derive(Clone)]
pub struct Tensor<T = f32> {
    buffer: Arc<Buffer<T>>,
    layout: Layout,
}

impl<T: Real> Tensor<T> {
    /// Elements row by row.
    fn new(buffer: Buffer<T>, shape: Shape) -> Self {
        Tensor { buffer: Arc::new(buffer), layout: Layout::contiguous(shape) }
    }

    /// A tensor of what `f` writes to memory for `shape`, row by row.
    #[track_caller]
    fn build(shape: Shape, f: impl FnOnce(&mut [T])) -> Self {
        let mut buffer = Buffer::zeros(shape.elements());
        f(&mut buffer);
        Tensor::new(buffer, shape)
    }

    /// How many elements lie along each dimension.
    pub fn shape(&self) -> Shape {
        self.layout.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.layout.shape.rank()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.layout.shape.elements()
    }

    /// Shape, strides and the position of the first element in the shared memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The elements, for the functions of [`strided`](crate::strided).
    pub fn view(&self) -> View<'_, T> {
        self.layout.view(&self.buffer)
    }

    /// The elements row by row, if that is how they lie in memory.
    pub fn as_slice(&self) -> Option<&[T]> {
        self.view().as_slice()
    }

    /// The elements row by row, to write to; copies them first if they lie otherwise or are shared.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        if !self.layout.is_contiguous() || Arc::get_mut(&mut self.buffer).is_none() {
            *self = self.copied();
        }
        let start = self.layout.offset;
        let end = start + self.elements();
        &mut Arc::get_mut(&mut self.buffer).expect("the only owner")[start..end]
    }

    /// The elements row by row.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::ZERO; self.elements()];
        copy_into(self.view(), &mut values);
        values
    }

    /// The only element of a tensor of any rank.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[track_caller]
    pub fn item(&self) -> T {
        assert!(self.elements() == 1, "item: {} does not have exactly one element", self.shape());
        self.buffer[self.layout.offset]
    }

    /// The element at `index`, one number for each dimension.
    ///
    /// # Panics
    /// If `index` has another length than the shape or leaves it.
    #[track_caller]
    pub fn get(&self, index: &[usize]) -> T {
        let shape = self.shape();
        let inside = index.len() == shape.rank() && index.iter().zip(shape.iter()).all(|(i, size)| i < size);
        assert!(inside, "get: {index:?} is no index of {shape}");
        let position: usize = index.iter().zip(self.layout.strides).map(|(i, stride)| i * stride).sum();
        self.buffer[self.layout.offset + position]
    }

    /// Whether the elements lie row by row in memory.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// The same elements, row by row in memory: shared if they lie so already.
    pub fn contiguous(&self) -> Self {
        if self.is_contiguous() { self.clone() } else { self.copied() }
    }

    fn copied(&self) -> Self {
        Tensor::build(self.shape(), |y| copy_into(self.view(), y))
    }

    /// The same numbers as `U`, each rounded to the nearest.
    pub fn cast<U: Real>(&self) -> Tensor<U> {
        let x = self.contiguous();
        let x = x.as_slice().expect("contiguous");
        Tensor::build(self.shape(), |y| y.iter_mut().zip(x).for_each(|(y, x)| *y = U::from_f64(x.to_f64())))
    }

    #[track_caller]
    fn relaid(&self, layout: Result<Layout, ShapeError>) -> Self {
        Tensor { buffer: Arc::clone(&self.buffer), layout: fit(layout) }
    }

    /// The same elements in the same order under another shape; copied only if they do not lie row by row.
    ///
    /// # Panics
    /// If the numbers of elements differ.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        match fit(self.layout.reshape(shape)) {
            Some(layout) => self.relaid(Ok(layout)),
            None => Tensor { layout: Layout::contiguous(shape), ..self.copied() },
        }
    }

    /// Axes `a` and `b` swapped.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn transpose(&self, a: usize, b: usize) -> Self {
        self.relaid(self.layout.transpose(a, b))
    }

    /// The axes in another order: new axis `i` is old axis `order[i]`.
    ///
    /// # Panics
    /// If `order` does not name every axis once.
    #[track_caller]
    pub fn permute(&self, order: &[usize]) -> Self {
        self.relaid(self.layout.permute(order))
    }

    /// Only the elements whose index along `axis` is in `range`.
    ///
    /// # Panics
    /// If there is no such axis, or the range leaves it.
    #[track_caller]
    pub fn slice(&self, axis: usize, range: Range<usize>) -> Self {
        self.relaid(self.layout.slice(axis, range))
    }

    /// Dimensions aligned at the end; missing ones and those of size 1 are repeated.
    ///
    /// # Panics
    /// If this shape does not stretch to `shape`.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Self {
        self.relaid(self.layout.broadcast_to(shape.into()))
    }

    /// Without `axis`, which must have size 1.
    ///
    /// # Panics
    /// If it has another size, or there is no such axis.
    #[track_caller]
    pub fn squeeze(&self, axis: usize) -> Self {
        self.relaid(self.layout.squeeze(axis))
    }

    /// With a new axis of size 1 before `axis` (after the last, if `axis` is the rank).
    ///
    /// # Panics
    /// If `axis` is beyond the rank, or the rank is at its limit.
    #[track_caller]
    pub fn unsqueeze(&self, axis: usize) -> Self {
        self.relaid(self.layout.unsqueeze(axis))
    }
}

/// Equal shapes and equal numbers, whatever the layouts; NaN equals nothing.
impl<T: Real> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.to_vec() == other.to_vec()
    }
}
