//! Sequences that are computed together: each is at its own place, and whatever is finished makes room for the next.

use weft_autograd::{Params, Pool, Tape};
use weft_tensor::Real;
use weft_tensor::random::{Key, Purpose};

use super::{Sample, SampleConfig, context_start};
use crate::layers::Cache;
use crate::model::Model;
use crate::text::Vocab;

/// Tokens of one pass, at most, unless a single sequence has more to read: what the pass computes stays in the caches.
const PASS: usize = 512;

/// What all samples of a call have in common.
#[derive(Clone)]
pub(super) struct Task<'a, T: Real> {
    model: &'a Model,
    params: &'a Params<T>,
    config: SampleConfig,
    /// The token that ends a text, if there is one.
    end: Option<u32>,
    /// What each text begins with.
    start: Vec<u32>,
    /// How many of these tokens are not shown.
    hidden: usize,
}

impl<'a, T: Real> Task<'a, T> {
    pub(super) fn new(
        model: &'a Model,
        params: &'a Params<T>,
        vocab: &Vocab,
        prompt: &[u32],
        config: SampleConfig,
    ) -> Self {
        // Lines begin with the boundary; running text without a prompt with a line feed, as after a line, if there is one.
        let end = vocab.boundary();
        let before = end.or_else(|| prompt.is_empty().then(|| vocab.id_of('\n').unwrap_or(0)));
        let start = before.into_iter().chain(prompt.iter().copied()).collect();
        Task { model, params, config, end, start, hidden: usize::from(before.is_some()) }
    }

    /// Tokens that the model sees at once, at most.
    fn context(&self) -> usize {
        self.model.config().block_size.min(self.start.len().saturating_add(self.config.max_new_tokens))
    }

    /// Numbers that the caches hold for a sequence.
    pub(super) fn cache_len(&self) -> usize {
        let config = self.model.config();
        2 * config.n_layer * config.n_kv_head * config.head_size() * self.context()
    }

    fn is_finished(&self, sequence: &Sequence) -> bool {
        let n_new = sequence.text.len() - self.start.len();
        n_new == self.config.max_new_tokens || n_new > 0 && sequence.text.last().copied() == self.end
    }

    fn sample(&self, sequence: Sequence) -> Sample {
        let Sequence { mut text, logprob, .. } = sequence;
        if text.len() > self.start.len() && text.last().copied() == self.end {
            text.pop();
        }
        Sample { tokens: text.split_off(self.hidden), logprob }
    }
}

/// A text in the making.
struct Sequence {
    /// Which sample it becomes.
    number: usize,
    text: Vec<u32>,
    /// Where the part begins that the cache holds.
    from: usize,
    logprob: f64,
}

/// Sequences that are computed together.
pub(super) struct Batch<'a, T: Real> {
    task: Task<'a, T>,
    slots: Vec<Option<Sequence>>,
    cache: Cache<T>,
    pool: Pool<T>,
    /// Work space of [`SampleConfig::draw`].
    tokens: Vec<(f64, u32)>,
}

impl<'a, T: Real> Batch<'a, T> {
    /// Room for `n` sequences.
    pub(super) fn new(task: Task<'a, T>, n: usize) -> Self {
        let cache = task.model.cache(n, task.context().max(1));
        let slots = std::iter::repeat_with(|| None).take(n).collect();
        Batch { task, slots, cache, pool: Pool::new(), tokens: Vec::new() }
    }

    /// Makes the samples that `numbers` names, each with its number, in the order in which they are finished.
    pub(super) fn run(mut self, numbers: impl Iterator<Item = usize>) -> Vec<(usize, Sample)> {
        let mut numbers = numbers.fuse();
        let mut finished = Vec::new();
        loop {
            for slot in 0..self.slots.len() {
                if self.slots[slot].is_none()
                    && let Some(number) = numbers.next()
                {
                    self.begin(slot, number);
                }
            }
            if self.slots.iter().all(Option::is_none) {
                return finished;
            }
            self.step();
            for slot in &mut self.slots {
                if let Some(sequence) = slot.take_if(|sequence| self.task.is_finished(sequence)) {
                    finished.push((sequence.number, self.task.sample(sequence)));
                }
            }
        }
    }

