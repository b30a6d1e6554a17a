//! Linear layer: y = x Wᵀ + b.

use weft_autograd::ops::Activation;
use weft_autograd::{ParamId, Var};
use weft_tensor::Real;

use crate::init::{Builder, Init};

/// A matrix (out, in) and perhaps a bias (out).
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
}

impl Linear {
    /// Adds `weight`, normal with standard deviation `std`, and `bias`, zero.
    pub fn new(builder: &mut Builder, n_in: usize, n_out: usize, bias: bool, std: f64) -> Self {
        let weight = builder.add("weight", [n_out, n_in], Init::Normal(std));
        builder.is_weight(weight);
        let bias = bias.then(|| builder.add("bias", [n_out], Init::Constant(0.0)));
        Linear { weight, bias }
    }

    /// x Wᵀ + b. Shapes: (…, in) to (…, out).
    pub fn forward<'t, T: Real>(&self, x: Var<'t, T>) -> Var<'t, T> {
        self.forward_with(x, None, None)
    }

    /// act(x) Wᵀ + b + residual.
    pub fn forward_with<'t, T: Real>(
        &self,
        x: Var<'t, T>,
        activation: Option<Activation>,
        residual: Option<Var<'t, T>>,
    ) -> Var<'t, T> {
        let tape = x.tape();
        x.linear_with(tape.param(self.weight), self.bias.map(|bias| tape.param(bias)), activation, residual)
    }
}
