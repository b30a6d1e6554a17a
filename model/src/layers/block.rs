//! Transformer block: attention between tokens, then a layer for each token, both added to what came in.

use weft_autograd::Var;
use weft_tensor::Real;

use super::{Angles, Attention, Memory, Mlp, NormLayer, Pass};
use crate::config::ModelConfig;
use crate::init::Builder;

/// Pre-norm block: x + attn(ln_1(x)), then x + mlp(ln_2(x)).
#[derive(Clone, Copy, Debug)]
pub struct Block {
    ln_1: NormLayer,
    attn: Attention,
    ln_2: NormLayer,
    mlp: Mlp,
    /// The number of the block.
    index: u32,
    dropout: f64,
}

impl Block {
    /// Adds the parameters of block `index`.
    pub fn new(
        builder: &mut Builder,
        config: &ModelConfig,
        index: usize,
        std: f64,
        residual_std: f64,
    ) -> Self {
        Block {
            ln_1: builder.scope("ln_1", |b| NormLayer::new(b, config)),
            attn: builder.scope("attn", |b| Attention::new(b, config, std, residual_std)),
            ln_2: builder.scope("ln_2", |b| NormLayer::new(b, config)),
            mlp: builder.scope("mlp", |b| Mlp::new(b, config, std, residual_std)),
            index: index as u32,
            dropout: config.dropout,
        }
    }

    /// The block's output. Shape (B, T, C).
    pub fn forward<'t, T: Real>(
        &self,
        x: Var<'t, T>,
        angles: Option<Angles<'t, T>>,
        memory: Option<Memory<'_, T>>,
        pass: Pass,
    ) -> Var<'t, T> {
        if let (Some(key), true) = (pass.dropout, self.dropout > 0.0) {
            let drop =
                |y: Var<'t, T>, place: u32| y.dropout(self.dropout, key.mask(1 + 2 * self.index + place));
            let x = x + drop(self.attn.forward(self.ln_1.forward(x), angles, memory, None), 0);
            return x + drop(self.mlp.forward(self.ln_2.forward(x), None), 1);
        }
        let x = self.attn.forward(self.ln_1.forward(x), angles, memory, Some(x)); // (B, T, C)
        self.mlp.forward(self.ln_2.forward(x), Some(x)) // (B, T, C)
    }

    /// The attention weights of this block, (B, H, T, T).
    pub fn attention_weights<'t, T: Real>(&self, x: Var<'t, T>, angles: Option<Angles<'t, T>>) -> Vec<T> {
        self.attn.weights(self.ln_1.forward(x), angles)
    }
}
