//! Two values one after the other along an axis; more by repetition.

use weft_tensor::{Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Concat {
    axis: usize,
}

impl Op<2> for Concat {
    const NAMES: &'static [&'static str] = &["concat"];

    fn shape(&self, [a, b]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        strided::concat_shape(&[*a, *b], self.axis)
    }

    fn cases(cases: &mut Cases) {
        const PAIRS: [(&[usize], &[usize], usize); 8] = [
            (&[1], &[1], 0),
            (&[2], &[3], 0),
            (&[0], &[3], 0),
            (&[2, 3], &[1, 3], 0),
            (&[2, 3], &[2, 1], 1),
            (&[2, 0], &[2, 2], 1),
            (&[2, 2, 3], &[2, 1, 3], 1),
            (&[2, 2, 1], &[2, 2, 3], 2),
        ];
        for (a, b, axis) in PAIRS {
            let (a, b) = (cases.normal(a), cases.normal(b));
            cases.add("concat", [a, b], move |[a, b]| Var::concat(&[a, b], axis));
        }
        let x = cases.normal([2, 3]);
        cases.add("concat", [x], |[x]| Var::concat(&[x, x * x, x], 0));
    }
}

impl Primitive<2> for Concat {
    fn forward<T: Real>(&self, inputs: [Input<'_, T>; 2], y: &mut [T]) {
        strided::concat(&inputs.map(Input::view), self.axis, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [a, b]: [Var<'t, T>; 2],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        [need_a, need_b]: [bool; 2],
    ) -> [Option<Var<'t, T>>; 2] {
        let (n, m) = (a.shape()[self.axis], b.shape()[self.axis]);
        [need_a.then(|| dy.slice(self.axis, 0..n)), need_b.then(|| dy.slice(self.axis, n..n + m))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The pieces one after another along `axis`.
    ///
    /// # Panics
    /// If there are none, or if they differ in another dimension.
    #[track_caller]
    pub fn concat(pieces: &[Var<'t, T>], axis: usize) -> Var<'t, T> {
        match pieces {
            [] => panic!("concat: nothing to join"),
            [piece] => *piece,
            // Halves, so that n pieces are copied log n times and not n times.
            _ => {
                let (front, back) = pieces.split_at(pieces.len() / 2);
                let (front, back) = (Var::concat(front, axis), Var::concat(back, axis));
                front.tape.apply(Concat { axis }, &[Some(front), Some(back)])
            }
        }
    }

    /// The pieces along a new first axis.
    ///
    /// # Panics
    /// If there are none, or if their shapes differ.
    #[track_caller]
    pub fn stack(pieces: &[Var<'t, T>]) -> Var<'t, T> {
        let rows: Vec<_> = pieces
            .iter()
            .map(|piece| {
                let shape = piece.shape();
                let sizes: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
                piece.reshape(sizes.as_slice())
            })
            .collect();
        Var::concat(&rows, 0)
    }
}
