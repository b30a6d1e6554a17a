//! Tensors, views and SIMD kernels.

pub mod buffer;
pub mod kernels;
pub mod math;
mod real;
pub mod simd;

pub use buffer::{Buffer, Pool};
pub use real::Real;
