//! Rows of token ids for training and evaluation.
//!
//! A *window* is a run of consecutive targets of one document, at most `block_size` of them; a row of a batch holds
//! one window. `inputs` are the tokens before each target, so for a short document c₁ … cₙ:
//!
//! ```text
//! inputs   ⏎  c₁ c₂ … cₙ  0 0      (padding; any id would do)
//! targets  c₁ c₂ … cₙ ⏎   IGNORE IGNORE
//! ```

use std::sync::Arc;

use super::corpus::Format;
use super::dataset::Split;
use super::note::Note;
use super::random::{Permutation, Purpose, below, mix};

/// The target of padding: no loss and no gradient there.
pub const IGNORE: u32 = u32::MAX;

/// Token ids of shape (B, T), row by row, with their targets.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// (B, T): what the model reads.
    pub inputs: Arc<[u32]>,
    /// (B, T): what comes next at each place, or [`IGNORE`].
    pub targets: Arc<[u32]>,
    /// B.
    pub batch_size: usize,
    /// T.
    pub seq_len: usize,
    /// Targets that are not [`IGNORE`].
    pub n_targets: usize,
    /// The windows of the rows, kept for their capacity.
    rows: Vec<Window>,
    /// Buffers of other sizes, for when they come up again.
    spare: Vec<[Arc<[u32]>; 2]>,
}

impl Batch {
    /// A batch of these ids.
    ///
    /// # Panics
    /// If a length is not `batch_size * seq_len`.
    #[track_caller]
    pub fn new(inputs: Arc<[u32]>, targets: Arc<[u32]>, batch_size: usize, seq_len: usize) -> Batch {
        assert_eq!(inputs.len(), batch_size * seq_len, "batch: inputs are not {batch_size} × {seq_len}");
        assert_eq!(targets.len(), inputs.len(), "batch: inputs and targets differ in length");
        let n_targets = targets.iter().filter(|&&t| t != IGNORE).count();
        Batch { inputs, targets, batch_size, seq_len, n_targets, rows: vec![], spare: vec![] }
    }

    /// Writes the windows in `rows`, each padded to `seq_len`.
    ///
    /// Allocates only when a size comes up for the first time, or while someone still holds the last batch's ids.
    fn write_rows(&mut self, tokens: &[u32], seq_len: usize) {
        let rows = std::mem::take(&mut self.rows);
        self.resize(rows.len() * seq_len);
        let (Some(inputs), Some(targets)) = (Arc::get_mut(&mut self.inputs), Arc::get_mut(&mut self.targets))
        else {
            unreachable!("resize leaves buffers that nobody else holds");
        };
        for (row, window) in rows.iter().enumerate() {
            let (start, len) = (window.start as usize, window.len as usize);
            let (inputs, targets) =
                (&mut inputs[row * seq_len..][..seq_len], &mut targets[row * seq_len..][..seq_len]);
            inputs[..len].copy_from_slice(&tokens[start..start + len]);
            targets[..len].copy_from_slice(&tokens[start + 1..start + 1 + len]);
            inputs[len..].fill(0);
            targets[len..].fill(IGNORE);
        }
        self.batch_size = rows.len();
        self.seq_len = seq_len;
        self.n_targets = rows.iter().map(|window| window.len as usize).sum();
        self.rows = rows;
    }

    fn resize(&mut self, len: usize) {
        let unique =
            |a: &mut Arc<[u32]>, b: &mut Arc<[u32]>| Arc::get_mut(a).is_some() && Arc::get_mut(b).is_some();
        if self.inputs.len() != len {
            let found = self.spare.iter().position(|[inputs, _]| inputs.len() == len);
            let [inputs, targets] = found.map(|i| self.spare.swap_remove(i)).unwrap_or_default();
            let inputs = std::mem::replace(&mut self.inputs, inputs);
            let targets = std::mem::replace(&mut self.targets, targets);
            if !inputs.is_empty() {
                self.spare.push([inputs, targets]);
            }
        }
        if self.inputs.len() != len || !unique(&mut self.inputs, &mut self.targets) {
            self.inputs = std::iter::repeat_n(0, len).collect();
            self.targets = std::iter::repeat_n(0, len).collect();
        }
    }
}

impl PartialEq for Batch {
    /// The same ids in the same shape, whatever buffers are kept beside them.
    fn eq(&self, other: &Batch) -> bool {
        (self.batch_size, self.seq_len) == (other.batch_size, other.seq_len)
            && self.inputs == other.inputs
            && self.targets == other.targets
    }
}

impl Eq for Batch {}

/// Whether columns that are padding in all rows are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// T is always `block_size`.
    #[default]
    Off,
    /// T is the longest row's length rounded up to a multiple of this, at most `block_size`. A multiple above 1 keeps
    /// the number of different shapes small.
    ToMultiple(usize),
}

