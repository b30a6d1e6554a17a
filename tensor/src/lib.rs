//! Tensors, views and SIMD kernels: the arithmetic under a transformer, without gradients.
//!
//! [`Tensor`] is an array with operators, for code that should read like its formula. [`strided`] holds the same
//! operations on borrowed [`View`]s, and [`kernels`] the hot loops on slices, written once over the sixteen lanes of
//! [`simd`] and compiled for every instruction set. [`random`] draws numbers that depend on where they are used and on
//! nothing else. Results have the same bits at every SIMD level and for any number of threads.
//!
//! ```
//! use weft_tensor::Tensor;
//!
//! // Attention of two queries over three keys, by hand.
//! let (q, k) = (Tensor::<f32>::normal([2, 4], 1), Tensor::normal([3, 4], 2));
//! let v = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3, 2]);
//! let scores = q.matmul(&k.transpose(0, 1)) / 2.0; // (2, 3)
//! let weights = scores.softmax(1);
//! let y = weights.matmul(&v); // (2, 2)
//!
//! assert_eq!(y.shape(), [2, 2].into());
//! assert!((weights.sum(&[1], false) - 1.0).abs().max(&[0], false).item() < 1e-6);
//! ```

pub mod buffer;
pub mod kernels;
pub mod math;
pub mod peak;
pub mod random;
mod real;
pub mod shape;
pub mod simd;
pub mod strided;
mod tensor;
pub mod view;

pub use buffer::{Buffer, Pool};
pub use kernels::Grad;
pub use real::Real;
pub use shape::{Shape, ShapeError};
pub use tensor::Tensor;
pub use view::View;
