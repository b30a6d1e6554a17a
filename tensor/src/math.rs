//! Elementary functions over `f32` vectors, the same bits at every SIMD level.

use crate::simd::Simd;

/// eˣ.
#[inline(always)]
pub fn exp<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    simd.map_lanes(x, libm::expf)
}
/// ln x.
#[inline(always)]
pub fn ln<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    simd.map_lanes(x, libm::logf)
}
/// tanh x.
#[inline(always)]
pub fn tanh<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    simd.map_lanes(x, libm::tanhf)
}
/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    simd.map_lanes(x, |x| 1.0 / (1.0 + libm::expf(-x)))
}
/// erf x.
#[inline(always)]
pub fn erf<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    simd.map_lanes(x, libm::erff)
}
