//! Matrix multiplication: C = A · B (+ C) (+ bias) (+ residual), for any strides of A and B.
//!
//! The idea, the paths and the blocks are drawn in the README beside this file. Every element of C is one chain of
//! fused multiply-adds over k in order, which starts from zero (or from C, to accumulate), then the bias is added, then
//! the residual. So the bits of a result do not depend on tile, block, path, instruction set or threads.

#![expect(clippy::needless_range_loop, reason = "loops over i, p, v name the indices of the formula")]

mod bf16;
#[cfg(target_arch = "x86_64")]
mod bf16_dot;
mod blocks;
pub(super) mod chains;
mod few_rows;
pub(super) mod format;
mod mat;
pub(super) mod pack;
mod rows;
mod split;
mod tile;
mod weight;

pub use bf16::{PackedBf16, has_bf16, matmul_bf16, matmul_packed_bf16, pack_bf16_into, packed_bf16_len};
pub use mat::{Mat, MatMut};
pub use pack::{Packed, pack_into, packed_len};
pub use weight::{PackedWeight, Packing, Precision, Weight};

use crate::Real;
use blocks::{Job, Right};
use tile::Ends;

/// What is added to a product besides itself. The default is nothing: C is overwritten, and never read.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// Add to what C holds.
    pub add: bool,
    /// One number per column of C.
    pub bias: Option<&'a [T]>,
    /// One number per element of C, laid out like C, with the same distance between rows.
    pub residual: Option<&'a [T]>,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue { add: false, bias: None, residual: None }
    }
}

/// C = A · B, plus what `epilogue` says. A is (m, k), B (k, n), C (m, n); a product over k = 0 is zero.
///
/// From 4 MFLOP on the work is split over the threads of the current rayon pool.
///
/// # Panics
/// If the shapes do not fit, or bias or residual are too short.
#[track_caller]
pub fn matmul<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>, c: MatMut<'_, T>, epilogue: Epilogue<'_, T>) {
    if let Some(job) = job(a, Right::Plain(b), c, epilogue) {
        split::run(job);
    }
}

/// [`matmul`] with a B that [`pack_into`] has packed; the same bits.
///
/// # Panics
/// As [`matmul`].
#[track_caller]
pub fn matmul_packed<T: Real>(a: Mat<'_, T>, b: Packed<'_, T>, c: MatMut<'_, T>, epilogue: Epilogue<'_, T>) {
    if let Some(job) = job(a, Right::Packed(b), c, epilogue) {
        split::run(job);
    }
}

/// A batch of matrices of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, T> {
    /// The first; its data reach to the end of the last.
    pub first: Mat<'a, T>,
    /// Elements from one matrix to the next; 0 repeats the first.
    pub stride: usize,
}

/// `c[i] = a[i] · b[i]` (`+ c[i]` if `add`), for each i of a batch of `n_batch` independent products; the results
/// (n_batch, m, n) lie one after the other.
///
/// The batch is spread over the threads of the current rayon pool, product by product.
///
/// # Panics
/// If the shapes do not fit, `c` does not hold exactly the results, or the data of `a` or `b` end before the last item.
#[track_caller]
pub fn matmul_batched<T: Real>(n_batch: usize, a: Batch<'_, T>, b: Batch<'_, T>, c: &mut [T], add: bool) {
    let (m, n) = (a.first.rows, b.first.cols);
    assert_eq!(c.len(), n_batch * m * n, "matmul: {n_batch} results of {m}×{n} need another length");
    if c.is_empty() {
        return;
    }
    a.check(n_batch);
    b.check(n_batch);
    assert_inner(a.first.cols, b.first.rows);
    split::run_batch(0, a, b, c, add);
}

impl<'a, T> Batch<'a, T> {
    /// Matrix `i`.
    fn at(&self, i: usize) -> Mat<'a, T> {
        Mat { data: self.first.data.get(i * self.stride..).unwrap_or_default(), ..self.first }
    }

    /// Panics if matrix `n_batch` − 1 reaches beyond the data.
    #[track_caller]
    fn check(&self, n_batch: usize) {
        let last = (n_batch - 1).checked_mul(self.stride).expect("matmul: the batch exceeds all memory");
        let data = self.first.data.get(last..).unwrap_or_default();
        let Mat { rows, cols, row_stride, col_stride, .. } = self.first;
        Mat::with_strides(data, rows, cols, row_stride, col_stride);
    }
}

/// Checks the shapes; `None` if C has no elements.
#[track_caller]
fn job<'a, T: Real>(
    a: Mat<'a, T>,
    b: Right<'a, T>,
    c: MatMut<'a, T>,
    epilogue: Epilogue<'a, T>,
) -> Option<Job<'a, T>> {
    let (rows, cols) = match b {
        Right::Plain(b) | Right::Bf16(b) => (b.rows, b.cols),
        Right::Packed(b) => (b.rows, b.cols),
        Right::PackedBf16(b) => (b.rows, b.cols),
    };
    assert_inner(a.cols, rows);
    assert!(
        (c.rows, c.cols) == (a.rows, cols),
        "matmul: the result of {}×{} and {rows}×{cols} does not fit {}×{}",
        a.rows,
        a.cols,
        c.rows,
        c.cols
    );
    if c.rows == 0 || c.cols == 0 {
        return None;
    }
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), cols, "matmul: bias and columns differ");
    }
    let residual = epilogue.residual.map(|data| Mat::with_strides(data, c.rows, c.cols, c.row_stride, 1));
    Some(Job { a, b, c, ends: Ends { from_c: epilogue.add, bias: epilogue.bias, residual } })
}

#[track_caller]
fn assert_inner(a_cols: usize, b_rows: usize) {
    assert_eq!(a_cols, b_rows, "matmul: inner dimensions differ");
}
