//! The neural bigram: for each token a row of logits for the next one, learned by gradient instead of counted.
//!
//! It is the transformer without attention and without vectors: the first model of the walk from counts to attention, and its
//! loss can be compared with the bigram of the ladder, which it approaches from above.

use std::sync::Arc;

use weft_autograd::{ParamId, Tape, Var};
use weft_tensor::Real;

use crate::config::ModelConfig;
use crate::init::{Builder, Init};

/// A table (V, V): row i holds the logits of what follows token i.
#[derive(Debug)]
pub struct Bigram {
    wte: ParamId,
}

impl Bigram {
    /// Adds `wte.weight`, zeros: every token is as likely as any other.
    pub fn new(builder: &mut Builder, config: &ModelConfig) -> Self {
        let vocab_size = config.vocab_size;
        Bigram { wte: builder.add("wte.weight", [vocab_size, vocab_size], Init::Constant(0.0)) }
    }

    /// The score of every token to come next: (B, T, V).
    pub fn logits<'t, T: Real>(&self, tape: &'t Tape<'t, T>, ids: &Arc<[u32]>, seq_len: usize) -> Var<'t, T> {
        tape.param(self.wte).embedding(ids.clone(), seq_len, None)
    }

    /// The table, (V, V).
    pub fn token_embedding(&self) -> ParamId {
        self.wte
    }
}
