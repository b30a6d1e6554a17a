//! The element types: `f32` to train with, `f64` to check gradients with.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::buffer::Element;
use crate::simd::Simd;

/// A floating-point element: `f32` or `f64`.
///
/// The vector functions (`exp` to `erf`) are associated functions over any [`Simd`] of the type: for `f32` the
/// polynomials of [`crate::math`], for `f64` lane by lane those of `libm`, so that neither depends on the platform.
pub trait Real:
    Element
    + PartialEq
    + PartialOrd
    + Debug
    + Display
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;
    /// `f32` or `f64`.
    const NAME: &'static str;

    /// What `single` makes for `f32`, what `double` makes for `f64`; the other is not even compiled.
    #[doc(hidden)]
    fn choose<R>(single: impl FnOnce() -> R, double: impl FnOnce() -> R) -> R;

    /// The nearest number of this type.
    fn from_f64(x: f64) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// self · b + c, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// √self.
    fn sqrt(self) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// The nearest integer, halves to even.
    fn round_ties_even(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// See [`Simd::scale_by_power_of_two`].
    fn scale_by_power_of_two(self, n: Self) -> Self;
    /// See [`Simd::split_exponent`].
    fn split_exponent(self) -> (Self, Self);
    /// selfᵖ, by `libm` in `f64`: the power op's function, not for hot loops.
    fn powf(self, p: Self) -> Self {
        Self::from_f64(libm::pow(self.to_f64(), p.to_f64()))
    }

    /// eˣ.
    fn exp<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
    /// 2ˣ.
    fn exp2<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
    /// ln x: NaN below zero, −∞ at zero.
    fn ln<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
    /// tanh x.
    fn tanh<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
    /// 1 / (1 + e⁻ˣ).
    fn sigmoid<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
    /// erf x = 2/√π ∫₀ˣ e^(−t²) dt.
    fn erf<S: Simd<T = Self>>(simd: S, x: S::V) -> S::V;
}

/// What `f32` and `f64` spell alike.
macro_rules! common {
    ($t:ident) => {
        const ZERO: Self = 0.0;
        const ONE: Self = 1.0;
        const NEG_INFINITY: Self = $t::NEG_INFINITY;
        const EPSILON: Self = $t::EPSILON;
        const NAME: &'static str = stringify!($t);

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            $t::mul_add(self, b, c)
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            $t::sqrt(self)
        }
        #[inline(always)]
        fn abs(self) -> Self {
            $t::abs(self)
        }
        #[inline(always)]
        fn round_ties_even(self) -> Self {
            $t::round_ties_even(self)
        }
        #[inline(always)]
        fn is_finite(self) -> bool {
            $t::is_finite(self)
        }
    };
}

impl Real for f32 {
    common!(f32);

    #[inline(always)]
    fn choose<R>(single: impl FnOnce() -> R, _double: impl FnOnce() -> R) -> R {
        single()
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, n: f32) -> f32 {
        let n = n as i32;
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        self * power(n >> 1) * power(n - (n >> 1))
    }
    #[inline(always)]
    fn split_exponent(self) -> (f32, f32) {
        let bits = self.to_bits();
        ((bits >> 23) as f32 - 127.0, f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000))
    }

    #[inline(always)]
    fn exp<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::exp(simd, x)
    }
    #[inline(always)]
    fn exp2<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::exp2(simd, x)
    }
    #[inline(always)]
    fn ln<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::ln(simd, x)
    }
    #[inline(always)]
    fn tanh<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::tanh(simd, x)
    }
    #[inline(always)]
    fn sigmoid<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::sigmoid(simd, x)
    }
    #[inline(always)]
    fn erf<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
        crate::math::erf(simd, x)
    }
}

impl Real for f64 {
    common!(f64);

    #[inline(always)]
    fn choose<R>(_single: impl FnOnce() -> R, double: impl FnOnce() -> R) -> R {
        double()
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    fn scale_by_power_of_two(self, n: f64) -> f64 {
        libm::ldexp(self, n as i32)
    }
    fn split_exponent(self) -> (f64, f64) {
        let (m, e) = libm::frexp(self);
        (f64::from(e - 1), m * 2.0)
    }

    #[inline(always)]
    fn exp<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, libm::exp)
    }
    #[inline(always)]
    fn exp2<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, libm::exp2)
    }
    #[inline(always)]
    fn ln<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, libm::log)
    }
    #[inline(always)]
    fn tanh<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, libm::tanh)
    }
    #[inline(always)]
    fn sigmoid<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, |x| 1.0 / (1.0 + libm::exp(-x)))
    }
    #[inline(always)]
    fn erf<S: Simd<T = f64>>(simd: S, x: S::V) -> S::V {
        simd.map_lanes(x, libm::erf)
    }
}
