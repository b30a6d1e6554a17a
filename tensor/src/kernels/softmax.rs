//! Softmax and its logarithm over the last dimension.
//!
//! y = e^(x − max) / Σ e^(x − max): the largest entry is subtracted, so nothing overflows. An entry of −∞ gets the
//! probability 0. A row of −∞ only has no distribution: its softmax is all zeros (and its logarithm all −∞), so that a
//! fully masked row adds nothing and no NaN spreads from it. A row with NaN or +∞ becomes NaN.

use super::split::{In, Out, by_rows, is_large, rows_in_chunk};
use super::{Grad, put, sweep};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// y = softmax x for each row of `cols` numbers.
///
/// # Panics
/// If the lengths differ or are no multiple of `cols`.
pub fn softmax<T: Real>(x: &[T], y: &mut [T], cols: usize) {
    check_rows("softmax", x.len(), y.len(), cols);
    forward(x, y, cols, softmax_rows);
}

/// y = ln softmax x for each row of `cols` numbers.
///
/// # Panics
/// If the lengths differ or are no multiple of `cols`.
pub fn log_softmax<T: Real>(x: &[T], y: &mut [T], cols: usize) {
    check_rows("log_softmax", x.len(), y.len(), cols);
    forward(x, y, cols, log_softmax_rows);
}

/// dx = y ∘ (dy − Σ dy ∘ y) for each row, with y = softmax x.
///
/// # Panics
/// If the lengths differ or are no multiple of `cols`.
pub fn softmax_backward<T: Real>(y: &[T], dy: &[T], dx: Grad<'_, T>, cols: usize) {
    check_rows("softmax_backward", y.len(), dy.len(), cols);
    assert_eq!(y.len(), dx.data.len(), "softmax_backward: y and dx differ in length");
    backward(y, dy, dx, cols, softmax_backward_rows);
}

/// dx = dy − e^y Σ dy for each row, with y = ln softmax x.
///
/// # Panics
/// If the lengths differ or are no multiple of `cols`.
pub fn log_softmax_backward<T: Real>(y: &[T], dy: &[T], dx: Grad<'_, T>, cols: usize) {
    check_rows("log_softmax_backward", y.len(), dy.len(), cols);
    assert_eq!(y.len(), dx.data.len(), "log_softmax_backward: y and dx differ in length");
    backward(y, dy, dx, cols, log_softmax_backward_rows);
}

fn check_rows(name: &str, a: usize, b: usize, cols: usize) {
    assert_eq!(a, b, "{name}: input and output differ in length");
    assert!(a == 0 || cols > 0 && a.is_multiple_of(cols), "{name}: {a} numbers are not rows of {cols}");
}

/// Hands all rows to `kernel`, large inputs in pieces.
fn forward<T: Real>(x: &[T], y: &mut [T], cols: usize, kernel: fn(&[T], &mut [T], usize)) {
    let (parallel, rows) = (is_large::<T>(2 * x.len()), x.len() / cols.max(1));
    let all = (In(x, cols), Out(y, cols));
    by_rows(parallel, rows, rows_in_chunk(cols), all, &|(x, y)| kernel(x.0, y.0, cols));
}

/// As [`forward`].
fn backward<T: Real>(
    y: &[T],
    dy: &[T],
    dx: Grad<'_, T>,
    cols: usize,
    kernel: fn(&[T], &[T], &mut [T], bool, usize),
) {
    let Grad { data, add } = dx;
    let (parallel, rows) = (is_large::<T>(3 * y.len()), y.len() / cols.max(1));
    let all = (In(y, cols), In(dy, cols), Out(data, cols));
    by_rows(parallel, rows, rows_in_chunk(cols), all, &|(y, dy, dx)| {
        kernel(y.0, dy.0, dx.0, add, cols);
    });
}

dispatch! {
    fn softmax_rows<T>(x: &[T], y: &mut [T], cols: usize) = softmax_rows_on
    fn log_softmax_rows<T>(x: &[T], y: &mut [T], cols: usize) = log_softmax_rows_on
    fn softmax_backward_rows<T>(y: &[T], dy: &[T], dx: &mut [T], add: bool, cols: usize) = softmax_backward_rows_on
    fn log_softmax_backward_rows<T>(y: &[T], dy: &[T], dx: &mut [T], add: bool, cols: usize) = log_softmax_backward_rows_on
}

#[inline(always)]
fn softmax_rows_on<S: Simd>(simd: S, x: &[S::T], y: &mut [S::T], cols: usize) {
    for (x, y) in x.chunks_exact(cols.max(1)).zip(y.chunks_exact_mut(cols.max(1))) {
        let sum = exp_into(simd, x, max_or_zero(simd, x), y);
        scale(simd, y, reciprocal_or_zero(sum));
    }
}

#[inline(always)]
fn log_softmax_rows_on<S: Simd>(simd: S, x: &[S::T], y: &mut [S::T], cols: usize) {
    for (x, y) in x.chunks_exact(cols.max(1)).zip(y.chunks_exact_mut(cols.max(1))) {
        let max = max_or_zero(simd, x);
        let sum = exp_sum(simd, x, max);
        let ln = simd.array(S::T::ln(simd, simd.splat(sum)))[0];
        // ln 0 = −∞ would turn −∞ into NaN.
        let ln = simd.splat(if sum == S::T::ZERO { S::T::ZERO } else { ln });
        let max = simd.splat(max);
        sweep!((x), (y) => simd.store_up_to(y, simd.sub(simd.sub(simd.load_up_to(x), max), ln)));
    }
}

