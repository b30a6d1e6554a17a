//! Attention's backward pass: blocks of keys outside, tiles of queries inside.

use std::f64::consts::LN_2;

use super::forward::{clear, first_lanes};
use super::pack::{Rows, pack_rows, pack_strips, place};
use super::shared::Shared;
use super::small::small_backward;
use super::tile::{Lhs, Rhs, Size, Start, groups, product, product_transposed};
use super::{Attention, WORTH_SPLITTING, for_each};
use crate::buffer::with_scratch;
use crate::kernels::{Grad, sweep};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Keys whose gradients stay in the cache while all queries that see them pass by.
const KEY_BLOCK: usize = 128;

/// Queries whose probabilities and their gradients, two tiles of 112 · 128, stay in the level-two cache for the products
/// across queries. Tiles of 56, 64 and 112 rows by 64 and 128 keys measured alike.
const QUERY_TILE: usize = 112;

/// The gradient of [`attention`](super::attention) with respect to the fused queries, keys and values.
///
/// With z = scale · q·k, p = exp(z) / 2^lse and Δ_i = dy_i · y_i:
///
/// dv_j = Σ_i p_ij dy_i,  dz_ij = p_ij (dy_i·v_j − Δ_i),  dq_i = scale Σ_j dz_ij k_j,  dk_j = scale Σ_i dz_ij q_i
///
/// with sums over j ≤ i, and for dk and dv over the query heads of the group too. Shapes: `qkv` and `dqkv`
/// (B, T, (H + 2·Hkv)·D), `y` and `dy` (B, T, H·D), `lse` (B, H, T); `y` and `lse` as the forward pass left them.
///
/// # Panics
/// If a slice has the wrong length, if Hkv does not divide H, or if D is 0.
#[track_caller]
pub fn attention_backward<T: Real>(a: Attention, qkv: &[T], y: &[T], lse: &[T], dy: &[T], dqkv: Grad<'_, T>) {
    a.check();
    assert_eq!(qkv.len(), a.qkv_len(), "attention_backward: length of qkv for {a:?}");
    assert_eq!(y.len(), a.y_len(), "attention_backward: length of y for {a:?}");
    assert_eq!(dy.len(), a.y_len(), "attention_backward: length of dy for {a:?}");
    assert_eq!(lse.len(), a.lse_len(), "attention_backward: length of lse for {a:?}");
    assert_eq!(dqkv.data.len(), a.qkv_len(), "attention_backward: length of dqkv for {a:?}");
    if qkv.is_empty() {
        return;
    }
    let (t, d, group) = (a.seq_len, a.head_size, a.group());
    let split = a.flops(0) * 5 / 2 >= WORTH_SPLITTING;
    if a.is_small() {
        return small_backward(a, split, qkv, y, lse, dy, dqkv);
    }
    let (add, dqkv) = (dqkv.add, Shared::new(dqkv.data));
    for_each(a.batch * a.n_kv_head, split, |head| {
        let (b, kv) = (head / a.n_kv_head, head % a.n_kv_head);
        let fused = |first: usize, group: usize| Rows {
            src: &qkv[b * t * a.qkv_width() + first * d..],
            stride: a.qkv_width(),
            group,
            d,
        };
        let output_start = b * t * a.y_width() + kv * group * d;
        let head = Head {
            t,
            q: fused(kv * group, group),
            k: fused(a.n_head + kv, 1),
            v: fused(a.n_head + a.n_kv_head + kv, 1),
            y: Rows { src: &y[output_start..], stride: a.y_width(), group, d },
            dy: Rows { src: &dy[output_start..], stride: a.y_width(), group, d },
            lse: &lse[(b * a.n_head + kv * group) * t..][..group * t],
            scale: T::from_f64(a.scale),
            factor: a.log2_factor(),
        };
        let start = b * t * a.qkv_width();
        let into = Into {
            dqkv,
            add,
            stride: a.qkv_width(),
            dq: start + kv * group * d,
            dk: start + (a.n_head + kv) * d,
            dv: start + (a.n_head + a.n_kv_head + kv) * d,
        };
        // Whole powers of two, so that a growing T asks for few different sizes.
        let room = t.next_power_of_two().max(LANES);
        let scratch =
            2 * room * d + 3 * room * (group + 1) * a.width() + 2 * room * group + 2 * QUERY_TILE * KEY_BLOCK;
        with_scratch(scratch, |scratch| backward_of_head(head, into, room, scratch));
    });
}

