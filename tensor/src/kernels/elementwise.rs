//! Elementwise kernels over contiguous slices of equal length.

use crate::dispatch;
use crate::simd::{LANES, Simd};

dispatch! {
    /// `y += alpha · x`, elementwise. Panics if the lengths differ.
    pub fn axpy<T>(alpha: T, x: &[T], y: &mut [T]) = axpy_on

    /// `y = scale · x + shift`, elementwise. Panics if the lengths differ.
    pub fn affine<T>(scale: T, shift: T, x: &[T], y: &mut [T]) = affine_on
}

#[inline(always)]
fn axpy_on<S: Simd>(simd: S, alpha: S::T, x: &[S::T], y: &mut [S::T]) {
    assert_eq!(x.len(), y.len(), "axpy: x and y differ in length");
    let a = simd.splat(alpha);
    for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
        simd.store_up_to(y, simd.mul_add(a, simd.load_up_to(x), simd.load_up_to(y)));
    }
}

#[inline(always)]
fn affine_on<S: Simd>(simd: S, scale: S::T, shift: S::T, x: &[S::T], y: &mut [S::T]) {
    assert_eq!(x.len(), y.len(), "affine: x and y differ in length");
    let (scale, shift) = (simd.splat(scale), simd.splat(shift));
    for (x, y) in x.chunks(LANES).zip(y.chunks_mut(LANES)) {
        simd.store_up_to(y, simd.mul_add(scale, simd.load_up_to(x), shift));
    }
}
