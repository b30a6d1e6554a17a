//! Causal self-attention: each token asks the tokens up to its own.

use weft_autograd::ops::Heads;
use weft_autograd::{ParamId, Var};
use weft_tensor::Real;
use weft_tensor::kernels::attention;

use super::{Linear, Memory};
use crate::config::{ModelConfig, Score};
use crate::init::{Builder, Init};

/// `c_attn` makes queries, keys and values; heads attend; `c_proj` mixes what they found.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    c_attn: Linear,
    c_proj: Linear,
    /// The scale of the cosine similarity in each head.
    scale: Option<ParamId>,
    heads: Heads,
}

/// Cosines and sines by which rotary positions turn queries and keys.
#[derive(Clone, Copy)]
pub enum Angles<'t, T: Real> {
    /// Of each place from the first on: (2, at least T, D/2).
    OfPlaces(Var<'t, T>),
    /// Of the place of each row: (2, B · T, D/2).
    OfRows(Var<'t, T>),
}

fn kernel(heads: Heads, batch: usize, seq_len: usize, scale: f64) -> attention::Attention {
    let Heads { n_head, n_kv_head, head_size } = heads;
    attention::Attention { batch, seq_len, n_head, n_kv_head, head_size, scale }
}

impl Attention {
    /// Adds `c_attn` ((H + 2 H_kv) D, C), `c_proj` (C, C) and for cosine scores `scale` (H).
    pub fn new(builder: &mut Builder, config: &ModelConfig, std: f64, residual_std: f64) -> Self {
        let (n_embd, heads) = (config.n_embd, config.heads());
        // The longest context decides how sharp attention must be able to get (Henry et al. 2020, arXiv:2010.04245).
        let context = config.block_size.max(2) as f64;
        let sharpness = libm::log2(context * context - context);
        let c_attn = builder.scope("c_attn", |b| Linear::new(b, n_embd, heads.width(), config.bias, std));
        let scale = (config.attention == Score::Cosine)
            .then(|| builder.add("scale", [config.n_head], Init::Constant(sharpness)));
        let c_proj = builder.scope("c_proj", |b| Linear::new(b, n_embd, n_embd, config.bias, residual_std));
        Attention { c_attn, c_proj, scale, heads }
    }

    /// Queries, keys and values as the scores see them, (B, T, (H + 2 H_kv) D), and the factor of their products.
    fn project<'t, T: Real>(&self, x: Var<'t, T>, angles: Option<Angles<'t, T>>) -> (Var<'t, T>, f64) {
        let mut qkv = self.c_attn.forward(x);
        let mut factor = 1.0 / (self.heads.head_size as f64).sqrt();
        if let Some(scale) = self.scale {
            qkv = qkv.cosine_heads(x.tape().param(scale), self.heads);
            factor = 1.0;
        }
        match angles {
            None => {}
            Some(Angles::OfPlaces(table)) => qkv = qkv.rotary(table, self.heads, 0),
            // All rows as one sequence, whose places have these angles.
            Some(Angles::OfRows(table)) => {
                let shape = qkv.shape();
                let rows = qkv.reshape([1, shape.rows(), shape.last()]);
                qkv = rows.rotary(table, self.heads, 0).reshape(shape);
            }
        }
        (qkv, factor)
    }

    /// What each token finds, plus `residual` if there is one. Shape (B, T, C).
    ///
    /// Without a `memory` the first token of each sequence is at its first place. With one the tokens come after those that
    /// it holds: they attend to those too, and are added to it.
    pub fn forward<'t, T: Real>(
        &self,
        x: Var<'t, T>,
        angles: Option<Angles<'t, T>>,
        memory: Option<Memory<'_, T>>,
        residual: Option<Var<'t, T>>,
    ) -> Var<'t, T> {
        let (qkv, factor) = self.project(x, angles); // (B, T, (H + 2 H_kv) D)
        let y = match memory {
            None => qkv.attention(self.heads, factor),
            Some(memory) => {
                let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
                let kernel = kernel(self.heads, batch, seq_len, factor);
                let shape = [batch, seq_len, self.heads.n_head * self.heads.head_size];
                qkv.compute(shape, |qkv, y| memory.attend(kernel, qkv, y))
            }
        }; // (B, T, H D)
        self.c_proj.forward_with(y, None, residual)
    }

    /// How much each token attends to each: (B, H, T, T), every row summing to 1.
    pub fn weights<'t, T: Real>(&self, x: Var<'t, T>, angles: Option<Angles<'t, T>>) -> Vec<T> {
        let (qkv, factor) = self.project(x, angles);
        let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
        let mut weights = vec![T::ZERO; batch * self.heads.n_head * seq_len * seq_len];
        let kernel = kernel(self.heads, batch, seq_len, factor);
        qkv.with_values(|qkv| attention::attention_weights(kernel, qkv, &mut weights));
        weights
    }
}
