//! Elementary functions over `f32` vectors, the same bits at every SIMD level.
//!
//! Each reduces its argument exactly, evaluates one polynomial and rounds a few times more; the coefficients come from
//! `recipes/polynomials.py`. Errors are against the exact function, in units of the last place of the result, largest
//! over every 37th float (`tests/math.rs` measures them): they are quoted with each function. Nothing here branches, so
//! everything inlines into a kernel's loop. NaN gives NaN.
//!
//! Range reduction and the notion of ulp follow Muller et al., *Handbook of Floating-Point Arithmetic*, 2nd ed. 2018.

use std::f32::consts::{LOG2_E, SQRT_2};

use crate::simd::Simd;

/// ln 2 as a sum of two floats: n · `LN_2` is subtracted from the argument without error (a fused multiply-add, and the
/// difference is short), n · `LN_2_REST` corrects it.
const LN_2: f32 = 0.693_147_182_465;
const LN_2_REST: f32 = -1.904_654_212_13e-9;

/// eʳ = 1 + r + r² p(r) for |r| ≤ ½ ln 2, to 2⁻²⁸.
const EXP: [f32; 5] =
    [0.499_999_940_395, 0.166_665_211_32, 0.041_668_262_332_7, 0.008_368_674_665_69, 0.001_382_105_750_96];

/// 2ʳ = 1 + r p(r) for |r| ≤ ½, to 2⁻²⁸.
const EXP2: [f32; 6] = [
    0.693_147_182_465,
    0.240_226_477_385,
    0.055_503_595_620_4,
    0.009_618_499_316_28,
    0.001_339_097_041_64,
    0.000_153_292_785_399,
];

/// ln(1 + f) = f − f²/2 + f³ p(f) for 1 + f ∈ [√½, √2], to 2⁻³⁰.
const LN: [f32; 9] = [
    0.333_333_134_651,
    -0.250_000_089_407,
    0.200_020_730_495,
    -0.166_679_978_371,
    0.142_203_286_29,
    -0.124_060_004_95,
    0.118_835_225_701,
    -0.116_716_153_92,
    0.067_512_542_009_4,
];

/// Where tanh changes its formula.
const TANH_SPLIT: f32 = 0.625;

/// tanh x = x (1 + x² p(x²)) for |x| ≤ `TANH_SPLIT`, to 2⁻²⁸.
const TANH: [f32; 5] =
    [-0.333_332_806_826, 0.133_314_117_789, -0.053_737_435_489_9, 0.020_632_321_015, -0.005_698_029_883_21];

/// Where erf changes its formula.
const ERF_SPLIT: f32 = 0.9375;

/// erf x = x + x p(x²) for |x| ≤ `ERF_SPLIT`, to 2⁻³⁰.
const ERF_NEAR: [f32; 7] = [
    0.128_379_166_126,
    -0.376_126_289_368,
    0.112_836_256_623,
    -0.026_855_736_970_9,
    0.005_192_438_140_51,
    -0.000_805_038_609_542,
    8.000_301_750_14e-5,
];

/// erf t = 1 − exp(−t p(t)) for t from `ERF_SPLIT` to 4, where erf rounds to 1; to 2⁻³² of erf.
const ERF_FAR: [f32; 8] = [
    1.128_561_019_9,
    0.635_582_745_075,
    0.105_344_511_569,
    -0.022_759_651_765_2,
    0.002_982_578_938_83,
    -6.842_534_639_87e-5,
    -4.190_754_407_32e-5,
    4.638_389_782_49e-6,
];

/// c₀ + c₁ x + c₂ x² + …, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd<T = f32>, const N: usize>(simd: S, x: S::V, c: [f32; N]) -> S::V {
    let mut y = simd.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        y = simd.mul_add(y, x, simd.splat(c[i]));
    }
    y
}

/// eˣ: 1 at 0, through the subnormal numbers to 0 below −104, ∞ above 88.72. Error 1.0 ulp.
#[inline(always)]
pub fn exp<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    // Beyond these the result is 0 or ∞; `max` and `min` hand on their second argument if it is NaN.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-105.0), x));
    let n = simd.round(simd.mul(x, simd.splat(LOG2_E)));
    let r = simd.neg_mul_add(n, simd.splat(LN_2), x);
    let r = simd.neg_mul_add(n, simd.splat(LN_2_REST), r);
    let m1 = simd.mul_add(simd.mul(r, r), polynomial(simd, r, EXP), r);
    simd.scale_by_power_of_two(simd.add(m1, simd.splat(1.0)), n)
}

