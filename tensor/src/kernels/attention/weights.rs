//! The attention weights themselves, to look at.

use super::Attention;
use super::forward::{exponentials, largest};
use super::pack::{Rows, pack_rows, pack_strips};
use super::tile::{Lhs, Rhs, Size, Start, product};
use crate::buffer::with_scratch;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// The weights p_ij = softmax_{j ≤ i}(scale · q_i·k_j), (B, H, T, T), zero above the diagonal; for inspection.
///
/// # Panics
/// As [`attention`](super::attention), or if `weights` is not B·H·T·T long.
#[track_caller]
pub fn attention_weights<T: Real>(a: Attention, qkv: &[T], weights: &mut [T]) {
    a.check();
    let (t, d) = (a.seq_len, a.head_size);
    assert_eq!(qkv.len(), a.qkv_len(), "attention_weights: length of qkv for {a:?}");
    assert_eq!(weights.len(), a.lse_len() * t, "attention_weights: length of weights for {a:?}");
    if weights.is_empty() {
        return;
    }
    let padded = t.next_multiple_of(LANES);
    with_scratch(padded * d + padded + a.width(), |scratch| {
        for (head, weights) in weights.chunks_exact_mut(t * t).enumerate() {
            let (b, h) = (head / a.n_head, head % a.n_head);
            let rows = &qkv[b * t * a.qkv_width()..];
            let part = |first: usize| Rows { src: &rows[first * d..], stride: a.qkv_width(), group: 1, d };
            one_head(t, a.log2_factor(), part(h), part(a.n_head + h / a.group()), scratch, weights);
        }
    });
}

dispatch! {
    fn one_head<T>(t: usize, factor: T, q: Rows<'_, T>, k: Rows<'_, T>, scratch: &mut [T], weights: &mut [T])
        = one_head_on
}

#[inline(always)]
fn one_head_on<S: Simd>(
    simd: S,
    t: usize,
    factor: S::T,
    q: Rows<'_, S::T>,
    k: Rows<'_, S::T>,
    scratch: &mut [S::T],
    weights: &mut [S::T],
) {
    let padded = t.next_multiple_of(LANES);
    let (strips, scratch) = scratch.split_at_mut(padded * k.d);
    let (scores, query) = scratch.split_at_mut(padded);
    pack_strips(simd, k, t, strips.as_chunks_mut().0);
    for (i, weights) in weights.chunks_exact_mut(t).enumerate() {
        pack_rows(simd, q, i, 1, factor, query);
        let size = Size { rows: 1, vectors: (i + 1).div_ceil(LANES), k: k.d };
        let strips = Rhs::strips(strips, 0, k.d);
        product(size, Lhs { data: query, ld: k.d }, strips, Start::Zero, scores, padded);
        let scores = &mut scores[..size.vectors * LANES];
        let maximum = largest(simd, scores, i + 1, S::T::NEG_INFINITY);
        let sum = exponentials(simd, scores, i + 1, maximum, simd.zero());
        let sum = simd.splat(simd.sum_lanes(sum));
        let (seen, unseen) = weights.split_at_mut(i + 1);
        for (w, s) in seen.chunks_mut(LANES).zip(scores.chunks_exact(LANES)) {
            simd.store_up_to(w, simd.div(simd.load(s), sum));
        }
        unseen.fill(S::T::ZERO);
    }
}
