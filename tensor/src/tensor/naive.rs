//! The loops that are obviously right, behind the names of the kernels that replace them.

use crate::dispatch;
use crate::real::Real;
use crate::simd::{LANES, Simd};
use crate::strided::copy_into;
use crate::view::View;

/// A function of one number.
#[derive(Clone, Copy)]
pub(super) enum Unary {
    Exp,
    Ln,
    Tanh,
    Sigmoid,
    Erf,
    Sqrt,
    Neg,
    Abs,
    Relu,
}

dispatch! {
    pub(super) fn unary<T>(kind: Unary, x: &[T], y: &mut [T]) = unary_on
    fn product<T>(a: &[T], b: &[T], c: &mut [T], k: usize, n: usize) = product_on
    fn softmax_rows<T>(x: &[T], y: &mut [T], cols: usize, log: bool) = softmax_on
}

#[inline(always)]
fn unary_on<S: Simd>(simd: S, kind: Unary, x: &[S::T], y: &mut [S::T]) {
    for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
        let x = simd.load_up_to(x);
        let v = match kind {
            Unary::Exp => S::T::exp(simd, x),
            Unary::Ln => S::T::ln(simd, x),
            Unary::Tanh => S::T::tanh(simd, x),
            Unary::Sigmoid => S::T::sigmoid(simd, x),
            Unary::Erf => S::T::erf(simd, x),
            Unary::Sqrt => simd.sqrt(x),
            Unary::Neg => simd.neg(x),
            Unary::Abs => simd.abs(x),
            Unary::Relu => simd.max(simd.zero(), x),
        };
        simd.store_up_to(y, v);
    }
}

/// c = a · b for matrices (m, k) and (k, n) of any layout; each element is one chain over k in order.
pub(super) fn matmul<T: Real>(a: View<'_, T>, b: View<'_, T>, c: &mut [T]) {
    let (k, n) = (b.shape[0], b.shape[1]);
    c.fill(T::ZERO);
    if c.is_empty() || k == 0 {
        return;
    }
    let lie = |x: View<'_, T>| {
        let mut rows = vec![T::ZERO; x.shape.elements()];
        copy_into(x, &mut rows);
        rows
    };
    product(&lie(a), &lie(b), c, k, n);
}

#[inline(always)]
fn product_on<S: Simd>(simd: S, a: &[S::T], b: &[S::T], c: &mut [S::T], k: usize, n: usize) {
    for (a, c) in a.chunks_exact(k).zip(c.chunks_exact_mut(n)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            let a = simd.splat(a);
            for (b, c) in b.chunks(LANES).zip(c.chunks_mut(LANES)) {
                simd.store_up_to(c, simd.mul_add(a, simd.load_up_to(b), simd.load_up_to(c)));
            }
        }
    }
}

/// y = softmax x for each row of `cols` numbers.
pub(super) fn softmax<T: Real>(x: &[T], y: &mut [T], cols: usize) {
    softmax_rows(x, y, cols, false);
}

/// y = ln softmax x for each row of `cols` numbers.
pub(super) fn log_softmax<T: Real>(x: &[T], y: &mut [T], cols: usize) {
    softmax_rows(x, y, cols, true);
}

#[inline(always)]
fn softmax_on<S: Simd>(simd: S, x: &[S::T], y: &mut [S::T], cols: usize, log: bool) {
    let one = |f: fn(S, S::V) -> S::V, x: S::T| simd.array(f(simd, simd.splat(x)))[0];
    for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
        let largest = x.iter().fold(S::T::NEG_INFINITY, |a, &b| if a > b { a } else { b });
        for (y, &x) in y.iter_mut().zip(x) {
            *y = one(S::T::exp, x - largest);
        }
        let sum: S::T = y.iter().copied().sum();
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if log { x - largest - one(S::T::ln, sum) } else { *y / sum };
        }
    }
}
