//! From a text file to batches of token ids.
//!
//! [`Corpus`] reads the file and cuts it into documents; [`Vocab`] numbers its characters; [`Dataset`] splits it into
//! train, validation and test; [`TrainBatches`] and [`EvalBatches`] cut a split into rows. Nothing here carries a
//! state from step to step: a batch is a pure function of (seed, step), so that a resumed run is the same run.
//!
//! ```
//! use weft_model::text::{BatchShape, Corpus, Dataset, Format, SplitFractions, TrainBatches, Trim};
//!
//! let corpus = Corpus::from_str("names", "ada\ngrace\nemmy\n", Some(Format::Lines))?;
//! let data = Dataset::new(&corpus, 1, SplitFractions::default())?;
//! let shape = BatchShape { batch_size: 2, block_size: 8, trim: Trim::Off };
//! let batch = TrainBatches::new(data.train(), 1, shape, 1).batch(0, 0);
//! assert_eq!(batch.inputs.len(), 2 * 8);
//! # Ok::<(), weft_model::Error>(())
//! ```

mod batch;
mod corpus;
mod dataset;
mod guess;
mod note;
mod random;
mod read;
mod vocab;

pub use batch::{Batch, BatchShape, EvalBatches, IGNORE, TrainBatches, Trim};
pub use corpus::{Corpus, Format};
pub use dataset::{Dataset, SharedDocuments, Split, SplitFractions, SplitName};
pub use guess::Guess;
pub use note::Note;
pub use read::MAX_BYTES;
pub(crate) use read::kind_of;
pub use vocab::{BOUNDARY, BOUNDARY_LABEL, Vocab};
