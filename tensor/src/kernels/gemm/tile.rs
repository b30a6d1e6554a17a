//! Loops 1 and 2: the microkernel, and the sweep of a block of rows over the strips of B.

use super::mat::{Mat, MatMut};
use super::pack::{Strips, pack_columns};
use crate::simd::{LANES, Simd};

/// The most rows that a tile has at any level.
pub(super) const PANEL_ROWS: usize = 14;

/// What happens to an element of C besides its chain of products.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a, T> {
    /// The chain starts from what C holds, instead of zero.
    pub(super) from_c: bool,
    /// Added behind the chain, one number per column.
    pub(super) bias: Option<&'a [T]>,
    /// Added after the bias.
    pub(super) residual: Option<Mat<'a, T>>,
}

/// C (m × n) = A (m × k) · B (k × n) for operands that fit the caches: loop 2 over blocks of rows, dealt evenly.
///
/// With a `panel` ([`PANEL_ROWS`] · k elements), each block of rows of A is first packed into it.
#[inline(always)]
pub(super) fn sweep<S: Simd>(
    simd: S,
    a: Mat<'_, S::T>,
    b: Strips<'_, S::T>,
    mut c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
    mut panel: Option<&mut [S::T]>,
) {
    let (m, n) = (a.rows, c.cols);
    let blocks = m.div_ceil(S::TILE_ROWS);
    let mut i = 0;
    for block in 0..blocks {
        let rows = m / blocks + usize::from(block < m % blocks);
        let mut a = a.block(i..i + rows, 0..a.cols);
        if let Some(panel) = panel.as_deref_mut() {
            pack_columns(simd, a.t(), panel, rows, rows);
            a = Mat { data: panel, row_stride: 1, col_stride: rows, ..a };
        }
        let c = c.block(i..i + rows, 0..n);
        let ends = Ends { residual: ends.residual.map(|r| r.block(i..i + rows, 0..n)), ..ends };
        /// One instance of the row block per number of rows.
        macro_rules! instances {
            ($($rows:literal)*) => {
                match rows {
                    $($rows if $rows <= S::TILE_ROWS => row_block::<S, $rows>(simd, a, b, c, ends),)*
                    _ => unreachable!("a block has at most TILE_ROWS rows"),
                }
            };
        }
        instances!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        i += rows;
    }
}

/// Loop 1: `MR` rows of A, which stay in the first-level cache, against one strip of B after the other.
#[inline(always)]
fn row_block<S: Simd, const MR: usize>(
    simd: S,
    a: Mat<'_, S::T>,
    b: Strips<'_, S::T>,
    mut c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
) {
    let n = c.cols;
    let mut j = 0;
    while j < n {
        let (strip, stride) = b.at(j, n);
        if S::TILE_VECTORS == 2 && n - j > LANES {
            tile::<S, MR, 2>(simd, a, strip, stride, &mut c, j, ends);
            j += 2 * LANES;
        } else {
            tile::<S, MR, 1>(simd, a, strip, stride, &mut c, j, ends);
            j += LANES;
        }
    }
}

/// The microkernel: `MR` rows by `NV` vectors of C in registers, and per step of k `NV` loads, `MR` broadcasts and
/// `MR` · `NV` fused multiply-adds. `b` holds a row of `NV` full vectors every `stride` elements.
#[inline(always)]
fn tile<S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    a: Mat<'_, S::T>,
    b: &[S::T],
    stride: usize,
    c: &mut MatMut<'_, S::T>,
    j: usize,
    ends: Ends<'_, S::T>,
) {
    assert!(a.rows == MR && c.rows == MR);
    let width = (c.cols - j).min(NV * LANES);
    let mut acc = [[simd.zero(); NV]; MR];
    if ends.from_c {
        for i in 0..MR {
            let row = c.row(i, j..j + width);
            for v in 0..NV {
                acc[i][v] = simd.load_up_to(&row[v * LANES..]);
            }
        }
    }
    for p in 0..a.cols {
        let row = &b[p * stride..][..NV * LANES];
        let mut x = [simd.zero(); NV];
        for v in 0..NV {
            x[v] = simd.load(&row[v * LANES..]);
        }
        for i in 0..MR {
            let w = simd.splat(a.data[i * a.row_stride + p * a.col_stride]);
            for v in 0..NV {
                acc[i][v] = simd.mul_add(w, x[v], acc[i][v]);
            }
        }
    }
    if let Some(bias) = ends.bias {
        for v in 0..NV {
            let bias = simd.load_up_to(&bias[j + v * LANES..j + width]);
            for i in 0..MR {
                acc[i][v] = simd.add(acc[i][v], bias);
            }
        }
    }
    if let Some(residual) = ends.residual {
        for i in 0..MR {
            let row = &residual.data[i * residual.row_stride..][j..j + width];
            for v in 0..NV {
                acc[i][v] = simd.add(acc[i][v], simd.load_up_to(&row[v * LANES..]));
            }
        }
    }
    for i in 0..MR {
        let row = c.row(i, j..j + width);
        for v in 0..NV {
            simd.store_up_to(&mut row[v * LANES..], acc[i][v]);
        }
    }
}
