//! What a model remembers of the sequences it is reading: keys and values of every block.

use std::sync::Arc;

use weft_tensor::kernels::attention::{self, attention_decode};
use weft_tensor::{Buffer, Real};

use crate::config::ModelConfig;

/// Keys and values of the tokens read so far, of one sequence in each slot.
///
/// Sequences may differ in length, and a slot can be given to another sequence while the others go on.
pub struct Cache<T = f32> {
    /// Of each block.
    layers: Vec<KvCache<T>>,
    /// Tokens read so far, by slot.
    lens: Vec<usize>,
    /// Lengths of the slots of a pass.
    past: Vec<usize>,
}

impl<T: Real> Cache<T> {
    /// Room for `capacity` tokens of each of `slots` sequences in `n_layer` blocks of this kind.
    pub(crate) fn new(config: &ModelConfig, n_layer: usize, slots: usize, capacity: usize) -> Self {
        let layers = (0..n_layer).map(|_| KvCache::new(config, slots, capacity)).collect();
        Cache { layers, lens: vec![0; slots], past: Vec::new() }
    }

    /// Tokens read so far of the sequence in `slot`.
    pub fn len(&self, slot: usize) -> usize {
        self.lens[slot]
    }

    /// Forgets the sequence in `slot`.
    pub fn clear(&mut self, slot: usize) {
        self.lens[slot] = 0;
    }

    /// The places of the next `seq_len` tokens of each sequence in `slots`, one sequence after another.
    pub(crate) fn positions(&self, slots: &[usize], seq_len: usize) -> Arc<[u32]> {
        slots
            .iter()
            .flat_map(|&slot| (self.lens[slot]..self.lens[slot] + seq_len).map(|t| t as u32))
            .collect()
    }

    /// Counts `seq_len` tokens more in each of `slots`: every block has read them.
    pub(crate) fn advance(&mut self, slots: &[usize], seq_len: usize) {
        for &slot in slots {
            self.lens[slot] += seq_len;
        }
    }

    /// What each block in turn remembers of the sequences in `slots`.
    pub(crate) fn memories<'a>(&'a mut self, slots: &'a [usize]) -> impl Iterator<Item = Memory<'a, T>> {
        let Cache { layers, lens, past } = self;
        past.clear();
        past.extend(slots.iter().map(|&slot| lens[slot]));
        let past = &*past;
        layers.iter_mut().map(move |cache| Memory { cache, slots, past })
    }
}

/// Keys and values of one block.
struct KvCache<T> {
    keys: Buffer<T>,
    values: Buffer<T>,
    /// Tokens that a slot has room for.
    capacity: usize,
    /// Numbers of a slot in either buffer.
    stride: usize,
}

impl<T: Real> KvCache<T> {
    fn new(config: &ModelConfig, slots: usize, capacity: usize) -> Self {
        let ModelConfig { n_head, n_kv_head, .. } = *config;
        let head_size = config.head_size();
        let one = attention::Attention { batch: 1, seq_len: 1, n_head, n_kv_head, head_size, scale: 1.0 };
        let stride = one.cache_len(capacity);
        KvCache {
            keys: Buffer::zeros(slots * stride),
            values: Buffer::zeros(slots * stride),
            capacity,
            stride,
        }
    }
}

/// What one block remembers of the sequences of a pass.
pub struct Memory<'a, T> {
    cache: &'a mut KvCache<T>,
    slots: &'a [usize],
    /// Tokens read before, of each of these sequences.
    past: &'a [usize],
}

impl<T: Real> Memory<'_, T> {
    /// Adds the keys and values of the new rows `qkv` and attends from them to all so far, as [`attention_decode`] does.
    pub(super) fn attend(self, a: attention::Attention, qkv: &[T], y: &mut [T]) {
        let Memory { cache: KvCache { keys, values, capacity, stride }, slots, past } = self;
        let mut begin = 0;
        // Neighbouring slots go together: all of them, most of the time.
        for run in slots.chunk_by(|slot, next| slot + 1 == *next) {
            let part = attention::Attention { batch: run.len(), ..a };
            let one = attention::Attention { batch: 1, ..a };
            let cached = run[0] * *stride..(run[0] + run.len()) * *stride;
            attention_decode(
                part,
                &past[begin..][..run.len()],
                *capacity,
                &qkv[begin * one.qkv_len()..][..part.qkv_len()],
                &mut keys[cached.clone()],
                &mut values[cached],
                &mut y[begin * one.y_len()..][..part.y_len()],
            );
            begin += run.len();
        }
    }
}
