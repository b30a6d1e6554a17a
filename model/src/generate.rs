//! Generation: one token after another, each drawn from what the model expects next.

use rayon::prelude::*;
use weft_autograd::{Params, Pool, Tape};
use weft_tensor::Real;
use weft_tensor::random::{Key, Purpose};

use crate::Error;
use crate::layers::Pass;
use crate::model::Model;
use crate::text::Vocab;

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleConfig {
    /// Divides the logits: below 1 the likely tokens gain, above 1 the unlikely; 0 takes the likeliest.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751); 1 for all.
    pub top_p: f64,
    /// Only tokens at least this times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082); 0 for all.
    pub min_p: f64,
    /// The most tokens to add to the prompt.
    pub max_new_tokens: usize,
    /// What the random numbers follow from.
    pub seed: u64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        SampleConfig { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, max_new_tokens: 500, seed: 1337 }
    }
}

impl SampleConfig {
    /// Refuses what no token can be drawn by, naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |what: String| Err(Error::Config(what));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return fail(format!("temperature is {}: it must be a number of at least 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fail(format!("top_p is {}: it must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return fail(format!("min_p is {}: it must be between 0 and 1", self.min_p));
        }
        Ok(())
    }

    /// Draws a token; `uniform` in [0, 1) decides. Returns it with the logarithm of its probability before any cut.
    ///
    /// Not a number anywhere among the logits makes every token as likely as that.
    pub fn draw<T: Real>(&self, logits: &[T], uniform: f64, order: &mut Vec<(f64, u32)>) -> (u32, f64) {
        let largest = logits.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|x| libm::exp(x.to_f64() - largest)).sum();
        let log_probability = |id: u32| logits[id as usize].to_f64() - largest - libm::log(total);
        // The likeliest first; the sort is stable, so equals stay in the order of their ids.
        order.clear();
        order.extend(logits.iter().zip(0..).map(|(x, id)| (x.to_f64(), id)));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        if self.temperature == 0.0 {
            let id = order[0].1;
            return (id, log_probability(id));
        }
        for (weight, _) in order.iter_mut() {
            *weight = libm::exp((*weight - largest) / self.temperature);
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let mass: f64 = order.iter().map(|(weight, _)| weight).sum();
        let mut reached = 0.0;
        let nucleus = order.iter().position(|(weight, _)| {
            reached += weight;
            reached >= self.top_p * mass
        });
        if let Some(last) = nucleus.filter(|_| self.top_p < 1.0) {
            order.truncate(last + 1);
        }
        let floor = self.min_p * order[0].0;
        order.retain(|(weight, _)| *weight >= floor);
        let Some(&(_, likeliest)) = order.first() else { return (0, f64::NAN) };
        let mass: f64 = order.iter().map(|(weight, _)| weight).sum();
        let mut left = uniform * mass;
        let drawn = order.iter().find(|(weight, _)| {
            left -= weight;
            left < 0.0
        });
        let id = drawn.map_or(likeliest, |&(_, id)| id);
        (id, log_probability(id))
    }
}

/// A generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The prompt and what follows it, without the end of the line.
    pub tokens: Vec<u32>,
    /// The logarithm of the probability that the model gives to what follows the prompt, the end included, in nats.
    pub logprob: f64,
}

/// Sequences that are computed together.
const BATCH: usize = 16;

/// Generates samples number `first` to `first + n - 1` after `prompt`.
///
/// A sample depends on the model, the settings, the seed and its own number only, not on how many are made with it. Each ends
/// with its line, where the vocabulary has such an end, or after `max_new_tokens`.
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
    let batches: Vec<Vec<Sample>> = (0..n.div_ceil(BATCH))
        .into_par_iter()
        .map(|i| {
            let start = i * BATCH;
            generate_batch(model, params, vocab, prompt, first + start, BATCH.min(n - start), config)
        })
        .collect();
    Ok(batches.into_iter().flatten().collect())
}

/// Where the context of a text of `len` tokens begins: when it is full, its older half is forgotten.
///
/// Forgetting by halves lets the caches live on between two cuts, where forgetting one token at a time would move every
/// position at every token.
pub fn context_start(len: usize, block_size: usize) -> usize {
    let forget = (block_size - block_size / 2).max(1);
    len.saturating_sub(block_size).div_ceil(forget) * forget
}

