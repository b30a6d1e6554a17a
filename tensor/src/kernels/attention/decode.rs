//! Attention of new rows over a cache of old keys and values.

use super::forward::{KEY_BLOCK, Keys, Output, QUERY_TILE, Queries, attend_tile, exponentials, largest};
use super::pack::{Rows, pack_rows};
use super::shared::Shared;
use super::tile::{Lhs, Rhs, Size, Start, strips};
use super::{Attention, WORTH_SPLITTING, for_each};
use crate::buffer::with_scratch;
use crate::kernels::sweep;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Appends the keys and values of `a.seq_len` new rows to the caches and attends from the new rows to all rows so far.
///
/// Shapes: `qkv` (B, T, (H + 2·Hkv)·D) holds the new rows only, `y` (B, T, H·D) their results. Of sequence b `past[b]`
/// rows are in the caches already, and there is room for `capacity` of each. A cache has [`Attention::cache_len`]
/// elements: for each sequence and key/value head, keys lie in strips of 16 rows, transposed, (S/16, D, 16), padded to
/// the size of the values, which lie in rows, (S, D), S and D rounded up to 16. So one query streams through the keys
/// with whole vectors of scores, through the values with whole vectors of outputs. What lies behind the rows of a
/// cache may be anything but is never read as a value.
///
/// `y` is the same to the bit as the last rows of [`attention`](super::attention) over all rows at once, however they
/// are divided into calls.
///
/// # Panics
/// If a slice has the wrong length, or if the new rows of a sequence do not fit into the capacity.
#[track_caller]
pub fn attention_decode<T: Real>(
    a: Attention,
    past: &[usize],
    capacity: usize,
    qkv: &[T],
    k_cache: &mut [T],
    v_cache: &mut [T],
    y: &mut [T],
) {
    a.check();
    let (t, d, group, width) = (a.seq_len, a.head_size, a.group(), a.width());
    assert_eq!(past.len(), a.batch, "attention_decode: lengths of the sequences for {a:?}");
    let longest = past.iter().copied().max().unwrap_or(0);
    assert!(longest + t <= capacity, "attention_decode: {longest} + {t} rows in a cache for {capacity}");
    assert_eq!(qkv.len(), a.qkv_len(), "attention_decode: length of qkv for {a:?}");
    assert_eq!(y.len(), a.y_len(), "attention_decode: length of y for {a:?}");
    assert_eq!(k_cache.len(), a.cache_len(capacity), "attention_decode: length of the key cache for {a:?}");
    assert_eq!(v_cache.len(), a.cache_len(capacity), "attention_decode: length of the value cache for {a:?}");
    if qkv.is_empty() {
        return;
    }
    let one_head = capacity.next_multiple_of(LANES) * width;
    append(a, past, one_head, qkv, k_cache, v_cache);

    let y = Shared::new(y);
    let split =
        past.iter().map(|&past| Attention { batch: 1, ..a }.flops(past)).sum::<usize>() >= WORTH_SPLITTING;
    if t * group == 1 {
        // Without company a row is little work, which the bookkeeping of tiles would double: all heads in one call, unless
        // each is worth a thread.
        let heads = if split { 1 } else { a.n_head };
        return for_each(a.batch * a.n_head / heads, split, |task| {
            let (b, head) = (task * heads / a.n_head, task * heads % a.n_head);
            let queries = &qkv[b * a.qkv_width() + head * d..][..heads * d];
            let cached = task * heads * one_head..(task + 1) * heads * one_head;
            let keys = Keys { strips: &k_cache[cached.clone()], values: &v_cache[cached] };
            // SAFETY: the results of this task's heads, which no other task has.
            let y = unsafe { y.range(task * heads * d, heads * d) };
            with_scratch(2 * a.width() + KEY_BLOCK, |work| {
                attend_row(d, past[b] + 1, a.log2_factor(), queries, keys, y, work);
            });
        });
    }
    let n_tile = (t * group).div_ceil(QUERY_TILE);
    for_each(a.batch * a.n_kv_head * n_tile, split, |task| {
        let (head, tile) = (task / n_tile, task % n_tile);
        let (b, kv) = (head / a.n_kv_head, head % a.n_kv_head);
        let first = tile * QUERY_TILE;
        let rows = &qkv[b * t * a.qkv_width()..][..t * a.qkv_width()];
        let queries = Queries {
            rows: Rows { src: &rows[kv * group * d..], stride: a.qkv_width(), group, d },
            first,
            n: QUERY_TILE.min(t * group - first),
            past: past[b],
            factor: a.log2_factor(),
        };
        let keys = Keys {
            strips: &k_cache[head * one_head..][..one_head],
            values: &v_cache[head * one_head..][..one_head],
        };
        let output = Output {
            y,
            y_start: b * t * a.y_width() + kv * group * d,
            y_stride: a.y_width(),
            lse: None,
            lse_start: 0,
            seq_len: t,
        };
        attend_tile(KEY_BLOCK, queries, keys, output);
    });
}

