//! Operations on arrays of any layout: what [`Tensor`](crate::Tensor) methods and the tape's primitives share.
//!
//! Inputs are [`View`](crate::View)s, strided and possibly broadcast; outputs are row by row in a slice of the caller's, written or
//! added to as [`Grad`](crate::Grad) says. Shape rules are functions that return a [`ShapeError`](crate::ShapeError); the operations
//! themselves panic when shapes do not fit.
//!
//! Sums add in an order that follows from the shape and the axes alone, whatever the strides, the SIMD level and the
//! number of threads: see [`sum`].

mod elementwise;
mod index;
mod layout;
mod matmul;
mod reduce;
mod walk;

use std::ops::Range;

use crate::kernels::split::{Out, by_rows};

pub use elementwise::{Binary, binary, broadcast_shape, copy, copy_into, select};
pub use index::{
    check_ids, concat, concat_shape, gather, gather_backward, gather_shape, index_select,
    index_select_backward, one_hot, slice_backward,
};
pub(crate) use layout::resized;
pub use layout::{Layout, fit};
pub use matmul::{matmul, matmul_shape};
pub use reduce::{argmax, max, max_shape, mean, reduced_shape, sum, sum_to, variance};

/// Outputs from which on an operation is split over threads: below, waking a worker costs more than it saves.
const SPLIT_FROM: usize = 1 << 18;
/// Elements that a piece of work reads; dropout needs a multiple of 64.
const PIECE: usize = 1 << 16;

/// Calls `f` with ranges of output elements and the memory for them, in parallel if there is enough to do.
///
/// `cost` is the number of elements read for one of output. The ranges follow from the sizes alone.
pub(crate) fn split<T: Send>(out: &mut [T], cost: usize, f: impl Fn(Range<usize>, &mut [T]) + Sync) {
    if out.len().saturating_mul(cost) < SPLIT_FROM {
        return f(0..out.len(), out);
    }
    let piece = (PIECE / cost.max(1)).max(1);
    let len = out.len();
    by_rows(true, len, piece, (0..len, Out(out, 1)), &|(range, Out(out, _))| f(range, out));
}
