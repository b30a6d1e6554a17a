//! Any of the models behind one interface.

use std::sync::Arc;

use weft_autograd::{Packing, ParamId, ParamLayout, Params, Tape, Var};
use weft_tensor::Real;

use crate::Error;
use crate::bigram::Bigram;
use crate::config::{ModelConfig, ModelKind, Position, Precision};
use crate::init::Builder;
use crate::layers::{Cache, Pass};
use crate::text::Batch;
use crate::transformer::Transformer;

/// A model without its parameters: it knows their ids.
pub struct Model {
    config: ModelConfig,
    network: Network,
    weights: Vec<ParamId>,
}

enum Network {
    Transformer(Transformer),
    Bigram(Bigram),
}

impl Model {
    /// The model that `config` describes, and its first parameters.
    pub fn new<T: Real>(config: &ModelConfig, seed: u64) -> Result<(Model, Params<T>), Error> {
        config.validate()?;
        let mut builder = Builder::new();
        let network = match config.model {
            ModelKind::Transformer => Network::Transformer(Transformer::new(&mut builder, config)),
            ModelKind::Bigram => Network::Bigram(Bigram::new(&mut builder, config)),
        };
        let weights = builder.weights().to_vec();
        Ok((Model { config: config.clone(), network, weights }, builder.finish(seed)))
    }

    /// Names and shapes of the parameters, without making them.
    pub fn layout(config: &ModelConfig) -> Result<ParamLayout, Error> {
        config.validate()?;
        let mut builder = Builder::new();
        match config.model {
            ModelKind::Transformer => {
                // The angles of rotary positions are no parameters, and may be many.
                let position = match config.position {
                    Position::Rotary => Position::None,
                    other => other,
                };
                Transformer::new(&mut builder, &ModelConfig { position, ..config.clone() });
            }
            ModelKind::Bigram => {
                Bigram::new(&mut builder, config);
            }
        }
        Ok(builder.into_layout())
    }

    /// The sizes and switches.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights of its linear layers.
    pub fn weights(&self) -> &[ParamId] {
        &self.weights
    }

    /// Makes the weights of its linear layers ready for use until a parameter changes ([`Params::prepare`]).
    pub fn prepare<T: Real>(&self, params: &mut Params<T>, precision: Precision, packing: Packing) {
        params.prepare(&self.weights, precision.into(), packing);
    }

    /// [`Model::prepare`] for evaluation and sampling.
    pub fn prepare_for_inference<T: Real>(&self, params: &mut Params<T>, precision: Precision) {
        self.prepare(params, precision, Packing::Forward);
    }

    /// The score of every token to come next, after each token: (B, T, V). See [`Transformer::logits`].
    pub fn logits<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        pass: Pass,
    ) -> Var<'t, T> {
        match &self.network {
            Network::Transformer(model) => model.logits(tape, ids, seq_len, pass),
            Network::Bigram(model) => model.logits(tape, ids, seq_len),
        }
    }

    /// The score of every token to come next, after the last token of each sequence: (B, 1, V). See
    /// [`Transformer::next_logits`].
    pub fn next_logits<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        ids: &Arc<[u32]>,
        seq_len: usize,
        cache: &mut Cache<T>,
        slots: &[usize],
    ) -> Var<'t, T> {
        match &self.network {
            Network::Transformer(model) => model.next_logits(tape, ids, seq_len, cache, slots),
            Network::Bigram(model) => {
                cache.advance(slots, seq_len);
                model.logits(tape, ids, seq_len).slice(1, seq_len - 1..seq_len)
            }
        }
    }

    /// `scale` · Σ −ln p(target) over the targets of a batch that count, in nats: their mean with `scale` = 1 / their number.
    pub fn loss<'t, T: Real>(
        &self,
        tape: &'t Tape<'t, T>,
        batch: &Batch,
        scale: f64,
        pass: Pass,
    ) -> Var<'t, T> {
        let logits = self.logits(tape, &batch.inputs, batch.seq_len, pass);
        logits.cross_entropy(batch.targets.clone(), scale)
    }

    /// An empty cache with room for `capacity` tokens of each of `slots` sequences.
    pub fn cache<T: Real>(&self, slots: usize, capacity: usize) -> Cache<T> {
        match &self.network {
            Network::Transformer(model) => model.cache(slots, capacity),
            Network::Bigram(_) => Cache::new(&self.config, 0, slots, capacity),
        }
    }

    /// How much each token of one sequence attends to each: for every block, (H, T, T). Nothing for a model without attention.
    pub fn attention_weights<T: Real>(&self, tape: &Tape<'_, T>, ids: &Arc<[u32]>) -> Vec<Vec<T>> {
        match &self.network {
            Network::Transformer(model) => model.attention_weights(tape, ids),
            Network::Bigram(_) => Vec::new(),
        }
    }

    /// The table with a row of numbers for each token.
    pub fn token_embedding(&self) -> ParamId {
        match &self.network {
            Network::Transformer(model) => model.token_embedding(),
            Network::Bigram(model) => model.token_embedding(),
        }
    }
}
