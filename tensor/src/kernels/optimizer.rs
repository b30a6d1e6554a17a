//! Parameter updates in one sweep over memory.
//!
//! The gradient comes in parts, one for each replica, and the sweep adds them up as it goes. Parameters, moments and parts
//! are flat buffers of one layout.

use std::ops::Range;

use super::gradient::{BLOCK, sum_of_parts};
use super::split::{CHUNK, Job, is_large, split};
use super::sweep;
use crate::simd::Simd;
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
    /// Weight decay, per unit of learning rate, where parameters decay.
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
    /// Weight decay, added to the gradient, where parameters decay.
    pub weight_decay: f64,
    /// Multiplies the gradients first: 1, or less to clip their norm.
    pub grad_scale: f64,
}

/// A stretch of the flat buffers whose parameters all decay, or none; what lies between stretches is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it lies.
    pub range: Range<usize>,
    /// Whether weight decay applies.
    pub decays: bool,
}

/// With g the sum of `grads`, the first one first, times the scale: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
/// p ← (1 − lr · weight_decay) p − lr · m̂ / (√v̂ + eps), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).
///
/// The `stretches` are in order.
///
/// # Panics
/// If the lengths differ, there is no gradient, a stretch is beyond the end, or `step` is 0.
pub fn adamw<T: Real>(
    options: &AdamW,
    stretches: &[Stretch],
    params: &mut [T],
    grads: &[&[T]],
    m: &mut [T],
    v: &mut [T],
) {
    assert!(options.step > 0, "adamw: steps are counted from 1");
    update("adamw", AdamWRule::new(options), stretches, params, grads, [m, v]);
}

/// With g the sum of `grads` times the scale: u ← momentum · u + g + weight_decay · p, p ← p − lr · u.
///
/// The `stretches` are in order.
///
/// # Panics
/// If the lengths differ, there is no gradient, or a stretch is beyond the end.
pub fn sgd<T: Real>(
    options: &Sgd,
    stretches: &[Stretch],
    params: &mut [T],
    grads: &[&[T]],
    velocity: &mut [T],
) {
    update("sgd", SgdRule::new(options), stretches, params, grads, [velocity]);
}

/// Checks the sizes and updates by pieces.
fn update<T: Real, R: Rule<T, M>, const M: usize>(
    name: &str,
    rule: R,
    stretches: &[Stretch],
    params: &mut [T],
    grads: &[&[T]],
    moments: [&mut [T]; M],
) {
    let len = params.len();
    assert!(!grads.is_empty(), "{name}: no gradient");
    assert!(grads.iter().all(|grad| grad.len() == len), "{name}: params and grads differ in length");
    assert!(moments.iter().all(|moment| moment.len() == len), "{name}: params and moments differ in length");
    assert!(stretches.iter().all(|stretch| stretch.range.end <= len), "{name}: a stretch is beyond the end");
    let parallel = is_large::<T>((grads.len() + 2 * (1 + M)) * len);
    split(Update { rule, stretches, start: 0, params, grads, moments }, parallel);
}

dispatch! {
    fn adamw_stretch<T>(rule: &AdamWRule<T>, decays: bool, params: &mut [T], grads: &[&[T]], at: usize, m: &mut [T], v: &mut [T]) = adamw_on
    fn sgd_stretch<T>(rule: &SgdRule<T>, decays: bool, params: &mut [T], grads: &[&[T]], at: usize, velocity: &mut [T]) = sgd_on
}

/// What a rule of optimisation does to a stretch; its numbers are computed once for all of them.
trait Rule<T, const M: usize>: Copy + Send {
    /// Updates `params` and `moments` by the sum of the gradients from `at` on.
    fn run(&self, decays: bool, params: &mut [T], grads: &[&[T]], at: usize, moments: [&mut [T]; M]);
}

#[derive(Clone, Copy)]
struct AdamWRule<T> {
    beta1: T,
    rest1: T,
    beta2: T,
    rest2: T,
    /// 1 − lr · weight_decay.
    keep: T,
    /// lr / (1 − β₁ᵗ).
    rate: T,
    /// 1 / √(1 − β₂ᵗ).
    root: T,
    eps: T,
    grad_scale: T,
}

impl<T: Real> AdamWRule<T> {
    fn new(options: &AdamW) -> Self {
        let AdamW { lr, beta1, beta2, eps, weight_decay, step, grad_scale } = *options;
        let correction1 = 1.0 - libm::pow(beta1, step as f64);
        let correction2 = 1.0 - libm::pow(beta2, step as f64);
        AdamWRule {
            beta1: T::from_f64(beta1),
            rest1: T::from_f64(1.0 - beta1),
            beta2: T::from_f64(beta2),
            rest2: T::from_f64(1.0 - beta2),
            keep: T::from_f64(1.0 - lr * weight_decay),
            rate: T::from_f64(lr / correction1),
            root: T::from_f64(1.0 / libm::sqrt(correction2)),
            eps: T::from_f64(eps),
            grad_scale: T::from_f64(grad_scale),
        }
    }
}

impl<T: Real> Rule<T, 2> for AdamWRule<T> {
    fn run(&self, decays: bool, params: &mut [T], grads: &[&[T]], at: usize, [m, v]: [&mut [T]; 2]) {
        adamw_stretch(self, decays, params, grads, at, m, v);
    }
}

