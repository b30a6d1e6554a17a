//! The transformer and what trains it: from a text to a model, and from a model to more text.
//!
//! ```
//! use weft_model::config::{ModelConfig, TrainConfig};
//! use weft_model::evaluate::evaluate;
//! use weft_model::generate::{SampleConfig, generate};
//! use weft_model::model::Model;
//! use weft_model::text::{Corpus, Dataset, SplitFractions};
//! use weft_model::train::{Event, Trainer};
//!
//! # fn main() -> Result<(), weft_model::Error> {
//! let corpus = Corpus::from_str("greetings", "hello\nhallo\nhola\nhullo\nhalo\n", None)?;
//! let data = Dataset::new(&corpus, 1, SplitFractions::default())?;
//! let config = ModelConfig { vocab_size: data.vocab().len(), n_layer: 1, n_embd: 16, n_inner: 64, ..Default::default() };
//! let (model, params) = Model::new(&config, 1)?;
//!
//! let run = TrainConfig { batch_size: 4, max_iters: 50, warmup_iters: 5, lr_decay_iters: 50, ..Default::default() };
//! let mut trainer = Trainer::new(run, model, params, data)?;
//! for event in trainer.by_ref() {
//!     if let Event::Evaluated { step, val: Some(val), .. } = event? {
//!         println!("step {step}: {:.2} nats per token", val.loss);
//!     }
//! }
//!
//! let (model, params, data) = (trainer.model(), trainer.params(), trainer.data());
//! assert!(evaluate(model, params, data.train()).loss < 1.5);
//! for sample in generate(model, params, data.vocab(), &[], 0, 3, &SampleConfig::default())? {
//!     println!("{}", data.vocab().decode(&sample.tokens)?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! To learn how it works, read in this order: [`ngram`] counts what follows what; [`bigram`] learns the same by gradient;
//! [`layers`] builds up attention from similarities between tokens; [`transformer`] is the whole model on a page; [`train`] is the
//! loop, and [`generate`] draws from the result.
#![forbid(unsafe_code)]

pub mod bench;
pub mod bigram;
pub mod checkpoint;
pub mod config;
pub mod directional;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod health;
pub mod init;
pub mod layers;
pub mod memory;
pub mod model;
pub mod ngram;
pub mod optim;
pub mod profile;
pub mod run;
pub mod safetensors;
pub mod text;
pub mod train;
pub mod transformer;

pub use error::Error;