/// 2ˣ: exact for integers, through the subnormal numbers to 0 below −150, ∞ from 128. Error 0.84 ulp.
#[inline(always)]
pub fn exp2<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    let x = simd.min(simd.splat(129.0), simd.max(simd.splat(-151.0), x));
    let n = simd.round(x);
    let r = simd.sub(x, n);
    let p = simd.mul_add(polynomial(simd, r, EXP2), r, simd.splat(1.0));
    simd.scale_by_power_of_two(p, n)
}

/// ln x: NaN below zero, −∞ at zero, ∞ at ∞. Error 0.80 ulp.
#[inline(always)]
pub fn ln<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    let (zero, one) = (simd.zero(), simd.splat(1.0));
    // Subnormal numbers are made normal first.
    let tiny = simd.lt(x, simd.splat(f32::MIN_POSITIVE));
    let normal = simd.select(tiny, simd.mul(x, simd.splat((1u32 << 24) as f32)), x);
    let (e, m) = simd.split_exponent(normal);
    let e = simd.sub(e, simd.select(tiny, simd.splat(24.0), zero));
    // m from [1, 2) to [√½, √2).
    let large = simd.lt(simd.splat(SQRT_2), m);
    let e = simd.add(e, simd.select(large, one, zero));
    let m = simd.select(large, simd.mul(m, simd.splat(0.5)), m);

    let f = simd.sub(m, one);
    let f2 = simd.mul(f, f);
    let y = simd.mul(simd.mul(f2, f), polynomial(simd, f, LN));
    let y = simd.mul_add(e, simd.splat(LN_2_REST), y);
    let y = simd.neg_mul_add(simd.splat(0.5), f2, y);
    let y = simd.mul_add(e, simd.splat(LN_2), simd.add(f, y));

    let no_number = simd.select(simd.lt(x, zero), simd.splat(f32::NAN), simd.splat(f32::NEG_INFINITY));
    let y = simd.select(simd.lt(zero, x), y, no_number);
    simd.select(simd.lt(x, simd.splat(f32::INFINITY)), y, x)
}

/// tanh x: away from zero 1 − 2 / (1 + e²ˣ), near it a polynomial, so that small results keep all their digits.
/// Error 1.3 ulp.
#[inline(always)]
pub fn tanh<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    let a = simd.abs(x);
    let one = simd.splat(1.0);
    let x2 = simd.mul(x, x);
    let near = simd.mul(x, simd.mul_add(x2, polynomial(simd, x2, TANH), one));
    let far = simd.div(simd.splat(2.0), simd.add(one, exp(simd, simd.add(a, a))));
    let far = simd.sub(one, far);
    let far = simd.select(simd.lt(x, simd.zero()), simd.neg(far), far);
    simd.select(simd.lt(a, simd.splat(TANH_SPLIT)), near, far)
}

/// 1 / (1 + e⁻ˣ). Error 1.5 ulp.
#[inline(always)]
pub fn sigmoid<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    // Below zero eˣ / (1 + eˣ), so that no exponential overflows and small results keep all their digits.
    let one = simd.splat(1.0);
    let e = exp(simd, simd.neg(simd.abs(x)));
    let numerator = simd.select(simd.lt(x, simd.zero()), e, one);
    // One step of Newton with what the sum lost: without it the error passes 2 ulp.
    let sum = simd.add(one, e);
    let lost = simd.sub(e, simd.sub(sum, one));
    let inverse = simd.div(one, sum);
    let y = simd.mul(numerator, inverse);
    let rest = simd.neg_mul_add(y, lost, simd.neg_mul_add(y, sum, numerator));
    simd.mul_add(rest, inverse, y)
}

/// erf x = 2/√π ∫₀ˣ e^(−t²) dt. Error 1.06 ulp.
#[inline(always)]
pub fn erf<S: Simd<T = f32>>(simd: S, x: S::V) -> S::V {
    let a = simd.abs(x);
    let near = simd.mul_add(polynomial(simd, simd.mul(x, x), ERF_NEAR), x, x);
    let t = simd.min(simd.splat(4.0), a);
    let far = simd.mul(polynomial(simd, t, ERF_FAR), simd.neg(t));
    let far = simd.sub(simd.splat(1.0), exp(simd, far));
    let far = simd.select(simd.lt(x, simd.zero()), simd.neg(far), far);
    simd.select(simd.lt(a, simd.splat(ERF_SPLIT)), near, far)
}