dispatch! {
    /// A single row of queries against the first `seen` keys of each of its heads, whose caches follow one another: the
    /// order of operations is that of `attend`.
    fn attend_row<T>(
        d: usize, seen: usize, factor: T, queries: &[T], keys: Keys<'_, T>, y: &mut [T], work: &mut [T],
    ) = attend_row_on
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn attend_row_on<S: Simd>(
    simd: S,
    d: usize,
    seen: usize,
    factor: S::T,
    queries: &[S::T],
    keys: Keys<'_, S::T>,
    y: &mut [S::T],
    work: &mut [S::T],
) {
    let width = d.next_multiple_of(LANES);
    let (q, work) = work.split_at_mut(width);
    let (o, scores) = work.split_at_mut(width);
    let one_head = keys.values.len() / (queries.len() / d);
    let rows = Rows { src: queries, stride: d, group: 1, d };
    for (h, y) in y.chunks_exact_mut(d).enumerate() {
        let k = &keys.strips[h * one_head..][..one_head];
        let v = &keys.values[h * one_head..][..one_head];
        pack_rows(simd, rows, h, 1, factor, q);
        let (mut maximum, mut sum) = (S::T::NEG_INFINITY, simd.zero());
        for key in (0..seen).step_by(KEY_BLOCK) {
            let n = KEY_BLOCK.min(seen - key);
            let size = Size { rows: 1, vectors: n.div_ceil(LANES), k: d };
            let query = Lhs { data: q, ld: width };
            strips::<S, 1, false>(simd, size, query, Rhs::strips(k, key, d), Start::Zero, scores, KEY_BLOCK);

            let block = &mut scores[..size.vectors * LANES];
            let new = largest(simd, block, n, maximum);
            let mut rescale = [S::T::ONE; LANES];
            if key > 0 {
                let older = S::T::exp2(simd, simd.sub(simd.splat(maximum), simd.splat(new)));
                sum = simd.mul(older, sum);
                rescale = simd.array(older);
            }
            sum = exponentials(simd, block, n, new, sum);
            maximum = new;

            let start = if key == 0 { Start::Zero } else { Start::Times(&rescale) };
            let size = Size { rows: 1, vectors: width / LANES, k: n };
            let p = Lhs { data: scores, ld: KEY_BLOCK };
            strips::<S, 1, false>(simd, size, p, Rhs::rows(v, key, width), start, o, width);
        }
        let reciprocal = simd.div(simd.splat(S::T::ONE), simd.splat(simd.sum_lanes(sum)));
        let o = &o[..d];
        sweep!((o), (y) => simd.store_up_to(y, simd.mul_add(reciprocal, simd.load_up_to(o), simd.zero())));
    }
}

/// Writes the new rows' keys into their lanes of the strips and their values behind the rows that are there.
fn append<T: Real>(
    a: Attention,
    past: &[usize],
    one_head: usize,
    qkv: &[T],
    k_cache: &mut [T],
    v_cache: &mut [T],
) {
    let (d, width) = (a.head_size, a.width());
    for (row, fused) in qkv.chunks_exact(a.qkv_width()).enumerate() {
        let (b, s) = (row / a.seq_len, past[row / a.seq_len] + row % a.seq_len);
        let (k, v) = fused[a.n_head * d..].split_at(a.n_kv_head * d);
        for (kv, (k, v)) in k.chunks_exact(d).zip(v.chunks_exact(d)).enumerate() {
            let start = (b * a.n_kv_head + kv) * one_head;
            let strip = &mut k_cache[start + s / LANES * LANES * d..][..LANES * d];
            for (line, k) in strip.chunks_exact_mut(LANES).zip(k) {
                line[s % LANES] = *k;
            }
            let values = &mut v_cache[start + s * width..][..width];
            values[..d].copy_from_slice(v);
            values[d..].fill(T::ZERO);
        }
    }
}