    /// Puts a new sequence into `slot`.
    pub(super) fn begin(&mut self, slot: usize, number: usize) {
        let text = self.task.start.clone();
        self.slots[slot] = Some(Sequence { number, text, from: 0, logprob: 0.0 });
        self.cache.clear(slot);
    }

    /// Adds a token to each sequence that is not finished.
    fn step(&mut self) {
        // Sequences that have as many tokens to read go together: one each, but for those that begin or forget.
        let mut waiting: Vec<(usize, usize)> = Vec::with_capacity(self.slots.len());
        for (slot, sequence) in self.slots.iter_mut().enumerate() {
            let Some(sequence) = sequence.as_mut().filter(|sequence| !self.task.is_finished(sequence)) else {
                continue;
            };
            let from = context_start(sequence.text.len(), self.task.model.config().block_size);
            if from != sequence.from {
                sequence.from = from;
                self.cache.clear(slot);
            }
            waiting.push((sequence.text.len() - from - self.cache.len(slot), slot));
        }
        waiting.sort_unstable();
        for alike in waiting.chunk_by(|a, b| a.0 == b.0) {
            let seq_len = alike[0].0;
            for part in alike.chunks((PASS / seq_len).max(1)) {
                let slots: Vec<usize> = part.iter().map(|(_, slot)| *slot).collect();
                self.read(seq_len, &slots);
            }
        }
    }

    /// Reads the last `seq_len` tokens of the sequences in `slots`, and adds one to each.
    fn read(&mut self, seq_len: usize, slots: &[usize]) {
        let Task { model, params, config, .. } = &self.task;
        let sequences = slots.iter().filter_map(|&slot| self.slots[slot].as_ref());
        let ids =
            sequences.flat_map(|sequence| &sequence.text[sequence.text.len() - seq_len..]).copied().collect();
        let tape = Tape::inference(params, &self.pool);
        let logits = model.next_logits(&tape, &ids, seq_len, &mut self.cache, slots); // (B, 1, V)
        logits.with_values(|logits| {
            for (&slot, logits) in slots.iter().zip(logits.chunks_exact(model.config().vocab_size)) {
                let Some(Sequence { number, text, logprob, .. }) = &mut self.slots[slot] else { continue };
                let n_new = (text.len() - self.task.start.len()) as u64;
                let key = Key::new(config.seed, Purpose::Sampling, n_new, *number as u32);
                let (id, its_logprob) = config.draw(logits, key.f64_at(0), &mut self.tokens);
                text.push(id);
                *logprob += its_logprob;
            }
        });
    }
}

/// The tokens of one sample, one after another as they are drawn; [`generate`](super::generate) gives the same ones at once.
pub struct Tokens<'a, T: Real> {
    batch: Batch<'a, T>,
}

impl<'a, T: Real> Tokens<'a, T> {
    pub(super) fn new(task: Task<'a, T>, number: usize) -> Self {
        let mut batch = Batch::new(task, 1);
        batch.begin(0, number);
        Tokens { batch }
    }
}

impl<T: Real> Iterator for Tokens<'_, T> {
    type Item = u32;

    /// Draws a token; none after the last, or when the line has ended.
    fn next(&mut self) -> Option<u32> {
        let is_finished =
            |batch: &Batch<'_, T>| batch.slots[0].as_ref().is_none_or(|it| batch.task.is_finished(it));
        if is_finished(&self.batch) {
            return None;
        }
        self.batch.step();
        let last = self.batch.slots[0].as_ref()?.text.last().copied();
        last.filter(|_| last != self.batch.task.end)
    }
}
