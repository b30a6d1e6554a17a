//! Gated activation: a gate through the activation function, times a value (Shazeer 2020, arXiv:2002.05202).
//!
//! With rows x = [g | u]:  y = act(g) ∘ u

use weft_tensor::kernels::activation;
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::activation::{Kind, reference};
use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Gated(Kind);

impl Op<1> for Gated {
    const NAMES: &'static [&'static str] = &["gated"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        if x.rank() == 0 || x.last() % 2 != 0 {
            return Err(ShapeError(format!("gated: input {x} needs an even last dimension: a gate and a value")));
        }
        Ok(x.with_last(x.last() / 2))
    }

    fn cases(cases: &mut Cases) {
        for shape in [&[2usize] as &[usize], &[4], &[0], &[0, 2], &[3, 2], &[2, 6], &[2, 3, 4], &[1, 34]] {
            for kind in [Kind::GeluTanh, Kind::GeluErf, Kind::Silu, Kind::Relu2] {
                let x = cases.normal(shape);
                cases.add("gated", [x], move |[x]| x.gated(kind));
            }
        }
    }
}

impl Fused<1> for Gated {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T], _saved: &mut [T]) {
        activation::gated_activation(self.0, x.data, y, x.shape.last() / 2);
    }

    // dg = dy ∘ u ∘ act′(g),  du = dy ∘ act(g)
    fn backward<T: Real>(
        &self,
        [x]: [Input<'_, T>; 1],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dx]: [Option<Grad<'_, T>>; 1],
    ) {
        if let Some(dx) = dx {
            activation::gated_activation_backward(self.0, x.data, dy, dx, x.shape.last() / 2);
        }
    }

    fn reference<'t, T: Real>(&self, [x]: [Var<'t, T>; 1]) -> Var<'t, T> {
        let (last, n) = (x.shape().rank() - 1, x.shape().last() / 2);
        reference(self.0, x.slice(last, 0..n)) * x.slice(last, n..2 * n)
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// act(g) ∘ u of rows [g | u]. Shape (…, 2n); gives (…, n).
    ///
    /// # Panics
    /// If the last dimension is odd.
    #[track_caller]
    pub fn gated(self, kind: Kind) -> Var<'t, T> {
        self.tape.apply(Gated(kind), &[Some(self)])
    }
}
