//! Packing of A, where reading it in place would keep missing the cache: rows or columns that lie whole pages apart
//! share a few of its sets, and a large A in columns gives a narrow tile a part of each line only.

use super::mat::Mat;
use crate::dispatch;
use crate::simd::{LANES, Simd};

/// Blocks of rows that are packed at a time, so that a visit to a column's page is worth 200 to 400 bytes.
pub(super) const PANEL_BLOCKS: usize = 8;

/// The most rows that a block has at any level.
const MOST_ROWS: usize = 14;

/// Elements between the end of a packed row and the next, which puts neighbours into different sets of the cache.
const SKEW: usize = LANES;

/// Columns of A between the one that is copied and the one that is asked for.
const AHEAD: usize = 8;

/// Elements that [`pack_panel`] needs at most for rows of length `k`.
pub(super) fn panel_len(k: usize) -> usize {
    PANEL_BLOCKS * (MOST_ROWS * (k + SKEW) + LANES)
}

dispatch! {
    /// Copies blocks of as many rows as `heights` says from the top of `a`: a row-major matrix row by row, another into one
    /// matrix of contiguous columns per block. Apart from the products, as is [`pack`](super::pack::pack).
    pub(super) fn pack_panel<T>(a: Mat<'_, T>, heights: [usize; PANEL_BLOCKS], panel: &mut [T]) = pack_panel_on
}

/// See [`pack_panel`].
#[inline(always)]
fn pack_panel_on<S: Simd>(simd: S, a: Mat<'_, S::T>, heights: [usize; PANEL_BLOCKS], panel: &mut [S::T]) {
    let k = a.cols;
    let rows: usize = heights.iter().sum();
    if a.col_stride == 1 {
        for i in 0..rows {
            panel[i * (k + SKEW)..][..k].copy_from_slice(&a.data[i * a.row_stride..][..k]);
        }
        return;
    }
    for p in 0..k {
        for line in (0..rows).step_by(LANES) {
            simd.prefetch(a.data, (p + AHEAD) * a.col_stride + line * a.row_stride);
        }
        let mut i = 0;
        for (block, height) in heights.into_iter().enumerate() {
            let to = &mut panel[block_start(block, k) + p * height..][..LANES];
            let from = a.data.get(p * a.col_stride + i * a.row_stride..).unwrap_or_default();
            if a.row_stride == 1 {
                // A whole vector: what lies beyond `height` is overwritten by the next p. With masked stores of
                // `height` elements AVX2 reaches 50 % of the peak at 1024³ instead of 70 %.
                simd.store(to, if from.len() < LANES { simd.load_up_to(from) } else { simd.load(from) });
            } else {
                for q in 0..height {
                    to[q] = from[q * a.row_stride];
                }
            }
            i += height;
        }
    }
}

/// Where a block of contiguous columns begins; vectors may be stored beyond its end.
#[inline(always)]
fn block_start(block: usize, k: usize) -> usize {
    block * (MOST_ROWS * k + LANES)
}

/// Block number `block`, of `rows` rows, which begins `i` rows into what [`pack_panel`] has copied.
#[inline(always)]
pub(super) fn packed_block<T>(
    panel: &[T],
    (block, i): (usize, usize),
    (rows, k): (usize, usize),
    row_major: bool,
) -> Mat<'_, T> {
    let (start, row_stride, col_stride) =
        if row_major { (i * (k + SKEW), k + SKEW, 1) } else { (block_start(block, k), 1, rows) };
    Mat { data: &panel[start..], rows, cols: k, row_stride, col_stride }
}
