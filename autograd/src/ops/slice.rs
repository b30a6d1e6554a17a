//! A range along one axis.

use std::ops::Range;

use weft_tensor::strided::{self, Layout};
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Slice {
    axis: usize,
    start: usize,
    end: usize,
}

impl Op<1> for Slice {
    const NAMES: &'static [&'static str] = &["slice"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Layout::contiguous(*x).slice(self.axis, self.start..self.end).map(|layout| layout.shape)
    }

    fn cases(cases: &mut Cases) {
        const RANGES: [(&[usize], usize, Range<usize>); 8] = [
            (&[1], 0, 0..1),
            (&[5], 0, 1..4),
            (&[5], 0, 2..2),
            (&[0], 0, 0..0),
            (&[3, 4], 0, 1..3),
            (&[3, 4], 1, 0..2),
            (&[2, 3, 4], 1, 1..2),
            (&[2, 3, 4], 2, 1..4),
        ];
        for (shape, axis, range) in RANGES {
            let x = cases.normal(shape);
            let again = range.clone();
            cases.add("slice", [x.clone()], move |[x]| x.slice(axis, range.clone()));
            cases.add("slice", [x], move |[x]| (x * x).slice(axis, again.clone()) * x.slice(axis, again.clone()));
        }
    }
}

impl Primitive<1> for Slice {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::copy_into(x.view().slice(self.axis, self.start..self.end), y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.pad(self.axis, self.start, x.shape()[self.axis] - self.end))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The elements whose index along `axis` lies in `range`.
    ///
    /// # Panics
    /// If there is no such axis, or the range leaves it.
    #[track_caller]
    pub fn slice(self, axis: usize, range: Range<usize>) -> Var<'t, T> {
        self.tape.apply(Slice { axis, start: range.start, end: range.end }, &[Some(self)])
    }
}
