//! The loss over a whole split, the same number every time.

use rayon::prelude::*;
use weft_autograd::{Params, Pool, Tape};
use weft_tensor::Real;

use crate::layers::Pass;
use crate::model::Model;
use crate::text::{BatchShape, EvalBatches, Split, Trim};

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Evaluation {
    /// Mean negative log-probability of a token, in nats; NaN if there are none.
    pub loss: f64,
    /// The same in bits: a token is a character, or the end of a line.
    pub bits_per_char: f64,
    /// e^loss: among how many equally likely tokens the model is in doubt.
    pub perplexity: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

impl Evaluation {
    /// The figures that follow from a mean loss in nats.
    pub fn new(loss: f64, tokens: usize) -> Self {
        Evaluation { loss, bits_per_char: loss / std::f64::consts::LN_2, perplexity: libm::exp(loss), tokens }
    }
}

/// Tokens that are evaluated at once: enough for the matrix products, few enough for the cache.
pub(crate) const TOKENS: usize = 512;
/// Parts that work apart. More than threads, so that none waits long; fixed, so that the memory is.
const PARTS: usize = 16;

/// The loss of every token of `split`, in batches of the model's context length.
pub fn evaluate<T: Real>(model: &Model, params: &Params<T>, split: &Split) -> Evaluation {
    evaluate_unless(model, params, split, &|| false).expect("nothing stops it")
}

/// [`evaluate`], or nothing if `stop` says so meanwhile: it is asked before every batch.
pub fn evaluate_unless<T: Real>(
    model: &Model,
    params: &Params<T>,
    split: &Split,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<Evaluation> {
    let block_size = model.config().block_size;
    let shape = BatchShape { batch_size: (TOKENS / block_size).max(1), block_size, trim: Trim::FEW_SHAPES };
    let batches = EvalBatches::new(split, shape);
    let part = batches.len().div_ceil(PARTS).max(1);
    let sums: Option<Vec<Vec<f64>>> = (0..batches.len().div_ceil(part))
        .into_par_iter()
        .map(|i| {
            let pool = Pool::new();
            let mut batch = Default::default();
            let range = i * part..((i + 1) * part).min(batches.len());
            range
                .map(|index| {
                    if stop() {
                        return None;
                    }
                    batches.batch_into(index, &mut batch);
                    let tape = Tape::inference(params, &pool);
                    Some(model.loss(&tape, &batch, 1.0, Pass::default()).item().to_f64())
                })
                .collect()
        })
        .collect();
    let sum: f64 = sums?.iter().flatten().sum();
    let tokens = batches.n_targets();
    Some(Evaluation::new(sum / tokens as f64, tokens))
}
