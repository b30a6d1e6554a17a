//! The largest element over axes.

use weft_tensor::shape::MAX_RANK;
use weft_tensor::{Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Max {
    axes: [bool; MAX_RANK],
}

impl Max {
    fn with_axes<R>(&self, f: impl FnOnce(&[usize]) -> R) -> R {
        let mut axes = [0; MAX_RANK];
        let mut n = 0;
        for axis in (0..MAX_RANK).filter(|&axis| self.axes[axis]) {
            axes[n] = axis;
            n += 1;
        }
        f(&axes[..n])
    }
}

impl Op<1> for Max {
    const NAMES: &'static [&'static str] = &["max"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        self.with_axes(|axes| strided::reduced_shape("max", x, axes, true))
    }

    fn cases(cases: &mut Cases) {
        for axes in [&[0usize] as &[usize], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2], &[]] {
            let x = cases.normal([2, 3, 4]);
            cases.add("max", [x.clone()], move |[x]| x.max(axes, false));
            cases.add("max", [x], move |[x]| x - x.max(axes, true));
        }
        let x = cases.normal([1]);
        cases.add("max", [x], |[x]| x.max(&[0], false));
    }
}

impl Primitive<1> for Max {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        self.with_axes(|axes| strided::max(x.view(), axes, y));
    }

    // Equal largest elements share the gradient.
    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        let largest = x.equal(y.broadcast_to(x.shape()));
        [Some(largest * (dy / largest.sum_to(y.shape())))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The largest elements over `axes`, which stay as dimensions of size 1 if `keepdim`.
    ///
    /// # Panics
    /// If there is no such axis, or nothing to choose from.
    #[track_caller]
    pub fn max(self, axes: &[usize], keepdim: bool) -> Var<'t, T> {
        let shape = self.shape();
        let reduced = strided::fit(strided::reduced_shape("max", &shape, axes, false));
        let mut over = [false; MAX_RANK];
        for &axis in axes {
            over[axis] = true;
        }
        let max = self.tape.apply(Max { axes: over }, &[Some(self)]);
        if keepdim { max } else { max.reshape(reduced) }
    }
}