fn generate_batch<T: Real>(
    model: &Model,
    params: &Params<T>,
    vocab: &Vocab,
    prompt: &[u32],
    first: usize,
    n: usize,
    config: &SampleConfig,
) -> Vec<Sample> {
    let (block_size, vocab_size) = (model.config().block_size, model.config().vocab_size);
    let end = vocab.boundary();
    // Lines begin with the boundary; running text without a prompt with a line feed, as after a line, if there is one.
    let mut start: Vec<u32> = end.into_iter().collect();
    start.extend_from_slice(prompt);
    let hidden = start.len() - prompt.len();
    let nothing = start.is_empty();
    if nothing {
        start.push(vocab.id_of('\n').unwrap_or(0));
    }
    let hidden = if nothing { 1 } else { hidden };
    let pool = Pool::new();
    let mut texts: Vec<Vec<u32>> = vec![start; n];
    let mut logprobs = vec![0.0; n];
    let mut open = vec![true; n];
    let mut caches = model.caches::<T>(n);
    // The part of the texts that the caches hold.
    let (mut cached_from, mut cached_to) = (0, 0);
    let mut order = Vec::new();
    for new in 0..config.max_new_tokens {
        let len = texts[0].len();
        let from = context_start(len, block_size);
        if from != cached_from {
            (cached_from, cached_to) = (from, from);
        }
        let ids: Vec<u32> = texts.iter().flat_map(|text| &text[cached_to..]).copied().collect();
        let (seq_len, position) = (len - cached_to, cached_to - cached_from);
        let tape = Tape::inference(params, &pool);
        let logits = model.logits(&tape, &ids.into(), seq_len, position, Some(&mut caches), Pass::default());
        cached_to = len;
        for (i, text) in texts.iter_mut().enumerate() {
            let last = ((i + 1) * seq_len - 1) * vocab_size;
            let uniform = Key::new(config.seed, Purpose::Sampling, new as u64, (first + i) as u32).f64_at(0);
            let draw = |logits: &[T]| config.draw(&logits[last..last + vocab_size], uniform, &mut order);
            let (id, logprob) = logits.with_values(draw);
            text.push(id);
            if open[i] {
                logprobs[i] += logprob;
                open[i] = Some(id) != end;
            }
        }
        if !open.contains(&true) {
            break;
        }
    }
    let finish = |(text, logprob): (Vec<u32>, f64)| {
        let tokens = text.into_iter().skip(hidden).take_while(|id| Some(*id) != end).collect();
        Sample { tokens, logprob }
    };
    texts.into_iter().zip(logprobs).map(finish).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn cuts_leave_the_likeliest_tokens() {
        let logits = [0.0f64, 2.0, 1.0, -1.0];
        let mut order = Vec::new();
        let mut drawn = |config: SampleConfig| {
            let ids = (0..100).map(|i| config.draw(&logits, f64::from(i) / 100.0, &mut order).0);
            let mut ids: Vec<u32> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let all = SampleConfig::default();
        assert_eq!(drawn(all), [0, 1, 2, 3]);
        assert_eq!(drawn(SampleConfig { top_k: 2, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { top_k: 100, ..all }), [0, 1, 2, 3]);
        assert_eq!(drawn(SampleConfig { top_p: 0.7, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { min_p: 0.3, ..all }), [1, 2]);
        assert_eq!(drawn(SampleConfig { temperature: 0.0, ..all }), [1]);
        assert_eq!(drawn(SampleConfig { temperature: 0.01, ..all }), [1]);
    }

    #[test]
    fn the_log_probability_is_that_of_the_model() {
        let config = SampleConfig { temperature: 0.0, top_k: 1, ..SampleConfig::default() };
        let (id, logprob) = config.draw(&[0.0f64, 0.0, 0.0, 0.0], 0.5, &mut Vec::new());
        assert_eq!(id, 0);
        assert!((logprob + 4.0f64.ln()).abs() < 1e-12, "{logprob}");
    }
}
