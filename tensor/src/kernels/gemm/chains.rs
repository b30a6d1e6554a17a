//! The innermost loop of the dense products and of attention's: a few rows of A times a few vectors of columns of B.

use std::hint::black_box;

use super::format::Format;
use super::mat::Mat;
use crate::simd::{LANES, Simd};

/// Rows of B between the one that is multiplied and the one that is asked for: 3 to 6 points of the peak from 512³ on.
const AHEAD: usize = 12;

/// Steps of k that are written out for a single row.
const UNROLL: usize = 4;

/// Vectors of columns of B: row p of vector v begins at `data[p · stride + v · across]`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Columns<'a, E> {
    pub(in crate::kernels) data: &'a [E],
    pub(in crate::kernels) stride: usize,
    pub(in crate::kernels) across: usize,
}

/// Continues the accumulators' chains, each over k in order: the `MR` rows of A times `NV` vectors of columns of B.
#[inline(always)]
pub(in crate::kernels) fn chains<S: Simd, F: Format<S>, const MR: usize, const NV: usize>(
    simd: S,
    format: F,
    a: Mat<'_, F::E>,
    b: Columns<'_, F::E>,
    mut acc: [[S::V; NV]; MR],
) -> [[S::V; NV]; MR] {
    if a.cols == 0 {
        return acc;
    }
    assert!((MR - 1) * a.row_stride + (a.cols - 1) * a.col_stride < a.data.len());
    assert!((a.cols - 1) * b.stride + (NV - 1) * b.across + LANES <= b.data.len());
    let mut rows = [0; MR];
    for i in 0..MR {
        rows[i] = i * a.row_stride;
    }
    // So that each row gets a pointer of its own: the compiler would derive them from each other at every step of k, five
    // instructions beside the twenty of 6 × 16. More rows would want more pointers than there are registers.
    if const { MR > 2 && MR <= 6 } {
        rows = black_box(rows);
    }
    let mut p = 0;
    // A single row has so little to do in a step that the loop itself would be a third of it.
    if const { MR == 1 } {
        while p + UNROLL <= a.cols {
            for q in 0..UNROLL {
                // SAFETY: p + q < a.cols, and the rest was checked above.
                acc = unsafe { step::<S, F, MR, NV>(simd, format, (a, rows), b, p + q, acc) };
            }
            p += UNROLL;
        }
    }
    while p < a.cols {
        // SAFETY: as above.
        acc = unsafe { step::<S, F, MR, NV>(simd, format, (a, rows), b, p, acc) };
        p += 1;
    }
    acc
}

/// The products of column p of A with row p of B.
///
/// # Safety
/// Element p of each row of A, which begin at `rows` of its data, and row p of each vector of B must be there.
#[inline(always)]
unsafe fn step<S: Simd, F: Format<S>, const MR: usize, const NV: usize>(
    simd: S,
    format: F,
    (a, rows): (Mat<'_, F::E>, [usize; MR]),
    b: Columns<'_, F::E>,
    p: usize,
    mut acc: [[S::V; NV]; MR],
) -> [[S::V; NV]; MR] {
    // SAFETY: by the caller.
    let vector = |v| unsafe {
        let start = p * b.stride + v * b.across;
        b.data.get_unchecked(start..start + LANES)
    };
    let mut x = [format.load(simd, vector(0)); NV];
    for v in 1..NV {
        x[v] = format.load(simd, vector(v));
    }
    // Wider tiles take longer for a row of B or read all of it, and the hardware keeps ahead of them.
    if const { S::TILE_VECTORS == 1 && NV == 1 } {
        simd.prefetch(vector(0), b.stride.wrapping_mul(AHEAD));
    }
    for i in 0..MR {
        // SAFETY: by the caller.
        let w = unsafe { *a.data.get_unchecked(rows[i] + p * a.col_stride) };
        let w = format.splat(simd, w);
        for v in 0..NV {
            acc[i][v] = format.mul_add(simd, w, x[v], acc[i][v]);
        }
    }
    acc
}
