//! The transformer and what trains it.
#![forbid(unsafe_code)]

pub mod error;
pub mod files;
pub mod ngram;
pub mod safetensors;
pub mod text;

pub use error::Error;
