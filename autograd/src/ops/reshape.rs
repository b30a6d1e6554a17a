//! The same elements, row by row, under another shape: no copy.

use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Reshape {
    shape: Shape,
}

impl Op<1> for Reshape {
    const NAMES: &'static [&'static str] = &["reshape"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        if x.elements() == self.shape.elements() {
            return Ok(self.shape);
        }
        let (have, want) = (x.elements(), self.shape.elements());
        Err(ShapeError(format!("reshape: {x} has {have} elements, {} has {want}", self.shape)))
    }

    fn cases(cases: &mut Cases) {
        const PAIRS: [(&[usize], &[usize]); 8] = [
            (&[], &[1, 1]),
            (&[1], &[]),
            (&[0, 3], &[2, 0]),
            (&[6], &[2, 3]),
            (&[2, 3], &[3, 2]),
            (&[2, 3, 4], &[6, 4]),
            (&[2, 3, 4], &[24]),
            (&[2, 2, 2], &[2, 1, 4, 1]),
        ];
        for (from, to) in PAIRS {
            let x = cases.normal(from);
            cases.add("reshape", [x.clone()], move |[x]| x.reshape(to));
            // A value and its reshape share memory; their gradients add.
            cases.add("reshape", [x], move |[x]| (x * x).reshape(to) * x.reshape(to));
        }
    }
}

impl Primitive<1> for Reshape {
    fn forward<T: Real>(&self, _inputs: [Input<'_, T>; 1], _y: &mut [T]) {
        unreachable!("the tape gives a reshape the memory of its input")
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.reshape(x.shape()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The same elements under another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Var<'t, T> {
        self.tape.apply(Reshape { shape: shape.into() }, &[Some(self)])
    }
}
