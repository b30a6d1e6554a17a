//! The transformer and what trains it.
#![forbid(unsafe_code)]

pub mod bigram;
pub mod config;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod generate;
pub mod init;
pub mod layers;
pub mod model;
pub mod ngram;
pub mod optim;
pub mod safetensors;
pub mod text;
pub mod train;
pub mod transformer;

pub use error::Error;
