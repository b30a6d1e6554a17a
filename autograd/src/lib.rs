//! Reverse-mode automatic differentiation over [`weft_tensor`]'s kernels.
//!
//! A [`Tape`] records operations as they run; [`Var::backward`] walks it in reverse. To add an operation, read [`ops`].
#![forbid(unsafe_code)]

pub mod gradcheck;
pub mod ops;
mod params;
mod tape;

pub use params::{Grads, ParamId, ParamLayout, Params};
pub use tape::{Pool, Tape, Var};
