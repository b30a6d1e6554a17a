//! What a run needs of the machine, before it begins.

use std::path::Path;

use super::{RunConfig, RunDir};
use crate::Error;
use crate::evaluate;
use crate::memory;
use crate::model::Model;
use crate::text::{Dataset, Format};
use crate::train::Cut;

/// Bytes that a run needs at its peak, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Memory: the weights, as they are and packed.
    pub weights: u64,
    /// Memory: moments, and the gradients of the replicas.
    pub optimizer: u64,
    /// Memory: what each thread keeps of its part of a batch for the way back, and of an evaluation.
    pub activations: u64,
    /// Memory: the text, its tokens and its n-grams; and the program.
    pub data: u64,
    /// Disk: the checkpoints, and the new one while it is written. Not the log, which grows for as long as the run goes on.
    pub disk: u64,
}

// Measured on models of 1,000 to 40 million parameters: with these the peak is met within 10 %.
/// Bytes of the program and its threads.
const PROGRAM: u64 = 16_000_000;
/// Bytes for a character: while it is read, and as a token.
const PER_TOKEN: u64 = 9;
/// Bytes for the n-grams that begin at a character. The longer a text, the more of them it has had before.
const PER_NGRAM: u64 = 7;
const DISTINCT: u64 = 2_000_000;

impl Needs {
    /// Those of a run with this configuration and data.
    pub fn new(config: &RunConfig, data: &Dataset) -> Needs {
        let (model, train) = (&config.model, &config.train);
        let n_params = Model::layout(model).map_or(0, |layout| layout.flat_len() as u64);
        let n_moments = train.optimizer.moments().len() as u64;
        let cut = Cut::new(train.batch_size, model.block_size, n_params as usize);
        let threads = rayon::current_num_threads() as u64;
        let training = threads.min(cut.replicas as u64).saturating_mul(tokens_in_pool(&cut, config, data));
        let evaluating = threads.saturating_mul((evaluate::TOKENS as u64).max(model.block_size as u64));
        let (width, inner) = (model.n_embd as u64, model.n_inner as u64);
        let times = |n: u64| width.saturating_mul(n).saturating_add(inner);
        let head = 2 * model.vocab_size as u64;
        // What each block keeps; and on the way back the gradients within one of them.
        let blocks = (model.n_layer as u64).saturating_mul(times(8));
        let trained = blocks.saturating_add(times(7)).saturating_add(head);
        let evaluated = times(12).saturating_add(head);
        let activations =
            training.saturating_mul(trained).saturating_add(evaluating.saturating_mul(evaluated));
        let floats = |n: u64| n.saturating_mul(4);
        let splits = [data.train(), data.val(), data.test()];
        let text: u64 = splits.iter().map(|split| split.tokens().len() as u64).sum();
        let checkpoint = floats(n_params).saturating_mul(1 + n_moments);
        let n_checkpoints = (train.keep as u64).saturating_add(3);
        Needs {
            weights: floats(n_params).saturating_mul(2),
            optimizer: floats(n_params).saturating_mul(n_moments + cut.replicas as u64),
            activations: floats(activations),
            data: PROGRAM + PER_TOKEN * text + PER_NGRAM * text.min(DISTINCT),
            disk: checkpoint.saturating_mul(n_checkpoints).saturating_add(floats(n_params)),
        }
    }

    /// Memory in all.
    pub fn memory(&self) -> u64 {
        let parts = [self.weights, self.optimizer, self.activations, self.data];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// Refuses a run that the memory that is free now cannot hold, where the system says how much that is.
    ///
    /// # Errors
    /// [`Error::TooLittleMemory`].
    pub fn check_memory(&self) -> Result<(), Error> {
        memory::check("the run", self.memory(), "make --batch-size, --block-size or the model smaller")
    }

    /// Refuses a run whose files do not fit on the disk of its directory, where the system says how much that is. Files that are
    /// there already, as those of a run that goes on, do not count.
    ///
    /// # Errors
    /// [`Error::TooLittleDisk`].
    pub fn check_disk(&self, directory: &RunDir) -> Result<(), Error> {
        let needed = self.disk.saturating_sub(directory.size());
        match free_disk(directory.path()) {
            Some(free) if needed > free => {
                let name = directory.path().to_string_lossy().into_owned();
                Err(Error::TooLittleDisk { name, needed, free })
            }
            _ => Ok(()),
        }
    }
}

/// Tokens for which a pool has memory: those of a part of a batch, in each of the lengths that it may be trimmed to.
fn tokens_in_pool(cut: &Cut, config: &RunConfig, data: &Dataset) -> u64 {
    let (rows, block_size) = (cut.rows as u64, config.model.block_size);
    let train = data.train();
    if train.format() == Format::Text {
        return rows.saturating_mul(block_size as u64);
    }
    let n = train.n_documents();
    let length = |d| (train.document(d).len() - 1).min(block_size);
    let mut lengths: Vec<usize> = (0..n).map(length).collect();
    lengths.sort_unstable();
    // The longest of the rows decides. What hardly ever comes up in the run is left out.
    let share = |most: usize| {
        let shorter = lengths.partition_point(|len| *len <= most);
        (shorter as f64 / n as f64).powi(rows as i32)
    };
    let lines = config.train.max_iters as f64 * (config.train.batch_size * config.train.grad_accum) as f64;
    let comes_up = |most: &usize| (share(*most) - share(most - 4)) * lines / rows as f64 >= 0.1;
    let sizes = (4..block_size + 4).step_by(4).filter(comes_up);
    rows.saturating_mul(sizes.sum::<usize>() as u64)
}

/// Bytes that may still be written where `directory` is.
pub fn free_disk(directory: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(directory).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
