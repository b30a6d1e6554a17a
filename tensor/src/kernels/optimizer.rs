//! Parameter updates in one sweep, and the sums that clipping needs.

use rayon::prelude::*;

use super::split::{CHUNK, Job, is_large, split};
use super::sweep;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// One step of AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// Weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// Number of this step, from 1: what the means lack by beginning at zero is made up for.
    pub step: u64,
    /// Multiplies the gradients first: 1, or less to clip their norm.
    pub grad_scale: f64,
}

/// One step of gradient descent with momentum.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the velocity; 0 for none.
    pub momentum: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Multiplies the gradients first: 1, or less to clip their norm.
    pub grad_scale: f64,
}

/// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
/// p ← (1 − lr · weight_decay) p − lr · m̂ / (√v̂ + eps), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
///
/// # Panics
/// If the lengths differ, or `step` is 0.
pub fn adamw<T: Real>(options: &AdamW, params: &mut [T], grads: &[T], m: &mut [T], v: &mut [T]) {
    assert_eq!(params.len(), grads.len(), "adamw: params and grads differ in length");
    assert_eq!(params.len(), m.len(), "adamw: params and m differ in length");
    assert_eq!(params.len(), v.len(), "adamw: params and v differ in length");
    assert!(options.step > 0, "adamw: steps are counted from 1");
    if is_large::<T>(7 * params.len()) {
        let values = params.par_chunks_mut(CHUNK).zip(grads.par_chunks(CHUNK));
        let chunks = values.zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
        chunks.for_each(|(((params, grads), m), v)| adamw_chunk(options, params, grads, m, v));
    } else {
        adamw_chunk(options, params, grads, m, v);
    }
}

/// u ← momentum · u + g + weight_decay · p, p ← p − lr · u.
///
/// # Panics
/// If the lengths differ.
pub fn sgd<T: Real>(options: &Sgd, params: &mut [T], grads: &[T], velocity: &mut [T]) {
    assert_eq!(params.len(), grads.len(), "sgd: params and grads differ in length");
    assert_eq!(params.len(), velocity.len(), "sgd: params and velocity differ in length");
    if is_large::<T>(5 * params.len()) {
        let values = params.par_chunks_mut(CHUNK).zip(grads.par_chunks(CHUNK));
        let chunks = values.zip(velocity.par_chunks_mut(CHUNK));
        chunks.for_each(|((params, grads), velocity)| sgd_chunk(options, params, grads, velocity));
    } else {
        sgd_chunk(options, params, grads, velocity);
    }
}

/// x *= alpha.
pub fn scale<T: Real>(alpha: T, x: &mut [T]) {
    if is_large::<T>(2 * x.len()) {
        x.par_chunks_mut(CHUNK).for_each(|x| scale_chunk(alpha, x));
    } else {
        scale_chunk(alpha, x);
    }
}

/// Σ x², added in `f64` in an order that depends on the length alone. NaN and ∞ come through.
pub fn sum_of_squares<T: Real>(x: &[T]) -> f64 {
    split(SumOfSquares(x), is_large::<T>(x.len()))
}

/// Adds each of `parts` to `total`, the first one first, and returns Σ total² as [`sum_of_squares`] does: the gradients
/// of all replicas and their norm in one sweep.
///
/// # Panics
/// If the lengths differ.
pub fn add_and_sum_squares<T: Real>(total: &mut [T], parts: &[&[T]]) -> f64 {
    for part in parts {
        assert_eq!(part.len(), total.len(), "add_and_sum_squares: a part and the total differ in length");
    }
    let parallel = is_large::<T>((parts.len() + 2) * total.len());
    split(AddAndSumSquares { total, parts, start: 0 }, parallel)
}

dispatch! {
    fn adamw_chunk<T>(options: &AdamW, params: &mut [T], grads: &[T], m: &mut [T], v: &mut [T]) = adamw_on
    fn sgd_chunk<T>(options: &Sgd, params: &mut [T], grads: &[T], velocity: &mut [T]) = sgd_on
    fn scale_chunk<T>(alpha: T, x: &mut [T]) = scale_on
    fn sum_of_squares_chunk<T>(x: &[T]) -> f64 = sum_of_squares_on
    fn add_and_sum_squares_chunk<T>(total: &mut [T], parts: &[&[T]], start: usize) -> f64 = add_and_sum_squares_on
}

