//! Sums and their kin over any axes; softmax; cosine similarity.

use super::Tensor;
use crate::kernels::Grad;
use crate::kernels::softmax;
use crate::real::Real;
use crate::shape::Shape;
use crate::strided::{self, Layout, fit, reduced_shape};

impl<T: Real> Tensor<T> {
    /// What `f` makes of `axes`: the shape without them, or with size 1 in their place if `keepdim`.
    #[track_caller]
    fn reduce(&self, op: &str, axes: &[usize], keepdim: bool, f: impl FnOnce(&mut [T])) -> Self {
        Tensor::build(fit(reduced_shape(op, &self.shape(), axes, keepdim)), f)
    }

    /// Every axis, to reduce over all of them.
    pub fn axes(&self) -> Vec<usize> {
        (0..self.rank()).collect()
    }

    /// Sums over `axes`, in the fixed order of [`strided::sum`].
    ///
    /// Shape: without `axes`, or with size 1 in their place if `keepdim`.
    ///
    /// # Panics
    /// If there is no such axis or one is named twice.
    #[track_caller]
    pub fn sum(&self, axes: &[usize], keepdim: bool) -> Self {
        self.reduce("sum", axes, keepdim, |y| strided::sum(self.view(), axes, Grad { data: y, add: false }))
    }

    /// Means over `axes`; NaN over no elements. Shape and order as [`Tensor::sum`].
    ///
    /// # Panics
    /// If there is no such axis or one is named twice.
    #[track_caller]
    pub fn mean(&self, axes: &[usize], keepdim: bool) -> Self {
        self.reduce("mean", axes, keepdim, |y| strided::mean(self.view(), axes, y))
    }

    /// Variances Σ (x − μ)² / (n − `correction`) over `axes`. Shape and order as [`Tensor::sum`].
    ///
    /// A `correction` of 0 gives the variance of the elements themselves, 1 the unbiased estimate for what they were
    /// drawn from. Where n ≤ `correction` the divisor is 0.
    ///
    /// # Panics
    /// If there is no such axis or one is named twice.
    #[track_caller]
    pub fn variance(&self, axes: &[usize], correction: f64, keepdim: bool) -> Self {
        self.reduce("variance", axes, keepdim, |y| strided::variance(self.view(), axes, correction, y))
    }

    /// The largest elements over `axes`; NaN where there is one. Shape as [`Tensor::sum`].
    ///
    /// # Panics
    /// If there is no such axis, one is named twice, or there are no elements to choose from.
    #[track_caller]
    pub fn max(&self, axes: &[usize], keepdim: bool) -> Self {
        fit(strided::max_shape(&self.shape(), axes));
        self.reduce("max", axes, keepdim, |y| strided::max(self.view(), axes, y))
    }

    /// The index along `axis` of the largest element, the first of several; NaN counts as larger than any number.
    ///
    /// The ids of the shape without `axis`, row by row.
    ///
    /// # Panics
    /// If there is no such axis or it has no elements.
    #[track_caller]
    pub fn argmax(&self, axis: usize) -> Vec<u32> {
        let shape = fit(reduced_shape("argmax", &self.shape(), &[axis], false));
        let mut ids = vec![0; shape.elements()];
        strided::argmax(self.view(), axis, &mut ids);
        ids
    }

    /// e^x / Σ e^x along `axis`, computed without overflow. Returns this shape.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn softmax(&self, axis: usize) -> Self {
        fit(Layout::axis("softmax", &self.shape(), axis));
        self.along(axis, softmax::softmax)
    }

    /// x − ln Σ e^x along `axis`, computed without overflow. Returns this shape.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn log_softmax(&self, axis: usize) -> Self {
        fit(Layout::axis("log_softmax", &self.shape(), axis));
        self.along(axis, softmax::log_softmax)
    }

    /// A kernel over rows of (x, y, cols), along any axis.
    fn along(&self, axis: usize, kernel: impl FnOnce(&[T], &mut [T], usize)) -> Self {
        if self.elements() == 0 {
            return self.clone();
        }
        let last = self.rank() - 1;
        let rows = self.transpose(axis, last).contiguous();
        let rows = Tensor::build(rows.shape(), |y| {
            kernel(rows.as_slice().expect("contiguous"), y, rows.shape().last())
        });
        rows.transpose(axis, last)
    }

    /// x · y / (|x| |y|) along `axis`, with broadcasting; the shape of both without `axis`.
    ///
    /// The denominator is at least 1e-8, so that a vector of zeros is similar to nothing.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one or there is no such axis.
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor<T>, axis: usize) -> Self {
        let shape: Shape = fit(strided::broadcast_shape("cosine_similarity", &self.shape(), &other.shape()));
        fit(Layout::axis("cosine_similarity", &shape, axis));
        let (x, y) = (self.broadcast_to(shape), other.broadcast_to(shape));
        let [xy, xx, yy] = [(&x, &y), (&x, &x), (&y, &y)].map(|(a, b)| (a * b).sum(&[axis], false));
        xy / (xx.sqrt() * yy.sqrt()).maximum(&Tensor::scalar(T::from_f64(1e-8)))
    }
}
