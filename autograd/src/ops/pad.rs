//! Zeros before and after, along one axis: the adjoint of a slice.

use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Pad {
    axis: usize,
    before: usize,
    after: usize,
}

impl Op<1> for Pad {
    const NAMES: &'static [&'static str] = &["pad"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        if self.axis >= x.rank() {
            return Err(ShapeError(format!("pad: shape {x} has no axis {}", self.axis)));
        }
        let mut sizes = x.to_vec();
        sizes[self.axis] += self.before + self.after;
        Ok(Shape::new(&sizes))
    }

    fn cases(cases: &mut Cases) {
        const PADS: [(&[usize], usize, usize, usize); 8] = [
            (&[1], 0, 1, 0),
            (&[3], 0, 0, 2),
            (&[3], 0, 0, 0),
            (&[0], 0, 1, 1),
            (&[2, 3], 0, 1, 2),
            (&[2, 3], 1, 2, 1),
            (&[2, 2, 3], 1, 1, 0),
            (&[2, 2, 3], 2, 0, 1),
        ];
        for (shape, axis, before, after) in PADS {
            let x = cases.normal(shape);
            cases.add("pad", [x.clone()], move |[x]| x.pad(axis, before, after));
            cases.add("pad", [x], move |[x]| x.pad(axis, before, after) * (x * x).pad(axis, before, after));
        }
    }
}

impl Primitive<1> for Pad {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let row = x.shape[self.axis] * inner;
        let padded = row + (self.before + self.after) * inner;
        y.fill(T::ZERO);
        if row > 0 {
            for (x, y) in x.data.chunks(row).zip(y.chunks_mut(padded)) {
                y[self.before * inner..][..row].copy_from_slice(x);
            }
        }
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.slice(self.axis, self.before..self.before + x.shape()[self.axis]))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// `before` zeros in front of and `after` zeros behind the elements along `axis`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn pad(self, axis: usize, before: usize, after: usize) -> Var<'t, T> {
        self.tape.apply(Pad { axis, before, after }, &[Some(self)])
    }
}
