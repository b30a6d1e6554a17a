//! Generation: one token after another, each drawn from what the model expects next.

mod batch;
mod draw;

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use weft_autograd::Params;
use weft_tensor::Real;

pub use batch::Tokens;
pub use draw::SampleConfig;

use crate::Error;
use crate::memory;
use crate::model::Model;
use crate::text::Vocab;
use batch::{Batch, Task};

/// A generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The prompt and what follows it, without the end of the line.
    pub tokens: Vec<u32>,
    /// The logarithm of the probability that the model gives to what follows the prompt, the end included, in nats.
    pub logprob: f64,
}

/// Sequences of one batch, at most: rows enough for the matrix products, and their vectors stay in the caches.
const BATCH: usize = 64;

/// Sequences that are worth a thread of their own, at least: below, reading the weights once more costs more than it gains.
const LEAST: usize = 16;

/// Numbers that the keys and values of a batch may take, if it is more than one sequence: 128 MiB of `f32`.
const CACHE: usize = 1 << 25;

/// Generates samples number `first` to `first + n - 1` after `prompt`.
///
/// A sample depends on the model, the settings, the seed and its own number only, not on how many are made with it. Each ends
/// with its line, where the vocabulary has such an end, or after `max_new_tokens`.
///
/// The weights are read again for every token: prepare them ([`Params::prepare`]).
pub fn generate<T: Real>(
    model: &Model,
    params: &Params<T>,
    vocab: &Vocab,
    prompt: &[u32],
    first: usize,
    n: usize,
    config: &SampleConfig,
) -> Result<Vec<Sample>, Error> {
    config.validate()?;
    let task = Task::new(model, params, vocab, prompt, *config);
    // A few sequences need no other thread, and do not wake any.
    let workers = if n < 2 * LEAST { 1 } else { rayon::current_num_threads().min(n / LEAST) };
    let slots = n.div_ceil(workers).min(BATCH).min(CACHE / task.cache_len().max(1)).max(1);
    check_memory(&task, workers * slots)?;
    // Whoever has room takes the next sample: which one it is decides nothing about the sample.
    let next = AtomicUsize::new(first);
    let numbers = || {
        std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&number| number < first + n))
    };
    let work = || Batch::new(task.clone(), slots).run(numbers());
    let mut samples = match workers {
        1 => work(),
        _ => (0..workers).into_par_iter().flat_map_iter(|_| work()).collect(),
    };
    samples.sort_unstable_by_key(|(number, _)| *number);
    Ok(samples.into_iter().map(|(_, sample)| sample).collect())
}

/// Sample number `number` token by token, as [`generate`] makes it.
pub fn tokens<'a, T: Real>(
    model: &'a Model,
    params: &'a Params<T>,
    vocab: &Vocab,
    prompt: &[u32],
    number: usize,
    config: &SampleConfig,
) -> Result<Tokens<'a, T>, Error> {
    config.validate()?;
    let task = Task::new(model, params, vocab, prompt, *config);
    check_memory(&task, 1)?;
    Ok(Tokens::new(task, number))
}

/// Refuses sequences whose caches there is no room for: a context of millions costs a model file nothing, but memory for each token.
fn check_memory<T: Real>(task: &Task<'_, T>, n_sequences: usize) -> Result<(), Error> {
    let needed =
        (n_sequences as u64).saturating_mul(task.cache_len() as u64).saturating_mul(size_of::<T>() as u64);
    memory::check("sampling", needed, "its context is that long: make --max-new-tokens or the prompt smaller")
}

/// Where the context of a text of `len` tokens begins: when it is full, its older half is forgotten.
///
/// Forgetting by halves lets the caches live on between two cuts, where forgetting one token at a time would move every
/// position at every token.
pub fn context_start(len: usize, block_size: usize) -> usize {
    let forget = (block_size - block_size / 2).max(1);
    len.saturating_sub(block_size).div_ceil(forget) * forget
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, Position};

    #[test]
    fn caches_that_do_not_fit_are_refused() {
        let config = ModelConfig {
            vocab_size: 2,
            block_size: 1 << 20,
            n_layer: 1024,
            n_head: 1,
            n_kv_head: 1,
            n_embd: 64,
            n_inner: 1,
            position: Position::None,
            ..ModelConfig::default()
        };
        let (model, params) = Model::new::<f32>(&config, 0).unwrap();
        let vocab = Vocab::new(['a'], true);
        let config = SampleConfig { max_new_tokens: usize::MAX, ..SampleConfig::default() };
        let refused = |error: Error| {
            let Error::TooLittleMemory { needed, .. } = error else { panic!("{error}") };
            assert_eq!(needed, 2 * 1024 * 64 * (1 << 20) * 4, "keys and values of a million tokens");
        };
        refused(generate(&model, &params, &vocab, &[], 0, 1, &config).unwrap_err());
        refused(tokens(&model, &params, &vocab, &[], 0, &config).map(drop).unwrap_err());
        let few = SampleConfig { max_new_tokens: 1, ..config };
        assert_eq!(generate(&model, &params, &vocab, &[], 0, 1, &few).unwrap().len(), 1);
    }

    #[test]
    fn the_context_is_full_or_longer_than_its_half() {
        for block_size in [1, 2, 3, 8, 16] {
            for len in 1..100 {
                let kept = len - context_start(len, block_size);
                assert!(kept <= block_size, "{len} tokens, block {block_size}: {kept} kept");
                assert!(
                    kept == len || kept > block_size / 2,
                    "{len} tokens, block {block_size}: {kept} kept"
                );
            }
        }
    }
}
