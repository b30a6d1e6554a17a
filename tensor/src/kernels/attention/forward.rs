//! Attention's forward pass: the rows of a tile of queries against blocks of keys.

use std::f64::consts::LOG2_E;

use super::pack::{Rows, pack_rows, pack_strips, place};
use super::shared::Shared;
use super::small::small_forward;
use super::tile::{Lhs, MAX_ROWS, Rhs, Size, Start, groups, product};
use super::{Attention, WORTH_SPLITTING, for_each};
use crate::buffer::with_scratch;
use crate::kernels::sweep;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Keys between two looks at the running maximum. Part of what the result is: every path must use the same.
///
/// 14 rows of 256 scores take 14 KiB, half of a level-one cache; the keys and values of the block 128 KiB of level two
/// at D = 64.
pub(super) const KEY_BLOCK: usize = 256;

/// Rows of queries that share a block of keys and values while it is in the level-two cache.
pub(super) const QUERY_TILE: usize = 112;

/// Causal self-attention: y_i = Σ_{j ≤ i} softmax_j(scale · q_i·k_j) v_j for each sequence and query head.
///
/// Shapes: `qkv` (B, T, (H + 2·Hkv)·D) in rows of [all query heads | key heads | value heads], `y` (B, T, H·D), `lse`
/// (B, H, T), which receives what [`attention_backward`](super::attention_backward) needs: the base-2 logarithm of
/// the sum of exp(scale · q_i·k_j). A row of the result is the same to the bit whatever T is, whatever other rows there are, and
/// whether it is computed here or by [`attention_decode`](super::attention_decode).
///
/// # Panics
/// If a slice has the wrong length, if Hkv does not divide H, or if D is 0.
#[track_caller]
pub fn attention<T: Real>(a: Attention, qkv: &[T], y: &mut [T], lse: &mut [T]) {
    attention_in_blocks(a, KEY_BLOCK, qkv, y, lse);
}

/// [`attention`] with blocks of `key_block` keys, a multiple of 16: for tests of the rescaling between blocks.
#[doc(hidden)]
#[track_caller]
pub fn attention_in_blocks<T: Real>(a: Attention, key_block: usize, qkv: &[T], y: &mut [T], lse: &mut [T]) {
    a.check();
    assert_eq!(qkv.len(), a.qkv_len(), "attention: length of qkv for {a:?}");
    assert_eq!(y.len(), a.y_len(), "attention: length of y for {a:?}");
    assert_eq!(lse.len(), a.lse_len(), "attention: length of lse for {a:?}");
    let (t, d, group) = (a.seq_len, a.head_size, a.group());
    if qkv.is_empty() {
        return;
    }
    let split = a.flops(0) >= WORTH_SPLITTING;
    // One block of keys whatever its size, so that these rows have the same bits on the general path.
    if a.is_small() {
        return small_forward(a, split, qkv, y, lse);
    }
    let (y, lse) = (Shared::new(y), Shared::new(lse));
    let n_tile = (t * group).div_ceil(QUERY_TILE);
    let one_head = |head: usize| {
        let (b, kv) = (head / a.n_kv_head, head % a.n_kv_head);
        let rows = &qkv[b * t * a.qkv_width()..][..t * a.qkv_width()];
        let part =
            |first: usize, group: usize| Rows { src: &rows[first * d..], stride: a.qkv_width(), group, d };
        let (k, v) = (part(a.n_head + kv, 1), part(a.n_head + a.n_kv_head + kv, 1));
        // Whole powers of two, so that a growing T asks for few different sizes.
        let room = t.next_power_of_two().max(LANES);
        with_scratch(room * d + room * a.width(), |scratch| {
            let (strips, values) = scratch.split_at_mut(room * d);
            pack_keys_and_values(t, k, v, strips, values);
            let keys = Keys { strips, values };
            // All heads of the group, tile by tile; only few and long heads are worth a split of their own.
            for_each(n_tile, split && a.flops(0) / (a.batch * a.n_kv_head) >= WORTH_SPLITTING, |tile| {
                let first = tile * QUERY_TILE;
                let queries = Queries {
                    rows: part(kv * group, group),
                    first,
                    n: QUERY_TILE.min(t * group - first),
                    past: 0,
                    factor: a.log2_factor(),
                };
                let output = Output {
                    y,
                    y_start: b * t * a.y_width() + kv * group * d,
                    y_stride: a.y_width(),
                    lse: Some(lse),
                    lse_start: (b * a.n_head + kv * group) * t,
                    seq_len: t,
                };
                attend_tile(key_block, queries, keys, output);
            });
        });
    };
    for_each(a.batch * a.n_kv_head, split, one_head);
}

