//! Heads of at most sixteen rows and two vectors: one vector of scores per query, everything on the stack.
//!
//! The order of operations is that of the general path, so the bits are the same; what is saved are the packing into
//! scratch space and the calls per product, which take most of the time of so little work.

use std::f64::consts::{LN_2, LOG2_E};

use rayon::prelude::*;

use super::Attention;
use super::forward::first_lanes;
use super::pack::{Rows, pack_strips};
use super::tile::{Lhs, Line, Rhs, Start, tile};
use crate::kernels::Grad;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Rows at a time: eight sums of one or two vectors fill the pipeline of AVX-512.
const ROWS: usize = 8;

/// The most vectors in a row.
pub(super) const MAX_WIDTH: usize = 2;

impl Attention {
    /// Whether these sizes take the path of small heads.
    pub(super) fn is_small(&self) -> bool {
        self.seq_len <= LANES && self.head_size <= MAX_WIDTH * LANES
    }
}

/// Sequences that one task takes: about a hundred microseconds of work.
const SEQUENCES: usize = 16;

/// [`attention`](super::attention) of small heads.
pub(super) fn small_forward<T: Real>(a: Attention, split: bool, qkv: &[T], y: &mut [T], lse: &mut [T]) {
    let run = |((qkv, y), lse): ((&[T], &mut [T]), &mut [T])| forward(a, qkv, y, lse);
    if split {
        let rows = SEQUENCES * a.seq_len;
        let (qkv, y) = (qkv.par_chunks(rows * a.qkv_width()), y.par_chunks_mut(rows * a.y_width()));
        qkv.zip(y).zip(lse.par_chunks_mut(rows * a.n_head)).for_each(run);
    } else {
        run(((qkv, y), lse));
    }
}

/// [`attention_backward`](super::attention_backward) of small heads.
pub(super) fn small_backward<T: Real>(
    a: Attention,
    split: bool,
    qkv: &[T],
    y: &[T],
    lse: &[T],
    dy: &[T],
    dqkv: Grad<'_, T>,
) {
    let Grad { data: dqkv, add } = dqkv;
    if split {
        let rows = SEQUENCES * a.seq_len;
        let (wide, narrow) = (rows * a.qkv_width(), rows * a.y_width());
        let inputs = qkv.par_chunks(wide).zip(y.par_chunks(narrow)).zip(lse.par_chunks(rows * a.n_head));
        let gradients = dy.par_chunks(narrow).zip(dqkv.par_chunks_mut(wide));
        inputs
            .zip(gradients)
            .for_each(|(((qkv, y), lse), (dy, dqkv))| backward(a, qkv, y, lse, dy, dqkv, add));
    } else {
        backward(a, qkv, y, lse, dy, dqkv, add);
    }
}

dispatch! {
    /// The forward pass of whole sequences.
    fn forward<T>(a: Attention, qkv: &[T], y: &mut [T], lse: &mut [T]) = forward_on

    /// The backward pass of whole sequences.
    fn backward<T>(
        a: Attention, qkv: &[T], y: &[T], lse: &[T], dy: &[T], dqkv: &mut [T], add: bool,
    ) = backward_on
}

/// `factor` times the rows of `range`, `W` vectors each, zeros where there are none.
#[inline(always)]
fn load_rows<S: Simd, const W: usize, const N: usize>(
    simd: S,
    rows: Rows<'_, S::T>,
    range: std::ops::Range<usize>,
    factor: S::T,
) -> [[Line<S::T>; W]; N] {
    let mut to = [[[S::T::ZERO; LANES]; W]; N];
    let factor = simd.splat(factor);
    for (to, r) in to.iter_mut().zip(range) {
        let row = rows.row(r);
        for (v, to) in to.iter_mut().enumerate() {
            if let Some(x) = row.get(v * LANES..) {
                simd.store(to, simd.mul(factor, simd.load_up_to(x)));
            }
        }
    }
    to
}

/// A row of the fused result from `W` vectors.
#[inline(always)]
fn store_row<S: Simd>(simd: S, to: &mut [S::T], from: &[Line<S::T>], factor: S::T, add: bool) {
    let factor = simd.splat(factor);
    for (to, from) in to.chunks_mut(LANES).zip(from) {
        let before = if add { simd.load_up_to(to) } else { simd.zero() };
        simd.store_up_to(to, simd.mul_add(factor, simd.load(from), before));
    }
}

/// The product of `ROWS` rows with a panel of `V` vectors, four rows at a time where registers are few.
#[inline(always)]
fn product<S: Simd, const V: usize, const TRANSPOSED: bool>(
    simd: S,
    k: usize,
    a: Lhs<'_, S::T>,
    b: Rhs<'_, S::T>,
    start: Start<'_, S::T>,
    c: &mut [S::T],
) {
    if const { S::TILE_ROWS >= ROWS } {
        tile::<S, ROWS, V, TRANSPOSED>(simd, k, a, b, start, c, V * LANES);
    } else {
        for r in [0, ROWS / 2] {
            let a = Lhs { data: &a.data[if TRANSPOSED { r } else { r * a.ld }..], ..a };
            tile::<S, { ROWS / 2 }, V, TRANSPOSED>(simd, k, a, b, start, &mut c[r * V * LANES..], V * LANES);
        }
    }
}

