//! One value where a mask is not zero, another elsewhere.

use weft_tensor::{Grad, Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Select;

impl Op<3> for Select {
    const NAMES: &'static [&'static str] = &["where"];

    fn shape(&self, [mask, a, b]: [&Shape; 3]) -> Result<Shape, ShapeError> {
        let both = strided::broadcast_shape("where", a, b)?;
        strided::broadcast_shape("where", mask, &both)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let (mask, a, b) = (cases.normal(*shape), cases.normal(*shape), cases.normal(*shape));
            cases.add("where", [mask, a, b], |[mask, a, b]| mask.greater_than(0.0).select(a, b));
        }
        let (mask, a, b) = (cases.normal([2, 1]), cases.normal([3]), cases.normal([]));
        cases.add("where", [mask, a, b], |[mask, a, b]| mask.greater_than(0.0).select(a, b));
    }
}

impl Primitive<3> for Select {
    fn forward<T: Real>(&self, [mask, a, b]: [Input<'_, T>; 3], y: &mut [T]) {
        strided::select(mask.view(), a.view(), b.view(), Grad { data: y, add: false });
    }

    fn derivative<'t, T: Real>(
        &self,
        [mask, a, b]: [Var<'t, T>; 3],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        [_, need_a, need_b]: [bool; 3],
    ) -> [Option<Var<'t, T>>; 3] {
        let zero = || dy.tape.full(Shape::SCALAR, T::ZERO);
        let da = || mask.select(dy, zero()).sum_to(a.shape());
        let db = || mask.select(zero(), dy).sum_to(b.shape());
        [None, need_a.then(da), need_b.then(db)]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// `a` where this mask is not zero, else `b`, all three broadcast to one shape. The mask has no derivative.
    ///
    /// # Panics
    /// If the shapes do not broadcast.
    #[track_caller]
    pub fn select(self, a: Var<'t, T>, b: Var<'t, T>) -> Var<'t, T> {
        self.tape.apply(Select, &[Some(self), Some(a), Some(b)])
    }
}
