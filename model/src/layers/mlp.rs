//! Feed-forward layer: each token on its own, through a wider layer and back.

use weft_autograd::Var;
use weft_autograd::ops::Activation;
use weft_tensor::Real;

use super::Linear;
use crate::config::ModelConfig;
use crate::init::Builder;

/// `c_fc` up, an activation or a gate, `c_proj` back.
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    c_fc: Linear,
    c_proj: Linear,
    activation: Activation,
    gated: bool,
}

impl Mlp {
    /// Adds `c_fc` (n_inner, C), twice as wide with a gate, and `c_proj` (C, n_inner).
    pub fn new(builder: &mut Builder, config: &ModelConfig, std: f64, residual_std: f64) -> Self {
        let ModelConfig { n_embd, n_inner, bias, gated, .. } = *config;
        let width = if gated { 2 * n_inner } else { n_inner };
        Mlp {
            c_fc: builder.scope("c_fc", |b| Linear::new(b, n_embd, width, bias, std)),
            c_proj: builder.scope("c_proj", |b| Linear::new(b, n_inner, n_embd, bias, residual_std)),
            activation: config.activation.into(),
            gated,
        }
    }

    /// The layer's output, plus `residual` if there is one. Shape (B, T, C).
    pub fn forward<'t, T: Real>(&self, x: Var<'t, T>, residual: Option<Var<'t, T>>) -> Var<'t, T> {
        let hidden = self.c_fc.forward(x); // (B, T, n_inner), twice as wide with a gate
        if self.gated {
            self.c_proj.forward_with(hidden.gated(self.activation), None, residual)
        } else {
            self.c_proj.forward_with(hidden, Some(self.activation), residual)
        }
    }
}