/// One head's keys as strips and values as rows: see [`pack`](super::pack).
#[derive(Clone, Copy)]
pub(super) struct Keys<'a, T> {
    pub(super) strips: &'a [T],
    pub(super) values: &'a [T],
}

/// Rows `first..first + n` of a group's queries: row r belongs to position past + r / group.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a, T> {
    pub(super) rows: Rows<'a, T>,
    pub(super) first: usize,
    pub(super) n: usize,
    pub(super) past: usize,
    /// scale · log₂e: the queries are multiplied by it, so that exp becomes the cheaper 2ˣ.
    pub(super) factor: T,
}

/// Where the results of a group's queries go.
#[derive(Clone, Copy)]
pub(super) struct Output<'a, T> {
    pub(super) y: Shared<'a, T>,
    pub(super) y_start: usize,
    pub(super) y_stride: usize,
    pub(super) lse: Option<Shared<'a, T>>,
    pub(super) lse_start: usize,
    pub(super) seq_len: usize,
}

/// At most [`QUERY_TILE`] rows of queries against the keys they see, in blocks of `key_block`.
pub(super) fn attend_tile<T: Real>(
    key_block: usize,
    queries: Queries<'_, T>,
    keys: Keys<'_, T>,
    output: Output<'_, T>,
) {
    let width = queries.rows.d.next_multiple_of(LANES);
    with_scratch(QUERY_TILE * (2 * width + LANES + 1) + MAX_ROWS * key_block, |work| {
        attend(key_block, queries, keys, output, work);
    });
}

dispatch! {
    fn pack_keys_and_values<T>(n: usize, k: Rows<'_, T>, v: Rows<'_, T>, strips: &mut [T], values: &mut [T])
        = pack_keys_and_values_on

    fn attend<T>(
        key_block: usize, queries: Queries<'_, T>, keys: Keys<'_, T>, output: Output<'_, T>, work: &mut [T],
    ) = attend_on
}

#[inline(always)]
fn pack_keys_and_values_on<S: Simd>(
    simd: S,
    n: usize,
    k: Rows<'_, S::T>,
    v: Rows<'_, S::T>,
    strips: &mut [S::T],
    values: &mut [S::T],
) {
    pack_strips(simd, k, n, strips.as_chunks_mut().0);
    pack_rows(simd, v, 0, n, S::T::ONE, values);
}

#[inline(always)]
fn attend_on<S: Simd>(
    simd: S,
    key_block: usize,
    queries: Queries<'_, S::T>,
    keys: Keys<'_, S::T>,
    output: Output<'_, S::T>,
    work: &mut [S::T],
) {
    let Queries { rows: Rows { d, group, .. }, first, n, past, factor } = queries;
    let width = d.next_multiple_of(LANES);
    let (q, work) = work.split_at_mut(QUERY_TILE * width);
    let (o, work) = work.split_at_mut(QUERY_TILE * width);
    let (sums, work) = work.split_at_mut(QUERY_TILE * LANES);
    let (maxima, scores) = work.split_at_mut(QUERY_TILE);

    // The factor goes into the queries, so that neither its sign nor its size matters below.
    pack_rows(simd, queries.rows, first, n, factor, q);
    maxima[..n].fill(S::T::NEG_INFINITY);
    sums[..n * LANES].fill(S::T::ZERO);
    // Row r of the tile sees the keys 0..seen_by(r).
    let seen_by = |r: usize| past + place(first + r, group).0 + 1;

    for key in (0..seen_by(n - 1)).step_by(key_block) {
        for (r0, r1) in groups(simd, n) {
            let rows = r1 - r0;
            let seen = seen_by(r1 - 1).saturating_sub(key).min(key_block);
            if seen == 0 {
                continue;
            }
            let vectors = seen.div_ceil(LANES);
            let strips = Rhs::strips(keys.strips, key, d);
            let size = Size { rows, vectors, k: d };
            product(size, Lhs { data: &q[r0 * width..], ld: width }, strips, Start::Zero, scores, key_block);

            // Scores become 2^(score − maximum); what older blocks have summed is scaled to the new maximum.
            let (mut visible, mut old, mut new) = ([0; LANES], [S::T::ZERO; LANES], [S::T::ZERO; LANES]);
            for r in 0..rows {
                visible[r] = seen_by(r0 + r).saturating_sub(key).min(seen);
                old[r] = maxima[r0 + r];
                new[r] = largest(simd, &scores[r * key_block..][..vectors * LANES], visible[r], old[r]);
            }
            maxima[r0..r1].copy_from_slice(&new[..rows]);
            let mut rescale = [S::T::ONE; LANES];
            if key > 0 {
                rescale = simd.array(S::T::exp2(simd, simd.sub(simd.load(&old), simd.load(&new))));
            }
            for r in 0..rows {
                let sum = &mut sums[(r0 + r) * LANES..];
                let before = simd.mul(simd.splat(rescale[r]), simd.load(sum));
                let row = &mut scores[r * key_block..][..vectors * LANES];
                simd.store(sum, exponentials(simd, row, visible[r], new[r], before));
            }

            let start = if key == 0 { Start::Zero } else { Start::Times(&rescale) };
            let values = Rhs::rows(keys.values, key, width);
            let size = Size { rows, vectors: width / LANES, k: seen };
            product(size, Lhs { data: scores, ld: key_block }, values, start, &mut o[r0 * width..], width);
        }
    }

    for r0 in (0..n).step_by(LANES) {
        let mut sum = [S::T::ONE; LANES];
        for (r, sum) in (r0..n).zip(&mut sum) {
            *sum = simd.sum_lanes(simd.load(&sums[r * LANES..]));
        }
        let reciprocal = simd.array(simd.div(simd.splat(S::T::ONE), simd.load(&sum)));
        let log2 = simd.mul(S::T::ln(simd, simd.load(&sum)), simd.splat(S::T::from_f64(LOG2_E)));
        let log2 = simd.array(log2);
        for (i, r) in (r0..n.min(r0 + LANES)).enumerate() {
            let (t, h) = place(first + r, group);
            // SAFETY: only the task of this tile holds the results of its rows and head.
            let y = unsafe { output.y.range(output.y_start + t * output.y_stride + h * d, d) };
            let factor = simd.splat(reciprocal[i]);
            let o = &o[r * width..][..d];
            // Adding zero makes −0 to 0: the sign of a sum that underflowed depends on the tile.
            sweep!((o), (y) => simd.store_up_to(y, simd.mul_add(factor, simd.load_up_to(o), simd.zero())));
            if let Some(lse) = output.lse {
                // SAFETY: as above.
                unsafe { lse.range(output.lse_start + h * output.seq_len + t, 1)[0] = maxima[r] + log2[i] };
            }
        }
    }
}

