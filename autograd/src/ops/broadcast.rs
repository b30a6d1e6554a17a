//! Repetition along dimensions that are missing or of size 1.

use weft_tensor::strided::{self, Layout};
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Broadcast {
    shape: Shape,
}

/// Shapes and what they stretch to.
pub(super) const STRETCHES: [(&[usize], &[usize]); 9] = [
    (&[], &[]),
    (&[], &[3]),
    (&[1], &[4]),
    (&[3], &[2, 3]),
    (&[2, 1], &[2, 3]),
    (&[1, 3], &[2, 3]),
    (&[2, 1, 3], &[2, 4, 3]),
    (&[1], &[0]),
    (&[1, 1], &[2, 3, 2]),
];

impl Op<1> for Broadcast {
    const NAMES: &'static [&'static str] = &["broadcast"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Layout::contiguous(*x).broadcast_to(self.shape).map(|layout| layout.shape)
    }

    fn cases(cases: &mut Cases) {
        for (from, to) in STRETCHES {
            let x = cases.normal(from);
            cases.add("broadcast", [x.clone()], move |[x]| (x * x).broadcast_to(to));
            // Through a product the gradient that arrives differs from place to place.
            cases.add("broadcast", [x], move |[x]| x.broadcast_to(to) * (x * 2.0).broadcast_to(to));
        }
    }
}

impl Primitive<1> for Broadcast {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::copy_into(x.view().broadcast_to(self.shape), y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.sum_to(x.shape()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The value repeated until it has this shape.
    ///
    /// # Panics
    /// If the shape does not stretch to it.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Var<'t, T> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.tape.apply(Broadcast { shape }, &[Some(self)]) }
    }
}
