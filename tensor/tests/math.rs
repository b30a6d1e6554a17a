//! The vector functions against `libm` in f64, float by float.
//!
//! A release build (`cargo test --release -p weft-tensor --test math`) looks at every 37th float, a debug build, where
//! that takes minutes, at every 1009th; `-- --ignored` looks at all of them, at the best level.

use weft_tensor::kernels::activation::{Unary, unary};
use weft_tensor::simd::{Level, at_every_level};

const STRIDE: usize = if cfg!(debug_assertions) { 1009 } else { 37 };

/// Units of the last place between a function's value and the exact one: half a unit for the last rounding, and as much
/// again for each of the few roundings before it that count.
const MAX_ULPS: f64 = 2.0;

/// The exponentials end in one rounding and hardly feel those before it.
const MAX_ULPS_EXP: f64 = 1.2;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

type Function = (Unary, fn(f64) -> f64, f64);

const FUNCTIONS: [Function; 6] = [
    (Unary::Exp, libm::exp, MAX_ULPS_EXP),
    (Unary::Exp2, libm::exp2, MAX_ULPS_EXP),
    (Unary::Ln, libm::log, MAX_ULPS),
    (Unary::Tanh, libm::tanh, MAX_ULPS),
    (Unary::Sigmoid, sigmoid, MAX_ULPS),
    (Unary::Erf, libm::erf, MAX_ULPS),
];

/// How far `y` is from `exact` in units of the last place of the float nearest to `exact`.
fn ulps(y: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if nearest.is_nan() || nearest.is_infinite() || y.is_nan() || y.is_infinite() {
        return if y.to_bits() == nearest.to_bits() || y.is_nan() && nearest.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = (nearest.to_bits() >> 23 & 0xff).max(1) as i32 - 127;
    (f64::from(y) - exact).abs() / libm::exp2(f64::from(exponent - 23))
}

/// Goes through every `stride`th float and returns the largest error and where it is.
fn largest_error(function: Function, stride: usize, every_level: bool) -> (f64, f32) {
    let (kind, exact, _) = function;
    let mut worst = (0.0, 0.0);
    let mut bits = (0..=u32::MAX).step_by(stride).peekable();
    while bits.peek().is_some() {
        let x: Vec<f32> = bits.by_ref().take(1 << 16).map(f32::from_bits).collect();
        let mut y = vec![0.0; x.len()];
        unary(kind, &x, &mut y);
        for (&x, &y) in x.iter().zip(&y) {
            let error = ulps(y, exact(f64::from(x)));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        if every_level {
            at_every_level(|level| same_bits(kind, level, &x, &y));
        }
    }
    worst
}

fn same_bits(kind: Unary, level: Level, x: &[f32], y: &[f32]) {
    let mut at_level = vec![0.0; x.len()];
    unary(kind, x, &mut at_level);
    for ((x, y), z) in x.iter().zip(y).zip(at_level) {
        let same = y.to_bits() == z.to_bits() || y.is_nan() && z.is_nan();
        assert!(same, "{kind:?} {x:e} is {z:e} at level {level:?}, {y:e} at the best");
    }
}

#[test]
fn errors_stay_below_the_bound_and_levels_agree() {
    for function in FUNCTIONS {
        let (worst, x) = largest_error(function, STRIDE, true);
        eprintln!("{:?}: {worst:.3} ulp at {x:e}", function.0);
        assert!(worst <= function.2, "{:?} is {worst} ulp wrong at {x:e}", function.0);
    }
}

#[test]
#[ignore = "looks at all floats: some ten minutes in a release build"]
fn errors_stay_below_the_bound_for_every_float() {
    for function in FUNCTIONS {
        let (worst, x) = largest_error(function, 1, false);
        eprintln!("{:?}: {worst:.3} ulp at {x:e}", function.0);
        assert!(worst <= function.2, "{:?} is {worst} ulp wrong at {x:e}", function.0);
    }
}

#[test]
fn special_values_are_right() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let cases: [(Unary, &[(f32, f32)]); 6] = [
        (
            Unary::Exp,
            &[(0.0, 1.0), (-0.0, 1.0), (-INF, 0.0), (INF, INF), (NAN, NAN), (1e30, INF), (-1e30, 0.0)],
        ),
        (Unary::Exp2, &[(0.0, 1.0), (10.0, 1024.0), (-149.0, 1e-45), (-INF, 0.0), (128.0, INF), (NAN, NAN)]),
        (
            Unary::Ln,
            &[(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)],
        ),
        (Unary::Tanh, &[(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (1e-40, 1e-40)]),
        (Unary::Sigmoid, &[(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN)]),
        (Unary::Erf, &[(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN)]),
    ];
    at_every_level(|level| {
        for (kind, cases) in cases {
            for &(x, want) in cases {
                let mut y = [0.0];
                unary(kind, &[x], &mut y);
                let same = y[0].to_bits() == want.to_bits() || y[0].is_nan() && want.is_nan();
                assert!(same, "{kind:?} {x} is {} instead of {want} at level {level:?}", y[0]);
            }
        }
    });
}
