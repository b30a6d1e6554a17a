//! Sums over axes: the adjoint of broadcasting. Means are scaled sums.

use weft_tensor::strided::{self, Layout};
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct SumTo {
    shape: Shape,
}

impl Op<1> for SumTo {
    const NAMES: &'static [&'static str] = &["sum"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        match Layout::contiguous(self.shape).broadcast_to(*x) {
            Ok(_) => Ok(self.shape),
            Err(_) => Err(ShapeError(format!("sum: shape {} does not stretch to {x}", self.shape))),
        }
    }

    fn cases(cases: &mut Cases) {
        for (to, from) in super::broadcast::STRETCHES {
            let x = cases.normal(from);
            cases.add("sum", [x], move |[x]| (x * x).sum_to(to));
        }
        for axes in [&[0usize] as &[usize], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2], &[]] {
            let x = cases.normal([2, 3, 4]);
            cases.add("sum", [x.clone()], move |[x]| x.sum(axes, false) * 2.0);
            cases.add("sum", [x.clone()], move |[x]| x * (x * x).sum(axes, true));
            cases.add("sum", [x.clone()], move |[x]| x - x.mean(axes, true));
            cases.add("sum", [x], move |[x]| x.variance(axes, false));
        }
    }
}

impl Primitive<1> for SumTo {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::sum_to(x.view(), self.shape, Grad { data: y, add: false });
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.broadcast_to(x.shape()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Sums what repetition to this value's shape would have repeated.
    ///
    /// # Panics
    /// If `shape` does not stretch to this value's.
    #[track_caller]
    pub fn sum_to(self, shape: impl Into<Shape>) -> Var<'t, T> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.tape.apply(SumTo { shape }, &[Some(self)]) }
    }

    /// The sum of all elements, a scalar.
    pub fn sum_all(self) -> Var<'t, T> {
        self.sum_to(Shape::SCALAR)
    }

    /// Sums over `axes`, which stay as dimensions of size 1 if `keepdim`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn sum(self, axes: &[usize], keepdim: bool) -> Var<'t, T> {
        let shape = self.shape();
        let kept = strided::fit(strided::reduced_shape("sum", &shape, axes, true));
        let sum = self.sum_to(kept);
        if keepdim { sum } else { sum.reshape(strided::fit(strided::reduced_shape("sum", &shape, axes, false))) }
    }

    /// Means over `axes`, which stay as dimensions of size 1 if `keepdim`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn mean(self, axes: &[usize], keepdim: bool) -> Var<'t, T> {
        let n: usize = axes.iter().map(|&axis| self.shape()[axis]).product();
        self.sum(axes, keepdim) * (1.0 / n as f64)
    }

    /// Variances (biased: Σ (x − μ)² / n) over `axes`, which stay as dimensions of size 1 if `keepdim`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn variance(self, axes: &[usize], keepdim: bool) -> Var<'t, T> {
        let centred = self - self.mean(axes, true);
        (centred * centred).mean(axes, keepdim)
    }
}
