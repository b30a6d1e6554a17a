//! Embeddings: rows of a table picked by token id, rows of another by position, and their gradients.

use super::Grad;
use crate::simd::{LANES, Simd};
use crate::strided::{check_ids, fit};
use crate::{Real, dispatch};

/// Learned positions: row `first + t` of a table is added to token `t` of every sequence.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a, T> {
    /// One row of C numbers per position, (block_size, C).
    pub table: &'a [T],
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// The position of the first token.
    pub first: usize,
}

/// y\[i\] = table\[ids\[i\]\], plus the row of the token's position if there are `positions`.
///
/// Shapes: `ids` (N), `table` (V, C), `y` (N, C), where N is any number of sequences of `positions.seq_len` tokens.
///
/// # Panics
/// If the sizes do not fit, an id is not below V, or a position is beyond its table.
#[track_caller]
pub fn embedding<T: Real>(
    ids: &[u32],
    table: &[T],
    cols: usize,
    positions: Option<Positions<'_, T>>,
    y: &mut [T],
) {
    assert!(cols > 0 && table.len().is_multiple_of(cols), "embedding: the table is not rows of {cols}");
    assert_eq!(y.len(), ids.len() * cols, "embedding: y is not one row of {cols} for each id");
    fit(check_ids("embedding", ids, table.len() / cols));
    if let Some(positions) = positions {
        let end = positions.first + positions.seq_len;
        assert!(end * cols <= positions.table.len(), "embedding: position {end} is beyond the table");
        assert!(positions.seq_len > 0 || ids.is_empty(), "embedding: sequences of no tokens");
    }
    gather_rows(ids, table, cols, positions, y);
}

/// Adds row `i` of `dy` to row `ids[i]` of `dtable`, in order of `i`.
///
/// Shapes: `ids` (N), `dy` (N, C), `dtable` (V, C). Rows of ids that do not occur are zero if the gradient is
/// overwritten.
///
/// # Panics
/// If the sizes do not fit or an id is not below V.
#[track_caller]
pub fn embedding_backward<T: Real>(ids: &[u32], dy: &[T], cols: usize, dtable: Grad<'_, T>) {
    assert!(cols > 0 && dtable.data.len().is_multiple_of(cols), "embedding: the table is not rows of {cols}");
    assert_eq!(dy.len(), ids.len() * cols, "embedding: dy is not one row of {cols} for each id");
    fit(check_ids("embedding", ids, dtable.data.len() / cols));
    scatter_rows(ids, dy, cols, begin(dtable));
}

/// Adds row `t` of every sequence to row `first + t` of `dtable`, one sequence after another.
///
/// Shapes: `dy` (B · `seq_len`, C), `dtable` (block_size, C). Rows of positions that do not occur are zero if the
/// gradient is overwritten.
///
/// # Panics
/// If the sizes do not fit or a position is beyond the table.
#[track_caller]
pub fn positions_backward<T: Real>(dy: &[T], seq_len: usize, first: usize, cols: usize, dtable: Grad<'_, T>) {
    let len = seq_len * cols;
    assert!(
        dy.is_empty() || len > 0 && dy.len().is_multiple_of(len),
        "positions: dy is not sequences of {seq_len}"
    );
    let rows = begin(dtable).get_mut(first * cols..first * cols + len);
    let rows = rows.unwrap_or_else(|| panic!("positions: position {} is beyond the table", first + seq_len));
    for dy in dy.chunks(len.max(1)) {
        super::elementwise::axpy(T::ONE, dy, rows);
    }
}

/// The memory of a gradient that is about to be added to: zeros if it is to be overwritten.
fn begin<T: Real>(grad: Grad<'_, T>) -> &mut [T] {
    if !grad.add {
        grad.data.fill(T::ZERO);
    }
    grad.data
}

dispatch! {
    fn gather_rows<T>(ids: &[u32], table: &[T], cols: usize, positions: Option<Positions<'_, T>>, y: &mut [T]) = gather_rows_on
    fn scatter_rows<T>(ids: &[u32], dy: &[T], cols: usize, dtable: &mut [T]) = scatter_rows_on
}

#[inline(always)]
fn gather_rows_on<S: Simd>(
    simd: S,
    ids: &[u32],
    table: &[S::T],
    cols: usize,
    positions: Option<Positions<'_, S::T>>,
    y: &mut [S::T],
) {
    for (i, (&id, y)) in ids.iter().zip(y.chunks_exact_mut(cols)).enumerate() {
        let row = &table[id as usize * cols..][..cols];
        let Some(positions) = positions else {
            y.copy_from_slice(row);
            continue;
        };
        let position = &positions.table[(positions.first + i % positions.seq_len) * cols..][..cols];
        for ((y, a), b) in y.chunks_mut(LANES).zip(row.chunks(LANES)).zip(position.chunks(LANES)) {
            simd.store_up_to(y, simd.add(simd.load_up_to(a), simd.load_up_to(b)));
        }
    }
}

#[inline(always)]
fn scatter_rows_on<S: Simd>(simd: S, ids: &[u32], dy: &[S::T], cols: usize, dtable: &mut [S::T]) {
    for (&id, dy) in ids.iter().zip(dy.chunks_exact(cols)) {
        let row = &mut dtable[id as usize * cols..][..cols];
        for (row, dy) in row.chunks_mut(LANES).zip(dy.chunks(LANES)) {
            simd.store_up_to(row, simd.add(simd.load_up_to(row), simd.load_up_to(dy)));
        }
    }
}
