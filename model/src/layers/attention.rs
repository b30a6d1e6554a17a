//! Causal self-attention: each token asks the tokens up to its own.

use weft_autograd::ops::Heads;
use weft_autograd::{ParamId, Var};
use weft_tensor::kernels::attention::{self, attention_decode};
use weft_tensor::{Buffer, Real};

use super::Linear;
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

/// Keys and values of the tokens read so far, for one layer.
pub struct KvCache<T = f32> {
    keys: Buffer<T>,
    values: Buffer<T>,
    capacity: usize,
    /// Tokens read so far, of each sequence.
    past: Vec<usize>,
}

impl<T: Real> KvCache<T> {
    /// Room for `capacity` tokens of each of `batch` sequences.
    pub fn new(config: &ModelConfig, batch: usize, capacity: usize) -> Self {
        let kernel = kernel(config.heads(), batch, 1, 1.0);
        let len = kernel.cache_len(capacity);
        KvCache { keys: Buffer::zeros(len), values: Buffer::zeros(len), capacity, past: vec![0; batch] }
    }
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
    fn project<'t, T: Real>(
        &self,
        x: Var<'t, T>,
        rotary: Option<Var<'t, T>>,
        first: usize,
    ) -> (Var<'t, T>, f64) {
        let mut qkv = self.c_attn.forward(x);
        let mut factor = 1.0 / (self.heads.head_size as f64).sqrt();
        if let Some(scale) = self.scale {
            qkv = qkv.cosine_heads(x.tape().param(scale), self.heads);
            factor = 1.0;
        }
        if let Some(table) = rotary {
            qkv = qkv.rotary(table, self.heads, first);
        }
        (qkv, factor)
    }

    /// What each token finds, plus `residual` if there is one. Shape (B, T, C).
    ///
    /// The tokens are at positions `first` onwards. With a `cache` that holds the `first` tokens before them they attend to
    /// those too, and are added to it.
    pub fn forward<'t, T: Real>(
        &self,
        x: Var<'t, T>,
        rotary: Option<Var<'t, T>>,
        first: usize,
        cache: Option<&mut KvCache<T>>,
        residual: Option<Var<'t, T>>,
    ) -> Var<'t, T> {
        let (qkv, factor) = self.project(x, rotary, first); // (B, T, (H + 2 H_kv) D)
        let y = match cache {
            None => qkv.attention(self.heads, factor),
            Some(KvCache { keys, values, capacity, past }) => {
                let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
                let kernel = kernel(self.heads, batch, seq_len, factor);
                let shape = [batch, seq_len, self.heads.n_head * self.heads.head_size];
                past.fill(first);
                qkv.compute(shape, |qkv, y| attention_decode(kernel, past, *capacity, qkv, keys, values, y))
            }
        }; // (B, T, H D)
        self.c_proj.forward_with(y, None, residual)
    }

    /// How much each token attends to each: (B, H, T, T), every row summing to 1.
    pub fn weights<'t, T: Real>(&self, x: Var<'t, T>, rotary: Option<Var<'t, T>>) -> Vec<T> {
        let (qkv, factor) = self.project(x, rotary, 0);
        let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
        let mut weights = vec![T::ZERO; batch * self.heads.n_head * seq_len * seq_len];
        let kernel = kernel(self.heads, batch, seq_len, factor);
        qkv.with_values(|qkv| attention::attention_weights(kernel, qkv, &mut weights));
        weights
    }
}
