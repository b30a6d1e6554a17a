//! Sixteen lanes in an array: every target's level, and the one `f64` runs at.

use std::marker::PhantomData;

use super::{LANES, Simd};
use crate::Real;

/// The token of a level that needs nothing beyond the target's baseline.
///
/// `FMA` says that the code around is compiled with an instruction for `mul_add`. It changes no result: without one, sixteen
/// calls of a function stand in its place, and those are kept out of the kernels, which would grow tenfold.
#[derive(Clone, Copy)]
pub struct Portable<T, const FMA: bool = { cfg!(not(target_arch = "x86_64")) }>(PhantomData<T>);

impl<T, const FMA: bool> Portable<T, FMA> {
    /// The token.
    #[inline(always)]
    #[expect(clippy::new_without_default, reason = "a token is asked for by name")]
    pub fn new() -> Self {
        Portable(PhantomData)
    }
}

#[inline(always)]
fn zip<T: Real>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    let mut y = a;
    for i in 0..LANES {
        y[i] = f(a[i], b[i]);
    }
    y
}

/// Fewer than [`LANES`] elements. By call: a loop of unknown length is unrolled to a page of code at each of its uses.
#[inline(never)]
fn load_part<T: Real>(src: &[T]) -> [T; LANES] {
    let mut v = [T::ZERO; LANES];
    for (v, x) in v.iter_mut().zip(src) {
        *v = *x;
    }
    v
}

/// As [`load_part`].
#[inline(never)]
fn store_part<T: Real>(dst: &mut [T], v: [T; LANES]) {
    for (y, v) in dst.iter_mut().zip(v) {
        *y = v;
    }
}

#[inline(always)]
fn mul_add<T: Real>(a: [T; LANES], b: [T; LANES], c: [T; LANES]) -> [T; LANES] {
    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
}

#[inline(never)]
fn mul_add_by_call<T: Real>(a: [T; LANES], b: [T; LANES], c: [T; LANES]) -> [T; LANES] {
    mul_add(a, b, c)
}

#[inline(always)]
fn round<T: Real>(a: [T; LANES]) -> [T; LANES] {
    a.map(T::round_ties_even)
}

#[inline(never)]
fn round_by_call<T: Real>(a: [T; LANES]) -> [T; LANES] {
    round(a)
}

impl<T: Real, const FMA: bool> Simd for Portable<T, FMA> {
    type T = T;
    type V = [T; LANES];
    type M = [bool; LANES];

    // 4 × 16 floats are 16 registers of four: all of SSE2's, half of NEON's.
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn witness() -> Self {
        Portable::new()
    }

    #[inline(always)]
    fn splat(self, x: T) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, src: &[T]) -> Self::V {
        *src.first_chunk().expect("a full vector")
    }
    #[inline(always)]
    fn store(self, dst: &mut [T], v: Self::V) {
        *dst.first_chunk_mut().expect("a full vector") = v;
    }
    #[inline(always)]
    fn load_up_to(self, src: &[T]) -> Self::V {
        src.first_chunk().copied().unwrap_or_else(|| load_part(src))
    }
    #[inline(always)]
    fn store_up_to(self, dst: &mut [T], v: Self::V) {
        match dst.first_chunk_mut() {
            Some(dst) => *dst = v,
            None => store_part(dst, v),
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if FMA { mul_add(a, b, c) } else { mul_add_by_call(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        a.map(T::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        a.map(T::abs)
    }
    #[inline(always)]
    fn neg(self, a: Self::V) -> Self::V {
        a.map(|a| -a)
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        if FMA { round(a) } else { round_by_call(a) }
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: Self::V, n: Self::V) -> Self::V {
        zip(a, n, T::scale_by_power_of_two)
    }
    #[inline(always)]
    fn split_exponent(self, a: Self::V) -> (Self::V, Self::V) {
        (a.map(|a| a.split_exponent().0), a.map(|a| a.split_exponent().1))
    }

    #[inline(always)]
    fn lt(self, a: Self::V, b: Self::V) -> Self::M {
        std::array::from_fn(|i| a[i] < b[i])
    }
    #[inline(always)]
    #[expect(clippy::eq_op, reason = "a NaN is what differs from itself")]
    fn is_nan(self, a: Self::V) -> Self::M {
        a.map(|a| a != a)
    }
    #[inline(always)]
    fn select(self, mask: Self::M, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if mask[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn array(self, v: Self::V) -> [T; LANES] {
        v
    }
    #[inline(always)]
    fn sum_lanes(self, mut v: Self::V) -> T {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] += v[i + half];
            }
        }
        v[0]
    }
    #[inline(always)]
    fn max_lane(self, mut v: Self::V) -> T {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] = if v[i] > v[i + half] { v[i] } else { v[i + half] };
            }
        }
        v[0]
    }
    #[inline(always)]
    fn prefetch<E>(self, _src: &[E], _distance: usize) {}
}