#[inline(always)]
fn softmax_backward_rows_on<S: Simd>(
    simd: S,
    y: &[S::T],
    dy: &[S::T],
    dx: &mut [S::T],
    add: bool,
    cols: usize,
) {
    let cols = cols.max(1);
    for ((y, dy), dx) in y.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
        let mut dot = simd.zero();
        sweep!((y, dy), () => dot = simd.mul_add(simd.load_up_to(y), simd.load_up_to(dy), dot));
        let dot = simd.splat(simd.sum_lanes(dot));
        sweep!((y, dy), (dx) => {
            put(simd, dx, simd.mul(simd.load_up_to(y), simd.sub(simd.load_up_to(dy), dot)), add);
        });
    }
}

#[inline(always)]
fn log_softmax_backward_rows_on<S: Simd>(
    simd: S,
    y: &[S::T],
    dy: &[S::T],
    dx: &mut [S::T],
    add: bool,
    cols: usize,
) {
    let cols = cols.max(1);
    for ((y, dy), dx) in y.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
        let mut sum = simd.zero();
        sweep!((dy), () => sum = simd.add(simd.load_up_to(dy), sum));
        let sum = simd.splat(simd.sum_lanes(sum));
        sweep!((y, dy), (dx) => {
            let p = S::T::exp(simd, simd.load_up_to(y));
            put(simd, dx, simd.neg_mul_add(p, sum, simd.load_up_to(dy)), add);
        });
    }
}

/// As `load_up_to`, with −∞ in the lanes that `src` does not fill.
#[inline(always)]
fn load_or_neg_infinity<S: Simd>(simd: S, src: &[S::T]) -> S::V {
    let x = simd.load_up_to(src);
    if src.len() >= LANES {
        return x;
    }
    let ones = [S::T::ONE; LANES];
    let filled = simd.lt(simd.zero(), simd.load_up_to(&ones[..src.len()]));
    simd.select(filled, x, simd.splat(S::T::NEG_INFINITY))
}

/// The largest entry; −∞ for none. A NaN may or may not be passed over.
#[inline(always)]
pub(super) fn max_of<S: Simd>(simd: S, x: &[S::T]) -> S::T {
    let mut max = [simd.splat(S::T::NEG_INFINITY); 4];
    let (fours, x) = x.as_chunks::<{ 4 * LANES }>();
    for four in fours {
        for (i, max) in max.iter_mut().enumerate() {
            *max = simd.max(simd.load(&four[i * LANES..]), *max);
        }
    }
    sweep!((x), () => max[0] = simd.max(load_or_neg_infinity(simd, x), max[0]));
    simd.max_lane(simd.max(simd.max(max[0], max[1]), simd.max(max[2], max[3])))
}

/// The largest entry as something to subtract: 0 where all are −∞, whose difference would be NaN.
#[inline(always)]
pub(super) fn max_or_zero<S: Simd>(simd: S, x: &[S::T]) -> S::T {
    finite_or_zero(max_of(simd, x))
}

/// −∞ becomes 0.
#[inline(always)]
pub(super) fn finite_or_zero<T: Real>(max: T) -> T {
    if max == T::NEG_INFINITY { T::ZERO } else { max }
}

/// 1 / sum, or 0 for an empty sum.
#[inline(always)]
pub(super) fn reciprocal_or_zero<T: Real>(sum: T) -> T {
    if sum == T::ZERO { T::ZERO } else { T::ONE / sum }
}

/// Σ e^(x − max).
#[inline(always)]
pub(super) fn exp_sum<S: Simd>(simd: S, x: &[S::T], max: S::T) -> S::T {
    let (max, mut sum) = (simd.splat(max), simd.zero());
    sweep!((x), () => {
        sum = simd.add(sum, S::T::exp(simd, simd.sub(load_or_neg_infinity(simd, x), max)));
    });
    simd.sum_lanes(sum)
}

/// As [`exp_sum`], and y = e^(x − max).
#[inline(always)]
pub(super) fn exp_into<S: Simd>(simd: S, x: &[S::T], max: S::T, y: &mut [S::T]) -> S::T {
    let (max, mut sum) = (simd.splat(max), simd.zero());
    sweep!((x), (y) => {
        let e = S::T::exp(simd, simd.sub(load_or_neg_infinity(simd, x), max));
        simd.store_up_to(y, e);
        sum = simd.add(sum, e);
    });
    simd.sum_lanes(sum)
}

/// As [`exp_sum`], and x becomes e^(x − max); `ahead`, which comes next, is fetched into the cache meanwhile.
#[inline(always)]
pub(super) fn exp_in_place<S: Simd>(simd: S, x: &mut [S::T], max: S::T, ahead: &[S::T]) -> S::T {
    let (max, mut sum) = (simd.splat(max), simd.zero());
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    for (i, x) in vectors.iter_mut().enumerate() {
        if let Some(line) = ahead.get(i * LANES..) {
            simd.prefetch(line, 0);
        }
        let e = S::T::exp(simd, simd.sub(simd.load(x), max));
        simd.store(x, e);
        sum = simd.add(sum, e);
    }
    if !rest.is_empty() {
        let e = S::T::exp(simd, simd.sub(load_or_neg_infinity(simd, rest), max));
        simd.store_up_to(rest, e);
        sum = simd.add(sum, e);
    }
    simd.sum_lanes(sum)
}

/// y *= a.
#[inline(always)]
pub(super) fn scale<S: Simd>(simd: S, y: &mut [S::T], a: S::T) {
    let a = simd.splat(a);
    let (vectors, rest) = y.as_chunks_mut::<LANES>();
    for y in vectors {
        let scaled = simd.mul(a, simd.load(y));
        simd.store(y, scaled);
    }
    let scaled = simd.mul(a, simd.load_up_to(rest));
    simd.store_up_to(rest, scaled);
}