/// The largest of the first `visible` scores and `maximum`.
#[inline(always)]
pub(super) fn largest<S: Simd>(simd: S, scores: &[S::T], visible: usize, maximum: S::T) -> S::T {
    let mut max = simd.splat(S::T::NEG_INFINITY);
    let (full, rest) = scores.split_at(visible / LANES * LANES);
    for s in full.chunks_exact(LANES) {
        max = simd.max(simd.load(s), max);
    }
    if !visible.is_multiple_of(LANES) {
        let hidden = simd.splat(S::T::NEG_INFINITY);
        max = simd.max(simd.select(first_lanes(simd, visible % LANES), simd.load(rest), hidden), max);
    }
    let max = simd.max_lane(max);
    if max > maximum { max } else { maximum }
}

/// The first `n` lanes.
#[inline(always)]
pub(super) fn first_lanes<S: Simd>(simd: S, n: usize) -> S::M {
    let mut lanes = [S::T::ZERO; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = S::T::from_f64(i as f64);
    }
    simd.lt(simd.load(&lanes), simd.splat(S::T::from_f64(n as f64)))
}

/// Scores become 2^(score − maximum), zero behind the first `visible`. Returns `sum` plus them, lane by lane.
///
/// At most one vector is without visible scores: the rows that share a product see at most [`MAX_ROWS`] keys more or less.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(
    simd: S,
    scores: &mut [S::T],
    visible: usize,
    maximum: S::T,
    mut sum: S::V,
) -> S::V {
    let maximum = simd.splat(maximum);
    let (full, mut rest) = scores.split_at_mut(visible / LANES * LANES);
    for s in full.chunks_exact_mut(LANES) {
        let p = S::T::exp2(simd, simd.sub(simd.load(s), maximum));
        sum = simd.add(sum, p);
        simd.store(s, p);
    }
    if !visible.is_multiple_of(LANES) {
        let p = S::T::exp2(simd, simd.sub(simd.load(rest), maximum));
        let p = simd.select(first_lanes(simd, visible % LANES), p, simd.zero());
        sum = simd.add(sum, p);
        simd.store(rest, p);
        rest = &mut rest[LANES..];
    }
    clear(simd, rest);
    sum
}

/// Zeros in what lies behind the vector with the last visible score: nothing or one vector, which is enough where rows or
/// keys that share a product are at most [`MAX_ROWS`].
#[inline(always)]
pub(super) fn clear<S: Simd>(simd: S, rest: &mut [S::T]) {
    const { assert!(MAX_ROWS <= LANES) }
    // Not `fill`, which would be a call with all registers saved around it.
    if !rest.is_empty() {
        debug_assert!(rest.len() == LANES);
        simd.store(rest, simd.zero());
    }
}