impl Trim {
    /// To multiples of four columns: little padding, and so few shapes that memory is used again.
    pub const FEW_SHAPES: Trim = Trim::ToMultiple(4);
}

/// The shape of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// B: rows of a batch.
    pub batch_size: usize,
    /// The longest row.
    pub block_size: usize,
    /// Whether rows may be shorter.
    pub trim: Trim,
}

impl BatchShape {
    #[track_caller]
    fn assert_positive(&self) {
        assert!(self.batch_size > 0, "batch: batch_size is 0");
        assert!(self.block_size > 0, "batch: block_size is 0");
        assert!(self.trim != Trim::ToMultiple(0), "batch: trim to a multiple of 0");
    }

    fn seq_len(&self, rows: &[Window]) -> usize {
        let longest = rows.iter().map(|window| window.len as usize).max().unwrap_or(0);
        match self.trim {
            Trim::Off => self.block_size,
            Trim::ToMultiple(multiple) => longest.next_multiple_of(multiple).min(self.block_size),
        }
    }
}

/// Targets `start + 1 ..= start + len` of a split, read from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: u32,
    len: u32,
}

/// All windows of a split, in its order: each document cut every `block_size` targets. A later window of a document
/// goes on with the true previous character as its first input.
fn windows_of(split: &Split, block_size: usize) -> Vec<Window> {
    let step = u32::try_from(block_size).unwrap_or(u32::MAX);
    let mut windows = Vec::with_capacity(split.n_documents());
    for pair in split.offsets().windows(2) {
        let (mut start, end) = (pair[0], pair[1]);
        while start < end {
            let len = (end - start).min(step);
            windows.push(Window { start, len });
            start += len;
        }
    }
    windows
}

/// Batches for training: the rows at (step, micro) are a pure function of the seed.
///
/// - **Lines**: every window once per epoch, each epoch in an order of its own. Rows are numbered through the whole
///   run, and an epoch ends wherever it does, within a batch too.
/// - **Running text**: each row starts anywhere, uniformly, and is `block_size` long. If the text is shorter, rows are
///   as long as it allows: see [`notes`](TrainBatches::notes).
///
/// An optimiser step takes `n_micro` batches (gradient accumulation and data-parallel replicas alike).
#[derive(Clone, Debug)]
pub struct TrainBatches {
    split: Split,
    seed: u64,
    shape: BatchShape,
    n_micro: usize,
    source: Source,
    notes: Vec<Note>,
}

#[derive(Clone, Debug)]
enum Source {
    /// Lines: these, permuted.
    Windows(Vec<Window>),
    /// Running text: starts below this number.
    Starts(u64),
}

impl TrainBatches {
    /// Batches of `split`.
    ///
    /// # Panics
    /// If the split is empty, or a size or `n_micro` is 0.
    #[track_caller]
    pub fn new(split: &Split, seed: u64, shape: BatchShape, n_micro: usize) -> TrainBatches {
        shape.assert_positive();
        assert!(n_micro > 0, "batch: n_micro is 0");
        assert!(!split.is_empty(), "batch: the training split is empty");
        let (mut shape, mut notes) = (shape, vec![]);
        let source = match split.format() {
            Format::Lines => Source::Windows(windows_of(split, shape.block_size)),
            Format::Text => {
                let (block_size, seq_len) = (shape.block_size, shape.block_size.min(split.n_targets()));
                if seq_len < block_size {
                    notes.push(Note::ContextShortened { block_size, seq_len });
                }
                shape.block_size = seq_len;
                Source::Starts((split.n_targets() - seq_len) as u64 + 1)
            }
        };
        TrainBatches { split: split.clone(), seed, shape, n_micro, source, notes }
    }

    /// What a user should know about these batches.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Epochs after `steps` optimiser steps: how often each target was seen, on average.
    pub fn epochs(&self, steps: u64) -> f64 {
        let rows = steps as f64 * self.n_micro as f64 * self.shape.batch_size as f64;
        match &self.source {
            Source::Windows(windows) => rows / windows.len() as f64,
            Source::Starts(_) => rows * self.shape.block_size as f64 / self.split.n_targets() as f64,
        }
    }

    /// Batch number `micro` of step `step`.
    ///
    /// # Panics
    /// Unless `micro < n_micro`.
    #[track_caller]
    pub fn batch(&self, step: u64, micro: usize) -> Batch {
        let mut batch = Batch::default();
        self.batch_into(step, micro, &mut batch);
        batch
    }

