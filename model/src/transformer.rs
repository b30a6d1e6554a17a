//! The whole model: tokens to vectors, blocks, and back to a score for every token.

use std::sync::Arc;

use weft_autograd::ops::{ROTARY_BASE, rotary_table};
use weft_autograd::{ParamId, Tape, Var};
use weft_tensor::{Buffer, Real};

use crate::config::{ModelConfig, Position};
use crate::init::{Builder, Init};
use crate::layers::{Angles, Block, Cache, Embedding, NormLayer, Pass};

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
    /// `ids` are B sequences of `seq_len` tokens.
    pub fn logits<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        pass: Pass,
    ) -> Var<'t, T> {
        let mut x = self.embedding.forward(tape, ids, seq_len); // (B, T, C)
        if let Some(key) = pass.dropout {
            x = x.dropout(self.config.dropout, key.mask(0));
        }
        let angles = self.angles(tape);
        for block in &self.h {
            x = tape.frugally(|| block.forward(x, angles, None, pass));
        }
        self.head(x)
    }

    /// The score of every token to come next, after the last token of each sequence: (B, 1, V).
    ///
    /// `ids` are the next `seq_len` tokens of each sequence in `slots` of `cache`, and are added to it.
    pub fn next_logits<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        cache: &mut Cache<T>,
        slots: &[usize],
    ) -> Var<'t, T> {
        let positions = cache.positions(slots, seq_len);
        let mut x = self.embedding.forward_at(tape, ids, seq_len, &positions); // (B, T, C)
        let angles = self.angles_at(tape, &positions);
        for (block, memory) in self.h.iter().zip(cache.memories(slots)) {
            x = tape.frugally(|| block.forward(x, angles, Some(memory), Pass::default()));
        }
        cache.advance(slots, seq_len);
        if seq_len > 1 {
            x = x.slice(1, seq_len - 1..seq_len); // (B, 1, C)
        }
        self.head(x)
    }

    /// From the last block's vectors to the logits: (B, T, C) to (B, T, V).
    fn head<'t, T: Real>(&self, x: Var<'t, T>) -> Var<'t, T> {
        let head = x.tape().param(self.lm_head.unwrap_or(self.embedding.table()));
        self.ln_f.forward(x).linear(head, None)
    }

    /// How much each token of one sequence attends to each: for every block, (H, T, T).
    pub fn attention_weights<T: Real>(&self, tape: &Tape<'_, T>, ids: &Arc<[u32]>) -> Vec<Vec<T>> {
        let seq_len = ids.len();
        let mut x = self.embedding.forward(tape, ids, seq_len);
        let angles = self.angles(tape);
        let mut weights = Vec::new();
        for block in &self.h {
            weights.push(block.attention_weights(x, angles));
            x = block.forward(x, angles, None, Pass::default());
        }
        weights
    }

    /// An empty cache with room for `capacity` tokens of each of `slots` sequences.
    pub fn cache<T: Real>(&self, slots: usize, capacity: usize) -> Cache<T> {
        Cache::new(&self.config, self.h.len(), slots, capacity)
    }

    /// The table of token vectors, (V, C).
    pub fn token_embedding(&self) -> ParamId {
        self.embedding.table()
    }

    /// The angles of all places, where the model uses them.
    fn angles<'t, T: Real>(&self, tape: &'t Tape<'t, T>) -> Option<Angles<'t, T>> {
        let shape = [2, self.config.block_size, self.config.head_size() / 2];
        self.angles.as_ref().map(|angles| Angles::OfPlaces(tape.constant_from_f64(angles, shape)))
    }

    /// The angles of these places, where the model uses angles.
    fn angles_at<'t, T: Real>(&self, tape: &'t Tape<'t, T>, positions: &[u32]) -> Option<Angles<'t, T>> {
        let (all, half) = (self.angles.as_ref()?, self.config.head_size() / 2);
        let rows = all.chunks_exact(self.config.block_size * half).flat_map(|part| {
            positions.iter().flat_map(move |&position| &part[position as usize * half..][..half])
        });
        let rows: Vec<f64> = rows.copied().collect();
        Some(Angles::OfRows(tape.constant_from_f64(&rows, [2, positions.len(), half])))
    }
}
