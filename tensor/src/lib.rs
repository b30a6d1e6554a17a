//! Tensors, views and SIMD kernels.

pub mod buffer;
pub mod kernels;
pub mod math;
pub mod peak;
mod real;
pub mod shape;
pub mod simd;
pub mod view;

pub use buffer::{Buffer, Pool};
pub use kernels::Grad;
pub use real::Real;
pub use shape::{Shape, ShapeError};
pub use view::View;