#[inline(always)]
fn forward_on<S: Simd>(simd: S, a: Attention, qkv: &[S::T], y: &mut [S::T], lse: &mut [S::T]) {
    match a.width() / LANES {
        1 => forward_of_width::<S, 1>(simd, a, qkv, y, lse),
        _ => forward_of_width::<S, MAX_WIDTH>(simd, a, qkv, y, lse),
    }
}

/// The forward pass with `W` vectors to a row.
#[inline(always)]
fn forward_of_width<S: Simd, const W: usize>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    y: &mut [S::T],
    lse: &mut [S::T],
) {
    let (t, d, group, stride) = (a.seq_len, a.head_size, a.group(), a.qkv_width());
    let factor = a.log2_factor();
    let sequences = qkv.chunks_exact(t * stride).zip(y.chunks_exact_mut(t * a.y_width()));
    for ((qkv, y), lse) in sequences.zip(lse.chunks_exact_mut(t * a.n_head)) {
        for kv in 0..a.n_kv_head {
            let part = |first: usize, group: usize| Rows { src: &qkv[first * d..], stride, group, d };
            let queries = part(kv * group, group);
            let mut keys = [[S::T::ZERO; LANES]; MAX_WIDTH * LANES];
            pack_strips(simd, part(a.n_head + kv, 1), t, &mut keys);
            let values: [[Line<S::T>; W]; LANES] =
                load_rows(simd, part(a.n_head + a.n_kv_head + kv, 1), 0..t, S::T::ONE);
            for first in (0..t * group).step_by(ROWS) {
                let end = (t * group).min(first + ROWS);
                let q: [[Line<S::T>; W]; ROWS] = load_rows(simd, queries, first..end, factor);
                let mut p = [[S::T::ZERO; LANES]; ROWS];
                let lhs = Lhs { data: q.as_flattened().as_flattened(), ld: W * LANES };
                let rhs = Rhs { lines: &keys, step: 1, across: 0 };
                product::<S, 1, false>(simd, d, lhs, rhs, Start::Zero, p.as_flattened_mut());

                let (mut maxima, mut sums) = ([S::T::ZERO; LANES], [S::T::ONE; LANES]);
                for ((r, p), (max, sum)) in (first..end).zip(&mut p).zip(maxima.iter_mut().zip(&mut sums)) {
                    let visible = first_lanes(simd, r / group + 1);
                    let s = simd.select(visible, simd.load(p), simd.splat(S::T::NEG_INFINITY));
                    *max = simd.max_lane(simd.max(s, simd.splat(S::T::NEG_INFINITY)));
                    let x = S::T::exp2(simd, simd.sub(s, simd.splat(*max)));
                    *sum = simd.sum_lanes(x);
                    simd.store(p, x);
                }

                let mut o = [[[S::T::ZERO; LANES]; W]; ROWS];
                let lhs = Lhs { data: p.as_flattened(), ld: LANES };
                let rhs = Rhs { lines: values.as_flattened(), step: W, across: 1 };
                let seen = (end - 1) / group + 1;
                let to = o.as_flattened_mut().as_flattened_mut();
                product::<S, W, false>(simd, seen, lhs, rhs, Start::Zero, to);

                let sums = simd.load(&sums);
                let reciprocal = simd.array(simd.div(simd.splat(S::T::ONE), sums));
                let log2 = simd.mul(S::T::ln(simd, sums), simd.splat(S::T::from_f64(LOG2_E)));
                let log2 = simd.array(simd.add(simd.load(&maxima), log2));
                for (i, r) in (first..end).enumerate() {
                    let (row, h) = (r / group, kv * group + r % group);
                    store_row(simd, &mut y[(row * a.n_head + h) * d..][..d], &o[i], reciprocal[i], false);
                    lse[h * t + row] = log2[i];
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn backward_on<S: Simd>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    y: &[S::T],
    lse: &[S::T],
    dy: &[S::T],
    dqkv: &mut [S::T],
    add: bool,
) {
    match a.width() / LANES {
        1 => backward_of_width::<S, 1>(simd, a, qkv, y, lse, dy, dqkv, add),
        _ => backward_of_width::<S, MAX_WIDTH>(simd, a, qkv, y, lse, dy, dqkv, add),
    }
}

/// The backward pass with `W` vectors to a row.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn backward_of_width<S: Simd, const W: usize>(
    simd: S,
    a: Attention,
    qkv: &[S::T],
    y: &[S::T],
    lse: &[S::T],
    dy: &[S::T],
    dqkv: &mut [S::T],
    add: bool,
) {
    let (t, d, group, stride) = (a.seq_len, a.head_size, a.group(), a.qkv_width());
    let (factor, scale, one) = (a.log2_factor(), S::T::from_f64(a.scale), S::T::ONE);
    let ln_2 = S::T::from_f64(LN_2);
    for (b, (qkv, dqkv)) in qkv.chunks_exact(t * stride).zip(dqkv.chunks_exact_mut(t * stride)).enumerate() {
        let lse = &lse[b * t * a.n_head..][..t * a.n_head];
        for kv in 0..a.n_kv_head {
            let part = |first: usize, group: usize| Rows { src: &qkv[first * d..], stride, group, d };
            let start = b * t * a.y_width() + kv * group * d;
            let output = Rows { src: &y[start..], stride: a.y_width(), group, d };
            let gradient = Rows { src: &dy[start..], stride: a.y_width(), group, d };
            let (k, v) = (part(a.n_head + kv, 1), part(a.n_head + a.n_kv_head + kv, 1));
            let mut k_strips = [[S::T::ZERO; LANES]; MAX_WIDTH * LANES];
            let mut v_strips = k_strips;
            pack_strips(simd, k, t, &mut k_strips);
            pack_strips(simd, v, t, &mut v_strips);
            let keys: [[Line<S::T>; W]; LANES] = load_rows(simd, k, 0..t, one);
            let mut dk = [[[S::T::ZERO; LANES]; W]; LANES];
            let mut dv = dk;
            for first in (0..t * group).step_by(ROWS) {
                let end = (t * group).min(first + ROWS);
                let seen = (end - 1) / group + 1;
                let q: [[Line<S::T>; W]; ROWS] = load_rows(simd, part(kv * group, group), first..end, factor);
                let o: [[Line<S::T>; W]; ROWS] = load_rows(simd, output, first..end, one);
                let dy: [[Line<S::T>; W]; ROWS] = load_rows(simd, gradient, first..end, one);
                let (mut p, mut dz) = ([[S::T::ZERO; LANES]; ROWS], [[S::T::ZERO; LANES]; ROWS]);
                for (left, strips, to) in [(&q, &k_strips, &mut p), (&dy, &v_strips, &mut dz)] {
                    let lhs = Lhs { data: left.as_flattened().as_flattened(), ld: W * LANES };
                    let rhs = Rhs { lines: strips, step: 1, across: 0 };
                    product::<S, 1, false>(simd, d, lhs, rhs, Start::Zero, to.as_flattened_mut());
                }
                for i in 0..ROWS {
                    let r = first + i;
                    if r >= end {
                        // Rows that do not exist take no part in the products across rows.
                        (p[i], dz[i]) = ([S::T::ZERO; LANES], [S::T::ZERO; LANES]);
                        continue;
                    }
                    let mut delta = simd.zero();
                    for (y, dy) in o[i].iter().zip(&dy[i]) {
                        delta = simd.mul_add(simd.load(y), simd.load(dy), delta);
                    }
                    let delta = simd.splat(simd.sum_lanes(delta));
                    let visible = first_lanes(simd, r / group + 1);
                    let lse = simd.splat(lse[(kv * group + r % group) * t + r / group]);
                    let x = S::T::exp2(simd, simd.sub(simd.load(&p[i]), lse));
                    let x = simd.select(visible, x, simd.zero());
                    let dx = simd.mul(x, simd.sub(simd.load(&dz[i]), delta));
                    simd.store(&mut p[i], x);
                    simd.store(&mut dz[i], simd.select(visible, dx, simd.zero()));
                }

                let mut dq = [[[S::T::ZERO; LANES]; W]; ROWS];
                let lhs = Lhs { data: dz.as_flattened(), ld: LANES };
                let rhs = Rhs { lines: keys.as_flattened(), step: W, across: 1 };
                let to = dq.as_flattened_mut().as_flattened_mut();
                product::<S, W, false>(simd, seen, lhs, rhs, Start::Zero, to);
                for (i, r) in (first..end).enumerate() {
                    let at = r / group * stride + (kv * group + r % group) * d;
                    store_row(simd, &mut dqkv[at..][..d], &dq[i], scale, add);
                }

                for (left, right, to) in [(&p, &dy, &mut dv), (&dz, &q, &mut dk)] {
                    for key in (0..seen).step_by(ROWS) {
                        let lhs = Lhs { data: &left.as_flattened()[key..], ld: LANES };
                        let rhs = Rhs { lines: right.as_flattened(), step: W, across: 1 };
                        let to = to[key..].as_flattened_mut().as_flattened_mut();
                        product::<S, W, true>(simd, ROWS, lhs, rhs, Start::There, to);
                    }
                }
            }
            for row in 0..t {
                let at = row * stride + (a.n_head + kv) * d;
                store_row(simd, &mut dqkv[at..][..d], &dk[row], ln_2, add);
                let at = at + a.n_kv_head * d;
                store_row(simd, &mut dqkv[at..][..d], &dv[row], one, add);
            }
        }
    }
}