    /// As [`batch`](TrainBatches::batch), into buffers that are reused when nobody else holds them.
    ///
    /// # Panics
    /// Unless `micro < n_micro`.
    #[track_caller]
    pub fn batch_into(&self, step: u64, micro: usize, batch: &mut Batch) {
        assert!(micro < self.n_micro, "batch: micro {micro} of {}", self.n_micro);
        let mut rows = std::mem::take(&mut batch.rows);
        rows.clear();
        let first = micro as u64 * self.shape.batch_size as u64;
        let numbers = first..first + self.shape.batch_size as u64;
        match &self.source {
            Source::Starts(n) => rows.extend(numbers.map(|row| Window {
                start: below(mix(self.seed, Purpose::Window, step, row), *n) as u32,
                len: self.shape.block_size as u32,
            })),
            Source::Windows(windows) => self.permuted_rows(windows, step, numbers, &mut rows),
        }
        let seq_len = self.shape.seq_len(&rows);
        batch.rows = rows;
        batch.write_rows(self.split.tokens(), seq_len);
    }

    fn permuted_rows(
        &self,
        windows: &[Window],
        step: u64,
        numbers: std::ops::Range<u64>,
        rows: &mut Vec<Window>,
    ) {
        let n = windows.len() as u128;
        let rows_per_step = self.n_micro as u128 * self.shape.batch_size as u128;
        let mut order: Option<(u64, Permutation)> = None;
        for row in numbers {
            let number = u128::from(step) * rows_per_step + u128::from(row);
            let (epoch, place) = ((number / n) as u64, (number % n) as u64);
            let (_, permutation) = match order {
                Some(order) if order.0 == epoch => order,
                _ => *order.insert((epoch, Permutation::new(n as u64, self.seed, epoch))),
            };
            rows.push(windows[permutation.at(place) as usize]);
        }
    }
}

/// Batches for evaluation: every target of a split exactly once, in a fixed order.
///
/// Documents are sorted by length within groups of 16 batches, so that trimming helps and yet the first batches are
/// no shorter on average than the last. The last batch has the rows that are left. Running text is cut every
/// `block_size` targets, so a target sees at most `block_size` tokens of context, and less at the start of a window.
#[derive(Clone, Debug)]
pub struct EvalBatches {
    split: Split,
    shape: BatchShape,
    windows: Vec<Window>,
}

const BATCHES_PER_GROUP: usize = 16;

impl EvalBatches {
    /// Batches of the entire split; none if it is empty.
    ///
    /// # Panics
    /// If a size is 0.
    #[track_caller]
    pub fn new(split: &Split, shape: BatchShape) -> EvalBatches {
        EvalBatches::of(split, shape, usize::MAX)
    }

    /// Batches of at most `n_rows` windows, evenly spaced over the split: a fixed sample for a quick estimate.
    ///
    /// # Panics
    /// If a size is 0.
    #[track_caller]
    pub fn sample(split: &Split, shape: BatchShape, n_rows: usize) -> EvalBatches {
        EvalBatches::of(split, shape, n_rows)
    }

    #[track_caller]
    fn of(split: &Split, mut shape: BatchShape, n_rows: usize) -> EvalBatches {
        shape.assert_positive();
        let mut windows = windows_of(split, shape.block_size);
        let all = windows.len();
        if n_rows < all {
            windows =
                (0..n_rows).map(|i| windows[(i as u128 * all as u128 / n_rows as u128) as usize]).collect();
        }
        for group in windows.chunks_mut(BATCHES_PER_GROUP.saturating_mul(shape.batch_size)) {
            group.sort_by_key(|window| window.len);
        }
        if split.format() == Format::Text {
            shape.block_size = shape.block_size.min(split.n_targets()).max(1);
        }
        EvalBatches { split: split.clone(), shape, windows }
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.windows.len().div_ceil(self.shape.batch_size)
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Targets in all batches together.
    pub fn n_targets(&self) -> usize {
        self.windows.iter().map(|window| window.len as usize).sum()
    }

    /// Batch number `index`, into buffers that are reused when nobody else holds them.
    ///
    /// # Panics
    /// Unless `index < len()`.
    #[track_caller]
    pub fn batch_into(&self, index: usize, batch: &mut Batch) {
        assert!(index < self.len(), "batch: index {index} of {}", self.len());
        let windows = self.windows.chunks(self.shape.batch_size).nth(index).expect("index < len");
        batch.rows.clear();
        batch.rows.extend_from_slice(windows);
        batch.write_rows(self.split.tokens(), self.shape.seq_len(windows));
    }

    /// All batches in order, each in buffers of its own.
    pub fn iter(&self) -> impl Iterator<Item = Batch> {
        (0..self.len()).map(|index| {
            let mut batch = Batch::default();
            self.batch_into(index, &mut batch);
            batch
        })
    }
}
