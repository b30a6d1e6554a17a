//! The whole model: tokens to vectors, blocks, and back to a score for every token.

use std::sync::Arc;

use weft_autograd::ops::{ROTARY_BASE, rotary_table};
use weft_autograd::{ParamId, Tape, Var};
use weft_tensor::{Buffer, Real};

use crate::config::{ModelConfig, Position};
use crate::init::{Builder, Init};
use crate::layers::{Block, Embedding, KvCache, NormLayer, Pass};

/// A decoder-only transformer (Vaswani et al. 2017, arXiv:1706.03762; Radford et al. 2019).
pub struct Transformer {
    config: ModelConfig,
    embedding: Embedding,
    h: Vec<Block>,
    ln_f: NormLayer,
    /// Untied only; else the token embedding is the head.
    lm_head: Option<ParamId>,
    /// Cosines and sines of rotary positions, (2, block_size, D/2).
    angles: Option<Buffer<f64>>,
}

impl Transformer {
    /// Adds the parameters with GPT-2's first values: normal with standard deviation 0.02, those that write to the residual
    /// stream divided by √(2 · n_layer), so that its variance does not grow with depth.
    pub fn new(builder: &mut Builder, config: &ModelConfig) -> Self {
        const STD: f64 = 0.02;
        let residual_std = STD / (2.0 * config.n_layer as f64).sqrt();
        let embedding = Embedding::new(builder, config, STD);
        let h = (0..config.n_layer)
            .map(|i| builder.scope(format!("h.{i}"), |b| Block::new(b, config, i, STD, residual_std)))
            .collect();
        let ln_f = builder.scope("ln_f", |b| NormLayer::new(b, config));
        let head_shape = [config.vocab_size, config.n_embd];
        let lm_head = (!config.tied).then(|| builder.add("lm_head.weight", head_shape, Init::Normal(STD)));
        builder.is_weight(lm_head.unwrap_or(embedding.table()));
        Transformer {
            embedding,
            h,
            ln_f,
            lm_head,
            angles: (config.position == Position::Rotary)
                .then(|| rotary_table(config.block_size, config.head_size(), ROTARY_BASE)),
            config: config.clone(),
        }
    }

    /// The score of every token to come next, after each token: (B, T, V).
    ///
    /// `ids` are B sequences of `seq_len` tokens, of which the first is at position `first`: 0 without a cache, else the number
    /// of tokens that `caches`, one for each block, hold already.
    pub fn logits<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        first: usize,
        caches: Option<&mut [KvCache<T>]>,
        pass: Pass,
    ) -> Var<'t, T> {
        let mut x = self.embedding.forward(tape, ids, seq_len, first); // (B, T, C)
        if let Some(key) = pass.dropout {
            x = x.dropout(self.config.dropout, key.mask(0));
        }
        let rotary = self.angles(tape);
        match caches {
            None => {
                for block in &self.h {
                    x = tape.frugally(|| block.forward(x, rotary, first, None, pass));
                }
            }
            Some(caches) => {
                for (block, cache) in self.h.iter().zip(caches) {
                    x = tape.frugally(|| block.forward(x, rotary, first, Some(cache), pass));
                }
            }
        }
        let head = tape.param(self.lm_head.unwrap_or(self.embedding.table()));
        self.ln_f.forward(x).linear(head, None) // (B, T, V)
    }

    /// How much each token of one sequence attends to each: for every block, (H, T, T).
    pub fn attention_weights<T: Real>(&self, tape: &Tape<'_, T>, ids: &Arc<[u32]>) -> Vec<Vec<T>> {
        let seq_len = ids.len();
        let mut x = self.embedding.forward(tape, ids, seq_len, 0);
        let rotary = self.angles(tape);
        let mut weights = Vec::new();
        for block in &self.h {
            weights.push(block.attention_weights(x, rotary));
            x = block.forward(x, rotary, 0, None, Pass::default());
        }
        weights
    }

    /// An empty cache for each block, with room for `block_size` tokens of `batch` sequences.
    pub fn caches<T: Real>(&self, batch: usize) -> Vec<KvCache<T>> {
        self.h.iter().map(|_| KvCache::new(&self.config, batch, self.config.block_size)).collect()
    }

    /// The table of token vectors, (V, C).
    pub fn token_embedding(&self) -> ParamId {
        self.embedding.table()
    }

    /// The angles of all places, where the model uses them.
    fn angles<'t, T: Real>(&self, tape: &'t Tape<'t, T>) -> Option<Var<'t, T>> {
        let shape = [2, self.config.block_size, self.config.head_size() / 2];
        self.angles.as_ref().map(|angles| tape.constant_from_f64(angles, shape))
    }
}
