//! What the operands of a tile are made of: numbers, or pairs of bf16 that are neighbours along k.

use crate::Real;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512Bf16;
use crate::simd::Simd;

/// The elements of A and B as the microkernel reads them, and what one step along k does with a vector of them.
pub(in crate::kernels) trait Format<S: Simd>: Copy {
    /// An element of A or B.
    type E: Copy;
    /// [`LANES`](crate::simd::LANES) elements.
    type V: Copy;

    /// `a` in every lane.
    fn splat(self, simd: S, a: Self::E) -> Self::V;
    /// The first [`LANES`](crate::simd::LANES) elements.
    fn load(self, simd: S, b: &[Self::E]) -> Self::V;
    /// a · b + c.
    fn mul_add(self, simd: S, a: Self::V, b: Self::V, c: S::V) -> S::V;
}

/// Numbers: a step is one fused multiply-add.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Numbers;

impl<S: Simd> Format<S> for Numbers {
    type E = S::T;
    type V = S::V;

    #[inline(always)]
    fn splat(self, simd: S, a: S::T) -> S::V {
        simd.splat(a)
    }
    #[inline(always)]
    fn load(self, simd: S, b: &[S::T]) -> S::V {
        simd.load(b)
    }
    #[inline(always)]
    fn mul_add(self, simd: S, a: S::V, b: S::V, c: S::V) -> S::V {
        simd.mul_add(a, b, c)
    }
}

/// Two bf16 numbers, the one with the smaller k in the lower half.
pub(super) type Pair = u32;

/// x and y rounded to bf16, halves to even. NaN stays NaN.
#[inline(always)]
pub(super) fn pair<T: Real>(x: T, y: T) -> Pair {
    let round = |x: T| {
        let bits = (x.to_f64() as f32).to_bits();
        let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
        // Half of what is cut off, less one unless the last kept bit is odd; it may carry up to infinity.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        if is_nan { bits | 0x0040_0000 } else { rounded }
    };
    (round(x) >> 16) | (round(y) & 0xffff_0000)
}

/// Exact: a bf16 is the upper half of an `f32`.
#[inline(always)]
pub(super) fn numbers<T: Real>(pair: Pair) -> (T, T) {
    let number = |bits| T::from_f64(f64::from(f32::from_bits(bits)));
    (number(pair << 16), number(pair & 0xffff_0000))
}

/// Pairs of bf16 through AVX-512's instruction: a step sums both products and c in its own order, and takes subnormal
/// numbers for zero.
#[cfg(target_arch = "x86_64")]
impl<S: Simd<V = std::arch::x86_64::__m512>> Format<S> for Avx512Bf16 {
    type E = Pair;
    type V = std::arch::x86_64::__m512bh;

    #[inline(always)]
    fn splat(self, _simd: S, a: Pair) -> Self::V {
        Avx512Bf16::splat(self, a)
    }
    #[inline(always)]
    fn load(self, _simd: S, b: &[Pair]) -> Self::V {
        Avx512Bf16::load(self, b)
    }
    #[inline(always)]
    fn mul_add(self, _simd: S, a: Self::V, b: Self::V, c: S::V) -> S::V {
        self.dot(a, b, c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_to_nearest_even_and_keeps_the_special_numbers() {
        let round = |x: f32| numbers::<f32>(pair(x, 0.0)).0;
        for (x, expected) in [
            (1.0, 1.0),
            (-2.5, -2.5),
            (1.0 + 1.0 / 256.0, 1.0),               // halfway, to even
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0), // halfway, to even
            (1.0 + 1.1 / 256.0, 1.0 + 2.0 / 256.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (0.0, 0.0),
        ] {
            assert_eq!(round(x), expected, "{x}");
        }
        assert!(round(f32::NAN).is_nan());
        assert!(round(f32::from_bits(0x7f80_0001)).is_nan(), "a NaN whose upper half looks infinite");
        assert_eq!(numbers::<f64>(pair(3.0, -4.0)), (3.0, -4.0));
    }
}
