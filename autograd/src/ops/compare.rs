//! 1 where a comparison holds, 0 elsewhere: a mask, through which nothing is differentiated.

use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) enum Compare {
    /// x > threshold, with one input used twice.
    Greater(f64),
    /// a = b.
    Equal,
}

impl Op<2> for Compare {
    const NAMES: &'static [&'static str] = &["greater", "equal"];

    fn name(&self) -> &'static str {
        match self {
            Compare::Greater(_) => "greater",
            Compare::Equal => "equal",
        }
    }

    fn shape(&self, [a, b]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        match self {
            Compare::Equal if a != b => Err(ShapeError(format!("equal: shapes differ: {a} and {b}"))),
            _ => Ok(*a),
        }
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let x = cases.normal(*shape);
            // The mask is locally constant: x² under it has the gradient 2x where x > 0.3.
            cases.add("greater", [x.clone()], |[x]| x * x * x.greater_than(0.3));
            cases.add("equal", [x], |[x]| x * x * x.equal(x));
        }
    }
}

impl Primitive<2> for Compare {
    fn forward<T: Real>(&self, [a, b]: [Input<'_, T>; 2], y: &mut [T]) {
        let number = |holds: bool| if holds { T::ONE } else { T::ZERO };
        match *self {
            Compare::Greater(threshold) => {
                let threshold = T::from_f64(threshold);
                for (y, &a) in y.iter_mut().zip(a.data) {
                    *y = number(a > threshold);
                }
            }
            Compare::Equal => {
                for ((y, a), b) in y.iter_mut().zip(a.data).zip(b.data) {
                    *y = number(a == b);
                }
            }
        }
    }

    fn derivative<'t, T: Real>(
        &self,
        _inputs: [Var<'t, T>; 2],
        _y: Var<'t, T>,
        _dy: Var<'t, T>,
        _needs: [bool; 2],
    ) -> [Option<Var<'t, T>>; 2] {
        [None, None]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// 1 where x > `threshold`, else 0. Its derivative is zero.
    pub fn greater_than(self, threshold: f64) -> Var<'t, T> {
        self.tape.apply(Compare::Greater(threshold), &[Some(self)])
    }

    /// 1 where the two are equal, else 0. Its derivative is zero.
    ///
    /// # Panics
    /// If the shapes differ.
    #[track_caller]
    pub fn equal(self, other: Var<'t, T>) -> Var<'t, T> {
        self.tape.apply(Compare::Equal, &[Some(self), Some(other)])
    }
}
