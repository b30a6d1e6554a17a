//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), on the query and key heads of fused qkv rows.
//!
//! Pair (xᵢ, xᵢ₊ₕ), h = D/2, of a head at position t turns by the angle t · base^(−2i/D):
//! yᵢ = xᵢ cos − xᵢ₊ₕ sin,  yᵢ₊ₕ = xᵢ sin + xᵢ₊ₕ cos.

use super::{Grad, Heads, put};
use crate::simd::{LANES, Simd};
use crate::{Buffer, Real, dispatch};

/// The base of the paper.
pub const BASE: f64 = 10_000.0;

/// The table of [`rotary`]: cosines, then sines, of every position below `positions` and pair, (2, positions, D/2).
///
/// Computed in `f64` and rounded once.
///
/// # Panics
/// If `head_size` is odd or zero.
#[track_caller]
pub fn rotary_table<T: Real>(positions: usize, head_size: usize, base: f64) -> Buffer<T> {
    assert!(head_size > 0 && head_size.is_multiple_of(2), "rotary: head size {head_size} has no pairs");
    let half = head_size / 2;
    let mut table = Buffer::zeros(2 * positions * half);
    let (cos, sin) = table.split_at_mut(positions * half);
    for i in 0..half {
        let frequency = libm::pow(base, -2.0 * i as f64 / head_size as f64);
        for t in 0..positions {
            let (s, c) = libm::sincos(t as f64 * frequency);
            cos[t * half + i] = T::from_f64(c);
            sin[t * half + i] = T::from_f64(s);
        }
    }
    table
}

/// Turns the query and key heads of every row, and copies the value heads.
///
/// Shapes: `x` and `y` (B, T, (H + 2 Hkv) D), T = `seq_len`, `table` by [`rotary_table`]. Token `t` of a sequence is at
/// position `first + t`. `inverse` turns back, which is also the adjoint: applied to dy it gives dx.
///
/// # Panics
/// If the sizes do not fit or a position is beyond the table.
#[track_caller]
pub fn rotary<T: Real>(
    x: &[T],
    table: &[T],
    heads: Heads,
    seq_len: usize,
    first: usize,
    inverse: bool,
    out: Grad<'_, T>,
) {
    assert_eq!(x.len(), out.data.len(), "rotary: x and y differ in length");
    if x.is_empty() {
        return;
    }
    let (half, width) = (heads.head_size / 2, heads.width());
    let sequence = seq_len * width;
    assert!(
        sequence > 0 && x.len().is_multiple_of(sequence),
        "rotary: x is not ({seq_len}, {width}) sequences"
    );
    let (cos, sin) = table.split_at(table.len() / 2);
    let (end, positions) = (first + seq_len, cos.len() / half);
    assert!(end <= positions, "rotary: position {end} is beyond the table of {positions}");
    let (cos, sin) = (&cos[first * half..end * half], &sin[first * half..end * half]);
    let turned = heads.n_head + heads.n_kv_head;
    for (x, y) in x.chunks(sequence).zip(out.data.chunks_mut(sequence)) {
        rotate(x, y, cos, sin, width, turned, heads.head_size, inverse, out.add);
    }
}

dispatch! {
    fn rotate<T>(
        x: &[T], y: &mut [T], cos: &[T], sin: &[T], width: usize, heads: usize, head_size: usize, inverse: bool, add: bool,
    ) = rotate_on
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn rotate_on<S: Simd>(
    simd: S,
    x: &[S::T],
    y: &mut [S::T],
    cos: &[S::T],
    sin: &[S::T],
    width: usize,
    heads: usize,
    head_size: usize,
    inverse: bool,
    add: bool,
) {
    let half = head_size / 2;
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), (cos, sin)) in rows.zip(cos.chunks_exact(half).zip(sin.chunks_exact(half))) {
        let (x, x_rest) = x.split_at(heads * head_size);
        let (y, y_rest) = y.split_at_mut(heads * head_size);
        for (x, y) in x.chunks_exact(head_size).zip(y.chunks_exact_mut(head_size)) {
            let ((x0, x1), (y0, y1)) = (x.split_at(half), y.split_at_mut(half));
            let table = cos.chunks(LANES).zip(sin.chunks(LANES));
            let values = x0.chunks(LANES).zip(x1.chunks(LANES));
            for (((c, s), (x0, x1)), (y0, y1)) in
                table.zip(values).zip(y0.chunks_mut(LANES).zip(y1.chunks_mut(LANES)))
            {
                let (c, s) = (simd.load_up_to(c), simd.load_up_to(s));
                let s = if inverse { simd.neg(s) } else { s };
                let (v0, v1) = (simd.load_up_to(x0), simd.load_up_to(x1));
                put(simd, y0, simd.neg_mul_add(v1, s, simd.mul(v0, c)), add);
                put(simd, y1, simd.mul_add(v0, s, simd.mul(v1, c)), add);
            }
        }
        for (x, y) in x_rest.chunks(LANES).zip(y_rest.chunks_mut(LANES)) {
            put(simd, y, simd.load_up_to(x), add);
        }
    }
}
