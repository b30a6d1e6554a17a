//! Benchmarks: the named shapes, and training steps on them.
#![forbid(unsafe_code)]

pub mod shapes;
pub mod step;
