//! Loops 1 and 2: the microkernel, and the sweep of a block of rows over the strips of B.

use std::ops::Range;

use super::chains::{Columns, chains};
use super::format::{Format, Numbers};
use super::mat::{Mat, MatMut};
use super::pack::Strips;
use crate::simd::{LANES, Simd};

/// Steps of k from which on it pays to ask for the next tiles' operands ahead of time: some per cent at 1536³, lost time at 64³.
const PREFETCH_K: usize = 128;

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

impl<'a, T> Ends<'a, T> {
    /// Those of a part: these rows and columns of C, and a block of k that comes `after` another, and is the `last` or not.
    pub(super) fn of_block(self, after: bool, last: bool, rows: Range<usize>, cols: Range<usize>) -> Self {
        Ends {
            from_c: self.from_c || after,
            bias: self.bias.filter(|_| last).map(|bias| &bias[cols.clone()]),
            residual: self.residual.filter(|_| last).map(|residual| residual.block(rows, cols)),
        }
    }
}

/// C (m × n) = A (m × k) · B (k × n) for operands that fit the caches: loop 2 over blocks of rows, dealt evenly.
#[inline(always)]
pub(super) fn sweep<S: Simd>(
    simd: S,
    a: Mat<'_, S::T>,
    b: Strips<'_, S::T>,
    mut c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
) {
    let (m, n, k) = (a.rows, c.cols, a.cols);
    let blocks = m.div_ceil(S::TILE_ROWS);
    let mut i = 0;
    for block in 0..blocks {
        let rows = m / blocks + usize::from(block < m % blocks);
        let c = c.block(i..i + rows, 0..n);
        let ends = ends.of_block(false, true, i..i + rows, 0..n);
        rows_by_strips(simd, Numbers, a.block(i..i + rows, 0..k), b, c, ends);
        i += rows;
    }
}

/// [`row_block`] for at most [`Simd::TILE_ROWS`] rows.
#[inline(always)]
pub(super) fn rows_by_strips<S: Simd, F: Format<S>>(
    simd: S,
    format: F,
    a: Mat<'_, F::E>,
    b: Strips<'_, F::E>,
    c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
) {
    macro_rules! instances {
        ($($rows:literal)*) => {
            match a.rows {
                $($rows if const { $rows <= S::TILE_ROWS } => row_block::<S, F, $rows>(simd, format, a, b, c, ends),)*
                _ => unreachable!("a block has at most TILE_ROWS rows"),
            }
        };
    }
    instances!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// Loop 1: `MR` rows of A, which stay in the first-level cache, against one strip of B after the other.
#[inline(always)]
fn row_block<S: Simd, F: Format<S>, const MR: usize>(
    simd: S,
    format: F,
    a: Mat<'_, F::E>,
    b: Strips<'_, F::E>,
    mut c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
) {
    let n = c.cols;
    let mut j = 0;
    while j < n {
        let strip = b.at(j, n);
        // One row or two leave registers free on AVX2 too: with one vector they wait for their own sums.
        if const { S::TILE_VECTORS == 2 || MR * 3 <= S::TILE_ROWS } && n - j > LANES {
            tile::<S, F, MR, 2>(simd, format, a, strip, &mut c, j, ends);
            j += 2 * LANES;
        } else {
            tile::<S, F, MR, 1>(simd, format, a, strip, &mut c, j, ends);
            j += LANES;
        }
    }
}

/// The microkernel: `MR` rows by `NV` vectors of C in registers, and per step of k `NV` loads, `MR` broadcasts and
/// `MR` · `NV` fused multiply-adds. `b` holds a row of `NV` full vectors every `stride` elements.
#[inline(always)]
fn tile<S: Simd, F: Format<S>, const MR: usize, const NV: usize>(
    simd: S,
    format: F,
    a: Mat<'_, F::E>,
    (b, stride): (&[F::E], usize),
    c: &mut MatMut<'_, S::T>,
    j: usize,
    ends: Ends<'_, S::T>,
) {
    assert!(a.rows == MR && c.rows == MR && j <= c.cols);
    let width = (c.cols - j).min(NV * LANES);
    let mut acc = [[simd.zero(); NV]; MR];
    let full = width == NV * LANES;
    if ends.from_c {
        for i in 0..MR {
            let row = c.row(i, j..j + width);
            for v in 0..NV {
                let x = &row[v * LANES..];
                acc[i][v] = if full { simd.load(x) } else { simd.load_up_to(x) };
            }
        }
    }
    if a.cols >= PREFETCH_K {
        // The next tile's part of C is on its way while this one computes.
        if c.cols > j + width {
            for i in 0..MR {
                let row = c.row(i, j + width..c.cols);
                for v in 0..NV.min(row.len().div_ceil(LANES)) {
                    simd.prefetch(row, v * LANES);
                }
            }
        }
        // So are columns j and on of the next block of rows of A. A single row has none.
        if MR > 1 && a.col_stride == 1 && j < a.cols {
            for i in MR..2 * MR {
                for v in 0..NV {
                    simd.prefetch(a.data, i * a.row_stride + j + v * LANES);
                }
            }
        }
    }
    acc = chains::<S, F, MR, NV>(simd, format, a, Columns { data: b, stride, across: LANES }, acc);
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
    if full {
        // The masks of `store_up_to` would be a tenth of the work at 16³.
        for i in 0..MR {
            let row = c.row(i, j..j + width);
            for v in 0..NV {
                simd.store(&mut row[v * LANES..], acc[i][v]);
            }
        }
    } else {
        for i in 0..MR {
            let row = c.row(i, j..j + width);
            for v in 0..NV {
                simd.store_up_to(&mut row[v * LANES..], acc[i][v]);
            }
        }
    }
}
