//! Heads of unit length, for attention by cosine similarity (Henry et al. 2020, arXiv:2010.04245).
//!
//! With r = 1/√(Σx² + ε) over a head: k̂ = r k, and q̂ = s r q with a learned scale s of the query head, so that the score
//! q̂ · k̂ is s times the cosine of the angle between q and k.

use super::{Grad, Heads, put};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Added to a head's sum of squares, so that a head of zeros has a gradient.
const EPS: f64 = 1e-6;

/// Query heads to length `scale[h]`, key heads to length 1, values copied.
///
/// Shapes: `qkv` and `y` (rows, (H + 2 Hkv) D), `scale` (H).
///
/// # Panics
/// If the sizes do not fit.
#[track_caller]
pub fn l2_normalize_heads<T: Real>(qkv: &[T], scale: &[T], heads: Heads, y: &mut [T]) {
    check(qkv.len(), y.len(), scale.len(), heads);
    forward(qkv, scale, heads, y);
}

/// The gradients of [`l2_normalize_heads`]; those that nobody needs are `None`.
///
/// With g = Σ x dy over a head: dx = s r (dy − r² g x) and ds = Σ r g over the rows, in order (s = 1 for keys).
/// Shapes: `dy` and `dqkv` as `qkv`, `dscale` as `scale`.
///
/// # Panics
/// If the sizes do not fit.
#[track_caller]
pub fn l2_normalize_heads_backward<T: Real>(
    qkv: &[T],
    scale: &[T],
    heads: Heads,
    dy: &[T],
    dqkv: Option<Grad<'_, T>>,
    dscale: Option<Grad<'_, T>>,
) {
    check(qkv.len(), dy.len(), scale.len(), heads);
    if let Some(dqkv) = dqkv {
        assert_eq!(dqkv.data.len(), qkv.len(), "l2_normalize_heads: qkv and its gradient differ in length");
        backward(qkv, scale, heads, dy, dqkv);
    }
    if let Some(dscale) = dscale {
        assert_eq!(
            dscale.data.len(),
            scale.len(),
            "l2_normalize_heads: scale and its gradient differ in length"
        );
        backward_scale(qkv, heads, dy, dscale);
    }
}

#[track_caller]
fn check(qkv: usize, y: usize, scale: usize, heads: Heads) {
    let width = heads.width();
    assert!(width > 0 && qkv.is_multiple_of(width), "l2_normalize_heads: qkv is not rows of {width}");
    assert_eq!(qkv, y, "l2_normalize_heads: qkv and y differ in length");
    assert_eq!(scale, heads.n_head, "l2_normalize_heads: scale is not one number for each query head");
}

dispatch! {
    fn forward<T>(qkv: &[T], scale: &[T], heads: Heads, y: &mut [T]) = forward_on
    fn backward<T>(qkv: &[T], scale: &[T], heads: Heads, dy: &[T], dqkv: Grad<'_, T>) = backward_on
    fn backward_scale<T>(qkv: &[T], heads: Heads, dy: &[T], dscale: Grad<'_, T>) = backward_scale_on
}

/// Σ a b over a head.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[S::T], b: &[S::T]) -> S::T {
    let mut sum = simd.zero();
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        sum = simd.mul_add(simd.load_up_to(a), simd.load_up_to(b), sum);
    }
    simd.sum_lanes(sum)
}

/// 1/√(Σx² + ε) over a head.
#[inline(always)]
fn inverse_length<S: Simd>(simd: S, x: &[S::T]) -> S::T {
    S::T::ONE / (dot(simd, x, x) + S::T::from_f64(EPS)).sqrt()
}

#[inline(always)]
fn forward_on<S: Simd>(simd: S, qkv: &[S::T], scale: &[S::T], heads: Heads, y: &mut [S::T]) {
    let (width, d) = (heads.width(), heads.head_size);
    for (x, y) in qkv.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        for (h, (x, y)) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).enumerate() {
            if h >= heads.n_head + heads.n_kv_head {
                y.copy_from_slice(x);
                continue;
            }
            let r = inverse_length(simd, x);
            let factor = simd.splat(scale.get(h).map_or(r, |&s| s * r));
            for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
                simd.store_up_to(y, simd.mul(simd.load_up_to(x), factor));
            }
        }
    }
}

#[inline(always)]
fn backward_on<S: Simd>(
    simd: S,
    qkv: &[S::T],
    scale: &[S::T],
    heads: Heads,
    dy: &[S::T],
    dqkv: Grad<'_, S::T>,
) {
    let (width, d) = (heads.width(), heads.head_size);
    let rows = qkv.chunks_exact(width).zip(dy.chunks_exact(width));
    for ((x, dy), dx) in rows.zip(dqkv.data.chunks_exact_mut(width)) {
        let heads_of_row = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d));
        for (h, ((x, dy), dx)) in heads_of_row.enumerate() {
            let (mut factor, mut along) = (S::T::ONE, S::T::ZERO);
            if h < heads.n_head + heads.n_kv_head {
                let r = inverse_length(simd, x);
                factor = scale.get(h).map_or(r, |&s| s * r);
                along = -(factor * r * r * dot(simd, x, dy));
            }
            let (factor, along) = (simd.splat(factor), simd.splat(along));
            for ((x, dy), dx) in x.chunks(LANES).zip(dy.chunks(LANES)).zip(dx.chunks_mut(LANES)) {
                let v = simd.mul_add(along, simd.load_up_to(x), simd.mul(factor, simd.load_up_to(dy)));
                put(simd, dx, v, dqkv.add);
            }
        }
    }
}

#[inline(always)]
fn backward_scale_on<S: Simd>(simd: S, qkv: &[S::T], heads: Heads, dy: &[S::T], dscale: Grad<'_, S::T>) {
    let (width, d) = (heads.width(), heads.head_size);
    if !dscale.add {
        dscale.data.fill(S::T::ZERO);
    }
    for (x, dy) in qkv.chunks_exact(width).zip(dy.chunks_exact(width)) {
        for ((x, dy), ds) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(&mut *dscale.data) {
            *ds += inverse_length(simd, x) * dot(simd, x, dy);
        }
    }
}