/// One key/value head and the queries of its group, whose row r is head r mod group at position r / group.
#[derive(Clone, Copy)]
struct Head<'a, T> {
    t: usize,
    q: Rows<'a, T>,
    k: Rows<'a, T>,
    v: Rows<'a, T>,
    y: Rows<'a, T>,
    dy: Rows<'a, T>,
    lse: &'a [T],
    scale: T,
    factor: T,
}

/// Where its gradients start.
#[derive(Clone, Copy)]
struct Into<'a, T> {
    dqkv: Shared<'a, T>,
    add: bool,
    stride: usize,
    dq: usize,
    dk: usize,
    dv: usize,
}

dispatch! {
    fn backward_of_head<T>(head: Head<'_, T>, into: Into<'_, T>, room: usize, scratch: &mut [T]) = backward_of_head_on
}

#[inline(always)]
fn backward_of_head_on<S: Simd>(
    simd: S,
    head: Head<'_, S::T>,
    into: Into<'_, S::T>,
    room: usize,
    scratch: &mut [S::T],
) {
    let Head { t, scale, factor, .. } = head;
    let (d, group) = (head.q.d, head.q.group);
    let width = d.next_multiple_of(LANES);
    let n = t * group;

    let (k_strips, scratch) = scratch.split_at_mut(room * d);
    let (v_strips, scratch) = scratch.split_at_mut(room * d);
    let (k_rows, scratch) = scratch.split_at_mut(room * width);
    let (dk, scratch) = scratch.split_at_mut(room * width);
    let (dv, scratch) = scratch.split_at_mut(room * width);
    let (q, scratch) = scratch.split_at_mut(room * group * width);
    let (dy, scratch) = scratch.split_at_mut(room * group * width);
    let (dq, scratch) = scratch.split_at_mut(room * group * width);
    let (lse, scratch) = scratch.split_at_mut(room * group);
    let (delta, scratch) = scratch.split_at_mut(room * group);
    let (p, dz) = scratch.split_at_mut(QUERY_TILE * KEY_BLOCK);

    pack_strips(simd, head.k, t, k_strips.as_chunks_mut().0);
    pack_strips(simd, head.v, t, v_strips.as_chunks_mut().0);
    pack_rows(simd, head.k, 0, t, S::T::ONE, k_rows);
    // The same product as in the forward pass, so that the scores have the same bits.
    pack_rows(simd, head.q, 0, n, factor, q);
    pack_rows(simd, head.dy, 0, n, S::T::ONE, dy);
    for r in 0..n {
        let (position, h) = place(r, group);
        lse[r] = head.lse[h * t + position];
        let mut sum = simd.zero();
        let (y, dy) = (head.y.row(r), head.dy.row(r));
        sweep!((y, dy), () => sum = simd.mul_add(simd.load_up_to(y), simd.load_up_to(dy), sum));
        delta[r] = simd.sum_lanes(sum);
    }
    for gradient in [&mut *dk, dv] {
        gradient[..t * width].fill(S::T::ZERO);
    }

    for key in (0..t).step_by(KEY_BLOCK) {
        let keys = KEY_BLOCK.min(t - key);
        // Every query sees the first block, but not every key the first tile.
        let start = if key == 0 { Start::Zero } else { Start::There };
        // The first row that sees a key of the block is the first of the key's own position.
        for tile in (key * group..n).step_by(QUERY_TILE) {
            let rows_of_tile = QUERY_TILE.min(n - tile);
            for (r0, r1) in groups(simd, rows_of_tile) {
                let seen = (place(tile + r1 - 1, group).0 + 1 - key).min(keys);
                let (rows, vectors) = (r1 - r0, seen.div_ceil(LANES));
                let size = Size { rows, vectors, k: d };
                let at = (tile + r0) * width;
                let (p, dz) = (&mut p[r0 * KEY_BLOCK..], &mut dz[r0 * KEY_BLOCK..]);
                let lhs = Lhs { data: &q[at..], ld: width };
                product(size, lhs, Rhs::strips(k_strips, key, d), Start::Zero, p, KEY_BLOCK);
                let lhs = Lhs { data: &dy[at..], ld: width };
                product(size, lhs, Rhs::strips(v_strips, key, d), Start::Zero, dz, KEY_BLOCK);
                for r in 0..rows {
                    let row = tile + r0 + r;
                    let visible = (place(row, group).0 + 1 - key).min(keys);
                    let (p, dz) =
                        (&mut p[r * KEY_BLOCK..][..KEY_BLOCK], &mut dz[r * KEY_BLOCK..][..KEY_BLOCK]);
                    // The products below read fewer than MAX_ROWS keys behind what a query sees: those that another
                    // row of its group sees, and the rest of a group of keys.
                    let end = (visible + LANES).next_multiple_of(LANES).min(KEY_BLOCK);
                    row_gradient(simd, &mut p[..end], &mut dz[..end], visible, lse[row], delta[row]);
                }
                let size = Size { rows, vectors: width / LANES, k: seen };
                let lhs = Lhs { data: dz, ld: KEY_BLOCK };
                product(size, lhs, Rhs::rows(k_rows, key, width), start, &mut dq[at..], width);
            }
            // Keys that some row of the tile sees, group by group; k runs over the rows that may see the group.
            let seen = (place(tile + rows_of_tile - 1, group).0 + 1 - key).min(keys);
            for (k0, k1) in groups(simd, seen) {
                let from = ((key + k0) * group).saturating_sub(tile);
                let size = Size { rows: k1 - k0, vectors: width / LANES, k: rows_of_tile - from };
                let at = (key + k0) * width;
                let lhs = Lhs { data: &p[from * KEY_BLOCK + k0..], ld: KEY_BLOCK };
                let rhs = Rhs::rows(dy, tile + from, width);
                product_transposed(size, lhs, rhs, Start::There, &mut dv[at..], width);
                let lhs = Lhs { data: &dz[from * KEY_BLOCK + k0..], ld: KEY_BLOCK };
                let rhs = Rhs::rows(q, tile + from, width);
                product_transposed(size, lhs, rhs, Start::There, &mut dk[at..], width);
            }
        }
    }

    let one = S::T::ONE;
    // dk was summed with queries that carry log₂e.
    let ln_2 = S::T::from_f64(LN_2);
    for (n, group, rows, start, factor) in
        [(n, group, dq, into.dq, scale), (t, 1, dk, into.dk, ln_2), (t, 1, dv, into.dv, one)]
    {
        let factor = simd.splat(factor);
        for (r, row) in rows.chunks_exact(width).take(n).enumerate() {
            let (position, h) = place(r, group);
            // SAFETY: only the task of this head holds the gradients of its queries, keys and values.
            let to = unsafe { into.dqkv.range(start + position * into.stride + h * d, d) };
            let row = &row[..d];
            sweep!((row), (to) => {
                let before = if into.add { simd.load_up_to(to) } else { simd.zero() };
                simd.store_up_to(to, simd.mul_add(factor, simd.load_up_to(row), before));
            });
        }
    }
}

