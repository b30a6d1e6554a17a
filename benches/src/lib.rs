//! Benchmarks: the named shapes, training steps on them, and the numbers that kernels are fed.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod numbers;
pub mod shapes;

pub use weft_model::bench::trainer;