#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
#[inline(always)]
fn adamw_on<S: Simd>(
    simd: S,
    rule: &AdamWRule<S::T>,
    decays: bool,
    params: &mut [S::T],
    grads: &[&[S::T]],
    at: usize,
    m: &mut [S::T],
    v: &mut [S::T],
) {
    let keep = simd.splat(if decays { rule.keep } else { S::T::ONE });
    let (beta1, rest1) = (simd.splat(rule.beta1), simd.splat(rule.rest1));
    let (beta2, rest2) = (simd.splat(rule.beta2), simd.splat(rule.rest2));
    let (rate, root, eps) = (simd.splat(rule.rate), simd.splat(rule.root), simd.splat(rule.eps));
    let grad_scale = simd.splat(rule.grad_scale);
    let mut sum = [S::T::ZERO; BLOCK];
    let moments = m.chunks_mut(BLOCK).zip(v.chunks_mut(BLOCK));
    for (i, (params, (m, v))) in params.chunks_mut(BLOCK).zip(moments).enumerate() {
        let grad = sum_of_parts(simd, grads, at + i * BLOCK, &mut sum[..params.len()]);
        sweep!((grad), (params, m, v) => {
            let g = simd.mul(simd.load_up_to(grad), grad_scale);
            let new_m = simd.mul_add(beta1, simd.load_up_to(m), simd.mul(rest1, g));
            let new_v = simd.mul_add(beta2, simd.load_up_to(v), simd.mul(rest2, simd.mul(g, g)));
            let step = simd.div(simd.mul(rate, new_m), simd.mul_add(simd.sqrt(new_v), root, eps));
            let p = simd.load_up_to(params);
            simd.store_up_to(m, new_m);
            simd.store_up_to(v, new_v);
            simd.store_up_to(params, simd.sub(simd.mul(keep, p), step));
        });
    }
}

#[derive(Clone, Copy)]
struct SgdRule<T> {
    lr: T,
    momentum: T,
    weight_decay: T,
    grad_scale: T,
}

impl<T: Real> SgdRule<T> {
    fn new(options: &Sgd) -> Self {
        SgdRule {
            lr: T::from_f64(options.lr),
            momentum: T::from_f64(options.momentum),
            weight_decay: T::from_f64(options.weight_decay),
            grad_scale: T::from_f64(options.grad_scale),
        }
    }
}

impl<T: Real> Rule<T, 1> for SgdRule<T> {
    fn run(&self, decays: bool, params: &mut [T], grads: &[&[T]], at: usize, [velocity]: [&mut [T]; 1]) {
        sgd_stretch(self, decays, params, grads, at, velocity);
    }
}

#[inline(always)]
fn sgd_on<S: Simd>(
    simd: S,
    rule: &SgdRule<S::T>,
    decays: bool,
    params: &mut [S::T],
    grads: &[&[S::T]],
    at: usize,
    velocity: &mut [S::T],
) {
    let weight_decay = simd.splat(if decays { rule.weight_decay } else { S::T::ZERO });
    let (lr, momentum, grad_scale) =
        (simd.splat(rule.lr), simd.splat(rule.momentum), simd.splat(rule.grad_scale));
    let mut sum = [S::T::ZERO; BLOCK];
    let blocks = params.chunks_mut(BLOCK).zip(velocity.chunks_mut(BLOCK));
    for (i, (params, velocity)) in blocks.enumerate() {
        let grad = sum_of_parts(simd, grads, at + i * BLOCK, &mut sum[..params.len()]);
        sweep!((grad), (params, velocity) => {
            let p = simd.load_up_to(params);
            let g = simd.mul_add(weight_decay, p, simd.mul(grad_scale, simd.load_up_to(grad)));
            let u = simd.mul_add(momentum, simd.load_up_to(velocity), g);
            simd.store_up_to(velocity, u);
            simd.store_up_to(params, simd.neg_mul_add(lr, u, p));
        });
    }
}

struct Update<'a, T, R, const M: usize> {
    rule: R,
    /// All of them.
    stretches: &'a [Stretch],
    /// Where in the flat buffers `params` and `moments` begin.
    start: usize,
    params: &'a mut [T],
    /// Whole.
    grads: &'a [&'a [T]],
    moments: [&'a mut [T]; M],
}

impl<T: Real, R: Rule<T, M>, const M: usize> Job for Update<'_, T, R, M> {
    type Output = ();

    fn pieces(&self) -> usize {
        self.params.len().div_ceil(CHUNK)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let at = pieces * CHUNK;
        let (params, params_b) = self.params.split_at_mut(at);
        let mut moments_b = std::array::from_fn(|_| Default::default());
        let mut others = moments_b.iter_mut();
        let moments = self.moments.map(|moment| {
            let (a, b) = moment.split_at_mut(at);
            *others.next().expect("one for each") = b;
            a
        });
        (
            Update { params, moments, ..self },
            Update { params: params_b, moments: moments_b, start: self.start + at, ..self },
        )
    }
    fn run(mut self) {
        let (start, end) = (self.start, self.start + self.params.len());
        let first = self.stretches.partition_point(|stretch| stretch.range.end <= start);
        for Stretch { range, decays } in &self.stretches[first..] {
            if range.start >= end {
                break;
            }
            let here = range.start.max(start) - start..range.end.min(end) - start;
            let moments = self.moments.each_mut().map(|moment| &mut moment[here.clone()]);
            self.rule.run(*decays, &mut self.params[here.clone()], self.grads, start + here.start, moments);
        }
    }
    fn combine((): (), (): ()) {}
}
