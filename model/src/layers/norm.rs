//! Normalisation of each row: layer norm or RMS norm.

use weft_autograd::{ParamId, Var};
use weft_tensor::Real;

use crate::config::{ModelConfig, Norm};
use crate::init::{Builder, Init};

/// Keeps the divisor of a constant row away from zero.
const EPS: f64 = 1e-5;

/// A scale (C) and perhaps a shift (C).
#[derive(Clone, Copy, Debug)]
pub struct NormLayer {
    kind: Norm,
    weight: ParamId,
    bias: Option<ParamId>,
}

impl NormLayer {
    /// Adds `weight`, ones, and with biases and layer norm `bias`, zeros.
    pub fn new(builder: &mut Builder, config: &ModelConfig) -> Self {
        let weight = builder.add("weight", [config.n_embd], Init::Constant(1.0));
        let shifts = config.bias && config.norm == Norm::Layer;
        let bias = shifts.then(|| builder.add("bias", [config.n_embd], Init::Constant(0.0)));
        NormLayer { kind: config.norm, weight, bias }
    }

    /// Normalises each row. Shape (…, C), the same comes out.
    pub fn forward<'t, T: Real>(&self, x: Var<'t, T>) -> Var<'t, T> {
        let tape = x.tape();
        let weight = tape.param(self.weight);
        match self.kind {
            Norm::Layer => x.layer_norm(weight, self.bias.map(|bias| tape.param(bias)), EPS),
            Norm::Rms => x.rms_norm(weight, EPS),
        }
    }
}