/// From scores and products dy·v to p = 2^(score − lse) and dz = p (dy·v − Δ), zero behind the first `visible`.
#[inline(always)]
fn row_gradient<S: Simd>(simd: S, p: &mut [S::T], dz: &mut [S::T], visible: usize, lse: S::T, delta: S::T) {
    let (lse, delta) = (simd.splat(lse), simd.splat(delta));
    let full = visible / LANES * LANES;
    for (p, dz) in p[..full].chunks_exact_mut(LANES).zip(dz[..full].chunks_exact_mut(LANES)) {
        let x = S::T::exp2(simd, simd.sub(simd.load(p), lse));
        simd.store(p, x);
        simd.store(dz, simd.mul(x, simd.sub(simd.load(dz), delta)));
    }
    let (mut p, mut dz) = (&mut p[full..], &mut dz[full..]);
    if visible > full {
        let mask = first_lanes(simd, visible - full);
        let x = S::T::exp2(simd, simd.sub(simd.load(p), lse));
        let x = simd.select(mask, x, simd.zero());
        simd.store(p, x);
        // Masked once more: zero times a hidden dy·v need not be zero.
        let dx = simd.mul(x, simd.sub(simd.load(dz), delta));
        simd.store(dz, simd.select(mask, dx, simd.zero()));
        (p, dz) = (&mut p[LANES..], &mut dz[LANES..]);
    }
    clear(simd, p);
    clear(simd, dz);
}
