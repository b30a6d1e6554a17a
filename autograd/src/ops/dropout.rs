//! Dropout (Srivastava et al. 2014): each element is dropped with probability p, the others grow by 1/(1 − p).
//!
//! The mask is a function of a key and the place, so it is computed again on the way back and never stored.

use weft_tensor::kernels::dropout;
use weft_tensor::random::{Key, Purpose};
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Dropout {
    p: f64,
    key: Key,
}

impl Op<1> for Dropout {
    const NAMES: &'static [&'static str] = &["dropout"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for (step, shape) in super::SHAPES.iter().enumerate() {
            let x = cases.normal(*shape);
            let key = Key::new(7, Purpose::Dropout, step as u64, 0);
            cases.add("dropout", [x.clone()], move |[x]| x.dropout(0.4, key));
            cases.add("dropout", [x], move |[x]| x * (x * x).dropout(0.1, key));
        }
    }
}

impl Fused<1> for Dropout {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T], _saved: &mut [T]) {
        dropout::dropout(self.key, self.p, x.data, Grad { data: y, add: false });
    }

    // The mask is its own adjoint.
    fn backward<T: Real>(
        &self,
        _inputs: [Input<'_, T>; 1],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dx]: [Option<Grad<'_, T>>; 1],
    ) {
        if let Some(dx) = dx {
            dropout::dropout(self.key, self.p, dy, dx);
        }
    }

    fn reference<'t, T: Real>(&self, [x]: [Var<'t, T>; 1]) -> Var<'t, T> {
        let factor = |i: usize| if dropout::keeps(self.key, self.p, i) { 1.0 / (1.0 - self.p) } else { 0.0 };
        let mask: Vec<T> = (0..x.shape().elements()).map(|i| T::from_f64(factor(i))).collect();
        x * x.tape.constant(View::new(&mask, x.shape()))
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Drops each element with probability `p` and divides the others by 1 − p; the same elements for the same `key`.
    ///
    /// # Panics
    /// If `p` is not in [0, 1).
    #[track_caller]
    pub fn dropout(self, p: f64, key: Key) -> Var<'t, T> {
        assert!((0.0..1.0).contains(&p), "dropout: probability {p} is not in [0, 1)");
        if p == 0.0 { self } else { self.tape.apply(Dropout { p, key }, &[Some(self)]) }
    }
}
