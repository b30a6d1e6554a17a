//! xᵖ with a constant exponent.

use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Pow {
    exponent: f64,
}

impl Op<1> for Pow {
    const NAMES: &'static [&'static str] = &["pow"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let (x, z) = (cases.normal(*shape), cases.positive(*shape));
            cases.add("pow", [x], |[x]| x.powf(3.0));
            cases.add("pow", [z.clone()], |[x]| x.powf(-1.5));
            cases.add("pow", [z], |[x]| 2.0 / x);
        }
    }
}

impl Primitive<1> for Pow {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        let p = T::from_f64(self.exponent);
        for (y, &x) in y.iter_mut().zip(x.data) {
            *y = x.powf(p);
        }
    }

    // d xᵖ/dx = p xᵖ⁻¹
    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(match self.exponent {
            0.0 => dy * 0.0,
            1.0 => dy,
            2.0 => dy * x * 2.0,
            p => dy * x.powf(p - 1.0) * p,
        })]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// xᵖ, elementwise, for a constant p.
    pub fn powf(self, exponent: f64) -> Var<'t, T> {
        self.tape.apply(Pow { exponent }, &[Some(self)])
    }
}
