//! The numbers of a run that suit its data.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::{ModelConfig, TrainConfig};
use crate::model::Model;
use crate::text::{Format, SplitFractions};
use crate::train::Cut;

/// Which data to read, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// The file as it was named; `None` for the names that are built in.
    pub file: Option<String>,
    /// How it is cut into documents.
    pub format: Format,
    /// Whether invalid bytes are replaced.
    pub lossy: bool,
    /// The fractions of the splits.
    pub split: SplitFractions,
}

/// Everything that decides about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// The model.
    pub model: ModelConfig,
    /// Its training.
    pub train: TrainConfig,
    /// Its data.
    pub data: DataConfig,
}

impl RunConfig {
    /// The longest context that lines get by themselves.
    pub const MAX_LINE_BLOCK: usize = 64;

    /// The defaults for these data: `longest` is [`Dataset::longest`](crate::text::Dataset::longest).
    ///
    /// Lines: width 64, a context that holds the longest line (up to 64 tokens), batches of 32 lines. Running text: width 128, a
    /// context of 64, batches of 12.
    pub fn for_data(data: DataConfig, vocab_size: usize, longest: usize) -> RunConfig {
        let (model, train) = (ModelConfig::default(), TrainConfig::default());
        match data.format {
            Format::Lines => RunConfig {
                model: ModelConfig {
                    vocab_size,
                    block_size: longest.next_multiple_of(4).clamp(4, Self::MAX_LINE_BLOCK),
                    ..model
                },
                train,
                data,
            },
            Format::Text => RunConfig {
                model: ModelConfig { vocab_size, block_size: 64, n_embd: 128, n_inner: 512, ..model },
                train: TrainConfig {
                    batch_size: 12,
                    learning_rate: 1e-3,
                    min_lr: 1e-4,
                    max_iters: 2000,
                    lr_decay_iters: 2000,
                    eval_interval: 250,
                    ..train
                },
                data,
            },
        }
    }

    /// Refuses what cannot be run, naming the key.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::SplitFractions`].
    pub fn validate(&self) -> Result<(), Error> {
        self.model.validate()?;
        self.train.validate()?;
        self.data.split.validate().map(drop)
    }

    /// Bytes that training takes at its peak, roughly: what belongs to each parameter, and what each thread keeps of a part of the
    /// batch for its way back.
    pub fn memory(&self) -> u64 {
        let (model, train) = (&self.model, &self.train);
        let n_params = Model::layout(model).map_or(0, |layout| layout.flat_len() as u64);
        let cut = Cut::new(train.batch_size, model.block_size, n_params as usize);
        // Weights as they are and packed, moments, and the gradient of each replica.
        let copies = 2 + train.optimizer.moments().len() as u64 + cut.replicas as u64;
        let threads = rayon::current_num_threads().min(cut.replicas) as u64;
        let tokens = threads.saturating_mul(cut.rows as u64).saturating_mul(model.block_size as u64);
        let (width, inner) = (model.n_embd as u64, model.n_inner as u64);
        let block = width.saturating_mul(8).saturating_add(inner);
        let per_token =
            (model.n_layer as u64).saturating_mul(block).saturating_add(2 * model.vocab_size as u64);
        let floats = n_params.saturating_mul(copies).saturating_add(tokens.saturating_mul(per_token));
        floats.saturating_mul(4)
    }

    /// Refuses a run that the memory that is free now cannot hold, where the system says how much that is.
    ///
    /// # Errors
    /// [`Error::TooLittleMemory`].
    pub fn check_memory(&self) -> Result<(), Error> {
        let (needed, free) = (self.memory(), free_memory());
        match free {
            Some(free) if needed > free => Err(Error::TooLittleMemory { needed, free }),
            _ => Ok(()),
        }
    }
}

/// Bytes that could be had without swapping (Linux).
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
