//! Token embedding `wte`, with learned positions `wpe`.

use std::sync::Arc;

use weft_autograd::{ParamId, Tape, Var};
use weft_tensor::Real;

use crate::config::{ModelConfig, Position};
use crate::init::{Builder, Init};

/// A vector for each token and, if positions are learned, for each place.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    wte: ParamId,
    wpe: Option<ParamId>,
}

impl Embedding {
    /// Adds `wte.weight` (V, C) and perhaps `wpe.weight` (block_size, C).
    pub fn new(builder: &mut Builder, config: &ModelConfig, std: f64) -> Self {
        let ModelConfig { vocab_size, block_size, n_embd, .. } = *config;
        let wte = builder.add("wte.weight", [vocab_size, n_embd], Init::Normal(std));
        let learned = config.position == Position::Learned;
        let wpe = learned.then(|| builder.add("wpe.weight", [block_size, n_embd], Init::Normal(std)));
        Embedding { wte, wpe }
    }

    /// The table of token vectors, (V, C).
    pub fn table(&self) -> ParamId {
        self.wte
    }

    /// The vectors of B sequences of `seq_len` tokens, each from its first place on: (B, T, C).
    pub fn forward<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
    ) -> Var<'t, T> {
        let positions = self.wpe.map(|wpe| (tape.param(wpe), 0));
        tape.param(self.wte).embedding(ids.clone(), seq_len, positions)
    }

    /// The vectors of B sequences of `seq_len` tokens, each token at its own place: (B, T, C).
    pub fn forward_at<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        positions: &Arc<[u32]>,
    ) -> Var<'t, T> {
        let x = tape.param(self.wte).embedding(ids.clone(), seq_len, None);
        match self.wpe {
            Some(wpe) => x + tape.param(wpe).embedding(positions.clone(), seq_len, None),
            None => x,
        }
    }
}
