//! Reverse-mode automatic differentiation over [`weft_tensor`]'s kernels.
//!
//! A [`Tape`] records operations as they run; [`Var::backward`] walks it in reverse and adds the gradients of the parameters to a
//! flat buffer of the caller's. The tape borrows the parameters, so they can change only when it is gone:
//!
//! ```
//! use weft_autograd::{Grads, ParamLayout, Params, Pool, Tape};
//!
//! let mut layout = ParamLayout::new();
//! let [w, b] = [layout.add("weight", [1, 2]), layout.add("bias", [1])];
//! let mut params: Params = Params::zeros(layout);
//! let mut grads = Grads::new(&params);
//! let pool = Pool::new(); // keeps memory from step to step
//!
//! // Learn y = 2 x₀ − x₁ + 3 from four points by gradient descent.
//! let (x, y) = ([0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [3.0, 5.0, 2.0, 4.0]);
//! for _ in 0..500 {
//!     grads.reset();
//!     {
//!         let tape = Tape::new(&params, &pool);
//!         let x = tape.constant_from_f64(&x, [4, 2]);
//!         let y = tape.constant_from_f64(&y, [4, 1]);
//!         let error = x.linear(tape.param(w), Some(tape.param(b))) - y; // (4, 1)
//!         let loss = (error * error).mean(&[0, 1], false);
//!         loss.backward(&mut grads);
//!     } // its buffers return to the pool, the borrow of `params` ends
//!     for id in [w, b] {
//!         let grad = grads.get(id).expect("the loss depends on both").to_vec();
//!         for (p, g) in params.get_mut(id).iter_mut().zip(grad) {
//!             *p -= 0.3 * g;
//!         }
//!     }
//! }
//! assert!((params.get(w)[0] - 2.0).abs() < 1e-3 && (params.get(w)[1] + 1.0).abs() < 1e-3);
//! assert!((params.get(b)[0] - 3.0).abs() < 1e-3);
//! ```
//!
//! Everything is generic over `f32`, to train with, and `f64`, to check gradients with ([`gradcheck`]). To add an operation, read
//! [`ops`]; how the walk back works is told in the README beside the [`tape`](Tape).
#![forbid(unsafe_code)]

mod anomaly;
pub mod gradcheck;
pub mod ops;
mod params;
mod profile;
#[cfg(doctest)]
mod readme;
mod tape;

pub use anomaly::{Anomaly, Extent};
pub use params::{Grads, ParamId, ParamLayout, Params};
pub use profile::{Entry, Profile};
pub use tape::{Pool, Tape, Var};
pub use weft_tensor::kernels::gemm::{Packing, Precision};
