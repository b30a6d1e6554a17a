//! The numbers of a run that suit its data.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::{ModelConfig, TrainConfig};
use crate::text::{Format, SplitFractions};

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
}