#[inline(always)]
fn adamw_on<S: Simd>(
    simd: S,
    options: &AdamW,
    params: &mut [S::T],
    grads: &[S::T],
    m: &mut [S::T],
    v: &mut [S::T],
) {
    let AdamW { lr, beta1, beta2, eps, weight_decay, step, grad_scale } = *options;
    let splat = |x: f64| simd.splat(S::T::from_f64(x));
    let correction1 = 1.0 - libm::pow(beta1, step as f64);
    let correction2 = 1.0 - libm::pow(beta2, step as f64);
    let (beta1, rest1) = (splat(beta1), splat(1.0 - beta1));
    let (beta2, rest2) = (splat(beta2), splat(1.0 - beta2));
    let (keep, rate) = (splat(1.0 - lr * weight_decay), splat(lr / correction1));
    let (root, eps) = (splat(1.0 / libm::sqrt(correction2)), splat(eps));
    let grad_scale = splat(grad_scale);
    sweep!((grads), (params, m, v) => {
        let g = simd.mul(simd.load_up_to(grads), grad_scale);
        let new_m = simd.mul_add(beta1, simd.load_up_to(m), simd.mul(rest1, g));
        let new_v = simd.mul_add(beta2, simd.load_up_to(v), simd.mul(rest2, simd.mul(g, g)));
        let step = simd.div(simd.mul(rate, new_m), simd.mul_add(simd.sqrt(new_v), root, eps));
        let p = simd.load_up_to(params);
        simd.store_up_to(m, new_m);
        simd.store_up_to(v, new_v);
        simd.store_up_to(params, simd.sub(simd.mul(keep, p), step));
    });
}

#[inline(always)]
fn sgd_on<S: Simd>(simd: S, options: &Sgd, params: &mut [S::T], grads: &[S::T], velocity: &mut [S::T]) {
    let splat = |x: f64| simd.splat(S::T::from_f64(x));
    let (lr, momentum) = (splat(options.lr), splat(options.momentum));
    let (weight_decay, grad_scale) = (splat(options.weight_decay), splat(options.grad_scale));
    sweep!((grads), (params, velocity) => {
        let p = simd.load_up_to(params);
        let g = simd.mul_add(weight_decay, p, simd.mul(grad_scale, simd.load_up_to(grads)));
        let u = simd.mul_add(momentum, simd.load_up_to(velocity), g);
        simd.store_up_to(velocity, u);
        simd.store_up_to(params, simd.neg_mul_add(lr, u, p));
    });
}

#[inline(always)]
fn scale_on<S: Simd>(simd: S, alpha: S::T, x: &mut [S::T]) {
    super::softmax::scale(simd, x, alpha);
}

// Squares of `f32` are exact in `f64`, so nothing overflows. The lanes are plain arrays, which the compiler lays into
// vectors: there is no vector of sixteen `f64` here.
#[inline(always)]
fn add_squares<T: Real>(sums: &mut [f64; LANES], x: &[T; LANES]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x.to_f64() * x.to_f64();
    }
}

/// The tree of [`Simd::sum_lanes`].
#[inline(always)]
fn sum_tree(mut sums: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

#[inline(always)]
fn sum_of_squares_on<S: Simd>(_simd: S, x: &[S::T]) -> f64 {
    let mut sums = [0.0; LANES];
    let (vectors, rest) = x.as_chunks();
    for x in vectors {
        add_squares(&mut sums, x);
    }
    let mut last = [S::T::ZERO; LANES];
    last[..rest.len()].copy_from_slice(rest);
    add_squares(&mut sums, &last);
    sum_tree(sums)
}

#[inline(always)]
fn add_and_sum_squares_on<S: Simd>(simd: S, total: &mut [S::T], parts: &[&[S::T]], start: usize) -> f64 {
    let mut sums = [0.0; LANES];
    for (i, total) in total.chunks_mut(LANES).enumerate() {
        let mut sum = simd.load_up_to(total);
        for part in parts {
            let at = start + i * LANES;
            sum = simd.add(sum, simd.load_up_to(&part[at..at + total.len()]));
        }
        simd.store_up_to(total, sum);
        add_squares(&mut sums, &simd.array(sum));
    }
    sum_tree(sums)
}

struct SumOfSquares<'a, T>(&'a [T]);

impl<T: Real> Job for SumOfSquares<'_, T> {
    type Output = f64;

    fn pieces(&self) -> usize {
        self.0.len().div_ceil(CHUNK)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let (a, b) = self.0.split_at(pieces * CHUNK);
        (SumOfSquares(a), SumOfSquares(b))
    }
    fn run(self) -> f64 {
        sum_of_squares_chunk(self.0)
    }
    fn combine(first: f64, second: f64) -> f64 {
        first + second
    }
}

struct AddAndSumSquares<'a, T> {
    total: &'a mut [T],
    /// Whole, of which `start` is where `total` begins.
    parts: &'a [&'a [T]],
    start: usize,
}

impl<T: Real> Job for AddAndSumSquares<'_, T> {
    type Output = f64;

    fn pieces(&self) -> usize {
        self.total.len().div_ceil(CHUNK)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let (a, b) = self.total.split_at_mut(pieces * CHUNK);
        let half = self.start + a.len();
        (AddAndSumSquares { total: a, ..self }, AddAndSumSquares { total: b, start: half, parts: self.parts })
    }
    fn run(self) -> f64 {
        add_and_sum_squares_chunk(self.total, self.parts, self.start)
    }
    fn combine(first: f64, second: f64) -> f64 {
        first + second
    }
}
