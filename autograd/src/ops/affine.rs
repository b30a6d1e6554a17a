//! y = scale · x + shift, with constants: also negation and what an operator does with a plain number.

use weft_tensor::kernels::elementwise;
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Affine {
    scale: f64,
    shift: f64,
}

impl Op<1> for Affine {
    const NAMES: &'static [&'static str] = &["affine"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let x = cases.normal(*shape);
            cases.add("affine", [x], |[x]| 2.0 - x * 3.0);
        }
        let x = cases.normal([3]);
        cases.add("affine", [x], |[x]| x * (x * 2.0 + 1.0));
    }
}

impl Primitive<1> for Affine {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        elementwise::affine(T::from_f64(self.scale), T::from_f64(self.shift), x.data, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        _inputs: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.affine(self.scale, 0.0))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// `scale` · x + `shift`, elementwise, rounded once.
    #[track_caller]
    pub fn affine(self, scale: f64, shift: f64) -> Var<'t, T> {
        self.tape.apply(Affine { scale, shift }, &[Some(self)])
    }
}
