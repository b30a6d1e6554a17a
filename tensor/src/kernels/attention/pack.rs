//! Copies of one head's rows in the layouts that the products read.
//!
//! *Rows*: n × width, width = D rounded up to 16, zeros behind D. *Strips*: 16 rows transposed, so that line
//! (strip · D + d) holds element d of 16 rows.

use std::hint::black_box;

use super::tile::Line;
use crate::Real;
use crate::kernels::gemm::Mat;
use crate::kernels::gemm::pack::columns_to_rows;
use crate::simd::{LANES, Simd};

/// `n` rows of `d` elements in `src`, the fused rows `stride` apart, `group` heads side by side in each of them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) src: &'a [T],
    pub(super) stride: usize,
    pub(super) group: usize,
    pub(super) d: usize,
}

/// The position of row `r` of a group's rows, and its head among those of the group: r / group and r mod group.
///
/// Most groups are one head, and a row is so little work that divisions took a tenth of the time of (12, 4, 64, 32).
#[inline(always)]
pub(super) fn place(r: usize, group: usize) -> (usize, usize) {
    if group == 1 { (r, 0) } else { (r / group, r % group) }
}

impl<'a, T> Rows<'a, T> {
    /// Where row `r` begins.
    #[inline(always)]
    fn start(&self, r: usize) -> usize {
        let (t, h) = place(r, self.group);
        t * self.stride + h * self.d
    }

    /// Row `r`.
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> &'a [T] {
        &self.src[self.start(r)..][..self.d]
    }
}

/// Rows between the one that is packed and the one that is fetched: a head's rows lie too far apart and are too short
/// for the hardware to guess the next, and without this half of the time of (8, 6, 256, 64) outside of the products went
/// into waiting for them.
const AHEAD: usize = 16;

impl<T: Real> Rows<'_, T> {
    /// Asks for row r, or where it would be.
    #[inline(always)]
    fn prefetch<S: Simd<T = T>>(&self, simd: S, r: usize) {
        let mut at = self.start(r);
        let end = at + self.d;
        // Not `step_by`, which would count its steps first: as many instructions again.
        while at < end {
            simd.prefetch(self.src, at);
            at += LANES;
        }
    }
}

/// factor · rows `first..first + n` into `dst` as rows.
#[inline(always)]
pub(super) fn pack_rows<S: Simd>(
    simd: S,
    rows: Rows<'_, S::T>,
    first: usize,
    n: usize,
    factor: S::T,
    dst: &mut [S::T],
) {
    let width = rows.d.next_multiple_of(LANES);
    // Hidden from the compiler: where it knows a factor of one, AVX-512's copy of a row becomes a call, registers saved around it.
    let factor = simd.splat(black_box(factor));
    for (r, dst) in dst.chunks_exact_mut(width).take(n).enumerate() {
        rows.prefetch(simd, first + r + AHEAD);
        let (lines, rest) = rows.row(first + r).as_chunks::<LANES>();
        let (whole, last) = dst.split_at_mut(lines.len() * LANES);
        for (line, to) in lines.iter().zip(whole.as_chunks_mut::<LANES>().0) {
            simd.store(to, simd.mul(factor, simd.load(line)));
        }
        if !rest.is_empty() {
            simd.store(last, simd.mul(factor, simd.load_up_to(rest)));
        }
    }
}

/// Rows `0..n` of a single head into `lines` as strips, zeros behind the last row.
#[inline(always)]
pub(super) fn pack_strips<S: Simd>(simd: S, rows: Rows<'_, S::T>, n: usize, lines: &mut [Line<S::T>]) {
    debug_assert_eq!(rows.group, 1);
    for (strip, lines) in lines.chunks_exact_mut(rows.d).take(n.div_ceil(LANES)).enumerate() {
        let first = strip * LANES;
        for r in first..first + LANES {
            rows.prefetch(simd, r + AHEAD);
        }
        let data = &rows.src[first * rows.stride..];
        let cols = LANES.min(n - first);
        let columns = Mat { data, rows: rows.d, cols, row_stride: 1, col_stride: rows.stride };
        columns_to_rows(simd, columns, lines.as_flattened_mut(), LANES);
    }
}
