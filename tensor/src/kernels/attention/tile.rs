//! The product of a few rows with a panel of columns: what all seven products of attention are made of.
//!
//! Each element of the result is one chain of fused multiply-adds in the order of k, continued from what is there, so
//! no tile or block size shows in it.

use crate::kernels::gemm::Mat;
use crate::kernels::gemm::chains::{Columns, chains};
use crate::kernels::gemm::format::Numbers;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Sixteen neighbours in a row or strip.
pub(super) type Line<T> = [T; LANES];

/// The left operand: element (r, k) is `data[r · ld + k]`, or `data[k · ld + r]` if it is transposed.
#[derive(Clone, Copy)]
pub(super) struct Lhs<'a, T> {
    pub(super) data: &'a [T],
    pub(super) ld: usize,
}

/// The right operand: element (k, 16·v + lane) is `lines[k · step + v · across][lane]`.
#[derive(Clone, Copy)]
pub(super) struct Rhs<'a, T> {
    pub(super) lines: &'a [Line<T>],
    pub(super) step: usize,
    pub(super) across: usize,
}

impl<'a, T: Real> Rhs<'a, T> {
    /// Rows `first..` of rows that are `width` wide: see [`pack`](super::pack).
    #[inline(always)]
    pub(super) fn rows(data: &'a [T], first: usize, width: usize) -> Self {
        Rhs { lines: data[first * width..].as_chunks().0, step: width / LANES, across: 1 }
    }

    /// The transpose of rows `first..`, a multiple of 16, that lie in strips.
    #[inline(always)]
    pub(super) fn strips(data: &'a [T], first: usize, d: usize) -> Self {
        Rhs { lines: data[first * d..].as_chunks().0, step: 1, across: d }
    }
}

/// What the sums start from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a, T> {
    /// Zero.
    Zero,
    /// The values in the destination.
    There,
    /// The values in the destination, row r multiplied by element r.
    Times(&'a [T]),
}

/// Rows, vectors of columns, and terms of each sum.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) vectors: usize,
    pub(super) k: usize,
}

dispatch! {
    /// c (+)= a · b: rows of `ldc` elements each, of which the first `vectors` · 16 are written. Best by [`groups`].
    pub(super) fn product<T>(
        size: Size, a: Lhs<'_, T>, b: Rhs<'_, T>, start: Start<'_, T>, c: &mut [T], ldc: usize,
    ) = product_on

    /// [`product`] with a transposed left operand.
    pub(super) fn product_transposed<T>(
        size: Size, a: Lhs<'_, T>, b: Rhs<'_, T>, start: Start<'_, T>, c: &mut [T], ldc: usize,
    ) = product_transposed_on
}

/// The most rows in a group of [`groups`], at any level.
pub(super) const MAX_ROWS: usize = 14;

#[inline(always)]
fn product_on<S: Simd>(
    simd: S,
    size: Size,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
    ldc: usize,
) {
    in_groups::<S, false>(simd, size, a, b, start, c, ldc);
}

#[inline(always)]
fn product_transposed_on<S: Simd>(
    simd: S,
    size: Size,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
    ldc: usize,
) {
    in_groups::<S, true>(simd, size, a, b, start, c, ldc);
}

#[inline(always)]
fn in_groups<S: Simd, const TRANSPOSED: bool>(
    simd: S,
    size: Size,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
    ldc: usize,
) {
    // One group only, unless another thread lowers the level between the caller's choice of rows and this one.
    for (r0, r1) in groups(simd, size.rows) {
        let a = Lhs { data: &a.data[if TRANSPOSED { r0 } else { r0 * a.ld }..], ..a };
        let start = if let Start::Times(factors) = start { Start::Times(&factors[r0..]) } else { start };
        let c = &mut c[r0 * ldc..];
        macro_rules! for_rows {
            ($($rows:literal)*) => {
                match r1 - r0 {
                    $($rows if const { $rows <= S::TILE_ROWS } => {
                        strips::<S, $rows, TRANSPOSED>(simd, size, a, b, start, c, ldc);
                    })*
                    rows => unreachable!("a group of {rows} rows"),
                }
            };
        }
        for_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// All columns of `R` rows, as many vectors at a time as registers can accumulate.
#[inline(always)]
pub(super) fn strips<S: Simd, const R: usize, const TRANSPOSED: bool>(
    simd: S,
    size: Size,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
    ldc: usize,
) {
    let mut v = 0;
    macro_rules! while_left {
        ($vectors:literal) => {
            // Decided while compiling, so that a tile that does not fit is not even generated.
            if const { $vectors == 1 || R * $vectors <= S::TILE_ROWS * S::TILE_VECTORS } {
                while size.vectors - v >= $vectors {
                    let b = Rhs { lines: &b.lines[v * b.across..], ..b };
                    tile::<S, R, $vectors, TRANSPOSED>(simd, size.k, a, b, start, &mut c[v * LANES..], ldc);
                    v += $vectors;
                }
            }
        };
    }
    while_left!(4);
    while_left!(2);
    while_left!(1);
}

/// R rows × V vectors in registers.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "iterators over the sums keep some of them in memory")]
pub(super) fn tile<S: Simd, const R: usize, const V: usize, const TRANSPOSED: bool>(
    simd: S,
    k: usize,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
    ldc: usize,
) {
    let mut sums = [[simd.zero(); V]; R];
    if !matches!(start, Start::Zero) {
        for r in 0..R {
            let row = &c[r * ldc..][..V * LANES];
            for v in 0..V {
                sums[r][v] = simd.load(&row[v * LANES..]);
            }
        }
    }
    if let Start::Times(factors) = start {
        for r in 0..R {
            let factor = simd.splat(factors[r]);
            for v in 0..V {
                sums[r][v] = simd.mul(factor, sums[r][v]);
            }
        }
    }
    let (row_stride, col_stride) = if TRANSPOSED { (1, a.ld) } else { (a.ld, 1) };
    let a = Mat { data: a.data, rows: R, cols: k, row_stride, col_stride };
    let b = Columns { data: b.lines.as_flattened(), stride: b.step * LANES, across: b.across * LANES };
    sums = chains::<S, Numbers, R, V>(simd, Numbers, a, b, sums);
    for r in 0..R {
        let row = &mut c[r * ldc..][..V * LANES];
        for v in 0..V {
            simd.store(&mut row[v * LANES..], sums[r][v]);
        }
    }
}

/// Deals `n` rows evenly into groups of at most the level's tile: 64 rows are 13 + 13 + 13 + 13 + 12, not 4 · 14 + 8.
#[inline(always)]
pub(super) fn groups<S: Simd>(_simd: S, n: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = n.div_ceil(S::TILE_ROWS);
    // Mostly without a division, which a small product would notice.
    let (rows, more) = if parts <= 1 { (n, 0) } else { (n / parts, n % parts) };
    let mut end = 0;
    (0..parts).map(move |i| {
        let start = end;
        end += rows + usize::from(i < more);
        (start, end)
    })
}
