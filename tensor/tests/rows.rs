//! The row kernels, the activations and the optimiser steps against naive f64 oracles, at every level, with the same
//! bits at every level.

use weft_tensor::Grad;
use weft_tensor::kernels::activation::{
    Activation, Unary, activation, activation_backward, activation_backward_with_value, gated_activation,
    gated_activation_backward, unary,
};
use weft_tensor::kernels::cross_entropy::{cross_entropy, cross_entropy_backward, cross_entropy_in_place};
use weft_tensor::kernels::gradient::sum_of_squares;
use weft_tensor::kernels::norm::{column_sums, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
use weft_tensor::kernels::optimizer::{AdamW, Sgd, Stretch, adamw, sgd};
use weft_tensor::kernels::softmax::{log_softmax, log_softmax_backward, softmax, softmax_backward};
use weft_tensor::simd::at_every_level;

/// Elementwise results: a few roundings of 2⁻²⁴ each, of terms that are up to a few times the result.
const FEW_ROUNDINGS: f64 = 1e-6;

/// Slopes of activations: what is rounded before the exponential, a number up to 8, shows in the result eightfold.
const SLOPE: f64 = 5e-6;

/// Results that rest on sums over a row: up to some thousand roundings that mostly cancel, of terms of size one.
const ROW_SUM: f64 = 2e-5;

/// Numbers in [−1, 1) · size from a linear congruential generator.
fn numbers(n: usize, seed: u64, size: f64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / f64::from(1 << 23) - 1.0) * size
    };
    (0..n).map(|_| next() as f32).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=67).chain([128, 1000])
}

/// Runs `f` at every level, compares with the oracle within `tolerance` of max(1, |want|), and the bits between levels.
#[track_caller]
fn check(what: &str, tolerance: f64, want: &[f64], mut f: impl FnMut() -> Vec<f32>) {
    let mut first: Option<Vec<f32>> = None;
    at_every_level(|level| {
        let got = f();
        assert_eq!(got.len(), want.len(), "{what}: length");
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            let close = (f64::from(got) - want).abs() <= tolerance * want.abs().max(1.0);
            let same = close || f64::from(got) == want || got.is_nan() && want.is_nan();
            assert!(same, "{what}[{i}] is {got} instead of {want} at level {level:?}");
        }
        match &first {
            None => first = Some(got),
            Some(first) => {
                for (i, (a, b)) in first.iter().zip(&got).enumerate() {
                    let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                    assert!(same, "{what}[{i}] is {a} at the lowest level and {b} at level {level:?}");
                }
            }
        }
    });
}

/// [`check`] of a gradient, overwriting NaN and adding to 1.
#[track_caller]
fn check_grad(what: &str, tolerance: f64, want: &[f64], mut f: impl FnMut(Grad<'_, f32>)) {
    let mut run = |start: f32, add: bool| {
        let mut data = vec![start; want.len()];
        f(Grad { data: &mut data, add });
        data
    };
    check(what, tolerance, want, || run(f32::NAN, false));
    let added: Vec<f64> = want.iter().map(|x| x + 1.0).collect();
    check(&format!("{what} added"), tolerance, &added, || run(1.0, true));
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// f(x) and f′(x).
fn activation_oracle(kind: Activation, x: f64) -> (f64, f64) {
    match kind {
        Activation::GeluTanh => {
            let (c, a) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044715);
            let t = libm::tanh(c * (x + a * x * x * x));
            let du = c * (1.0 + 3.0 * a * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du)
        }
        Activation::GeluErf => {
            let cdf = 0.5 * (1.0 + libm::erf(x / 2f64.sqrt()));
            (x * cdf, cdf + x * libm::exp(-0.5 * x * x) / (2.0 * std::f64::consts::PI).sqrt())
        }
        Activation::Silu => {
            let s = sigmoid(x);
            (x * s, s + x * s * (1.0 - s))
        }
        Activation::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Activation::Relu2 => (x.max(0.0) * x.max(0.0), 2.0 * x.max(0.0)),
    }
}

const ACTIVATIONS: [Activation; 5] =
    [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Relu, Activation::Relu2];

#[test]
fn activations_and_their_gradients() {
    for kind in ACTIVATIONS {
        for n in lengths() {
            let (x, dy) = (numbers(n, 1, 8.0), numbers(n, 2, 1.0));
            let oracle: Vec<_> = wide(&x).into_iter().map(|x| activation_oracle(kind, x)).collect();
            let want: Vec<f64> = oracle.iter().map(|o| o.0).collect();
            check(&format!("{kind:?} of {n}"), FEW_ROUNDINGS, &want, || {
                let mut y = vec![f32::NAN; n];
                activation(kind, &x, &mut y);
                y
            });
            let want_dx: Vec<f64> = oracle.iter().zip(&dy).map(|(o, dy)| o.1 * f64::from(*dy)).collect();
            check_grad(&format!("{kind:?} gradient of {n}"), SLOPE, &want_dx, |dx| {
                activation_backward(kind, &x, &dy, dx);
            });
            check(&format!("{kind:?} again of {n}"), FEW_ROUNDINGS, &want, || {
                let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                let grad = Grad { data: &mut dx, add: false };
                activation_backward_with_value(kind, &x, &dy, grad, &mut y);
                y
            });
        }
    }
}

#[test]
fn activations_of_huge_numbers_have_slopes_zero_and_one() {
    for kind in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Relu] {
        let x = [-3e38, -1e20, -1e4, 1e4, 1e20, 3e38];
        check(&format!("{kind:?}"), FEW_ROUNDINGS, &[0.0, 0.0, 0.0, 1e4, 1e20, f64::from(3e38f32)], || {
            let mut y = [f32::NAN; 6];
            activation(kind, &x, &mut y);
            y.to_vec()
        });
        check_grad(&format!("{kind:?}"), FEW_ROUNDINGS, &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], |dx| {
            activation_backward(kind, &x, &[1.0; 6], dx);
        });
        check(&format!("{kind:?} of NaN"), FEW_ROUNDINGS, &[f64::NAN], || {
            let mut y = [0.0];
            activation(kind, &[f32::NAN], &mut y);
            y.to_vec()
        });
    }
}

#[test]
fn gated_activations_and_their_gradients() {
    for kind in ACTIVATIONS {
        for (rows, n) in [(0, 3), (1, 1), (3, 5), (2, 16), (5, 17), (4, 64), (3, 67)] {
            let (x, dy) = (numbers(rows * 2 * n, 3, 4.0), numbers(rows * n, 4, 1.0));
            let (wx, wdy) = (wide(&x), wide(&dy));
            let (mut want, mut want_dx) = (vec![0.0; rows * n], vec![0.0; rows * 2 * n]);
            for i in 0..rows * n {
                let (gate, up) = (i / n * 2 * n + i % n, i / n * 2 * n + n + i % n);
                let (f, slope) = activation_oracle(kind, wx[gate]);
                want[i] = f * wx[up];
                want_dx[gate] = wdy[i] * wx[up] * slope;
                want_dx[up] = wdy[i] * f;
            }
            check(&format!("gated {kind:?} {rows} × {n}"), FEW_ROUNDINGS, &want, || {
                let mut y = vec![f32::NAN; rows * n];
                gated_activation(kind, &x, &mut y, n);
                y
            });
            check_grad(&format!("gated {kind:?} gradient {rows} × {n}"), SLOPE, &want_dx, |dx| {
                gated_activation_backward(kind, &x, &dy, dx, n);
            });
        }
    }
}

#[test]
fn unary_functions() {
    let sign = |x: f64| if x > 0.0 { 1.0 } else { 0.0 - f64::from(u8::from(x < 0.0)) };
    let cases: [(Unary, &dyn Fn(f64) -> f64); 14] = [
        (Unary::Exp, &libm::exp),
        (Unary::Exp2, &libm::exp2),
        (Unary::Ln, &libm::log),
        (Unary::Tanh, &libm::tanh),
        (Unary::Sigmoid, &sigmoid),
        (Unary::Erf, &libm::erf),
        (Unary::Sqrt, &libm::sqrt),
        (Unary::Recip, &|x| 1.0 / x),
        (Unary::Neg, &|x| -x),
        (Unary::Abs, &f64::abs),
        (Unary::Square, &|x| x * x),
        (Unary::Relu, &|x| if x.is_nan() { x } else { x.max(0.0) }),
        (Unary::Step, &|x| if x.is_nan() { x } else { sign(x).max(0.0) }),
        (Unary::Sign, &|x| if x.is_nan() { x } else { sign(x) }),
    ];
    for (kind, exact) in cases {
        for n in lengths() {
            let mut x = numbers(n, 5, 3.0);
            if n > 20 {
                (x[0], x[17], x[19]) = (f32::NAN, 0.0, -0.5);
            }
            let want: Vec<f64> = wide(&x).into_iter().map(exact).collect();
            check(&format!("{kind:?} of {n}"), FEW_ROUNDINGS, &want, || {
                let mut y = vec![7.0; n];
                unary(kind, &x, &mut y);
                y
            });
        }
    }
}

/// Rows × columns: every length of a row up to 67, several groups of 64 rows, a long row.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    (1..=67).map(|cols| (3, cols)).chain([(0, 5), (1, 1000), (130, 64), (64, 33), (65, 1), (200, 129)])
}

/// y, mean, rstd, dx, dweight, dbias of a layer norm, or an RMS norm if `rms`.
fn norm_oracle(rms: bool, x: &[f32], w: &[f32], b: &[f32], eps: f64, dy: &[f32]) -> [Vec<f64>; 6] {
    let cols = w.len();
    let n = cols as f64;
    let (w, b) = (wide(w), wide(b));
    let [mut y, mut means, mut rstds, mut dx] = [const { Vec::new() }; 4];
    let (mut dw, mut db) = (vec![0.0; cols], vec![0.0; cols]);
    for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
        let (x, dy) = (wide(x), wide(dy));
        let mean = if rms { 0.0 } else { x.iter().sum::<f64>() / n };
        let rstd = 1.0 / (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n + eps).sqrt();
        let normed: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
        let g: Vec<f64> = dy.iter().zip(&w).map(|(dy, w)| dy * w).collect();
        let mean_g = if rms { 0.0 } else { g.iter().sum::<f64>() / n };
        let mean_gx = g.iter().zip(&normed).map(|(g, x)| g * x).sum::<f64>() / n;
        for i in 0..cols {
            y.push(normed[i] * w[i] + b[i]);
            dx.push(rstd * (g[i] - mean_g - normed[i] * mean_gx));
            dw[i] += dy[i] * normed[i];
            db[i] += dy[i];
        }
        means.push(mean);
        rstds.push(rstd);
    }
    [y, means, rstds, dx, dw, db]
}

#[test]
fn layer_norm_and_its_gradients() {
    for (rows, cols) in shapes() {
        let what = format!("layer_norm {rows} × {cols}");
        let (x, dy) = (numbers(rows * cols, 6, 2.0), numbers(rows * cols, 7, 1.0));
        let (w, b) = (numbers(cols, 8, 1.0), numbers(cols, 9, 1.0));
        // Not so small that a row of one, which is its own mean, blows rounding up.
        let eps = 1e-2;
        let zeros = vec![0.0; cols];
        for bias in [Some(&b), None] {
            let shift = bias.unwrap_or(&zeros);
            let [want, want_mean, want_rstd, ..] = norm_oracle(false, &x, &w, shift, f64::from(eps), &dy);
            let forward = || {
                let [mut y, mut mean, mut rstd] = [rows * cols, rows, rows].map(|n| vec![f32::NAN; n]);
                layer_norm(&x, &w, bias.map(|b| &b[..]), eps, &mut y, &mut mean, &mut rstd);
                (y, mean, rstd)
            };
            check(&what, ROW_SUM, &want, || forward().0);
            check(&what, ROW_SUM, &want_mean, || forward().1);
            check(&what, ROW_SUM, &want_rstd, || forward().2);
        }
        let [_, mean, rstd, dx, dw, db] = norm_oracle(false, &x, &w, &b, f64::from(eps), &dy);
        let mean: Vec<f32> = mean.iter().map(|&x| x as f32).collect();
        let rstd: Vec<f32> = rstd.iter().map(|&x| x as f32).collect();
        check_grad(&format!("{what} dx"), ROW_SUM, &dx, |dx| {
            layer_norm_backward(&x, &w, &mean, &rstd, &dy, Some(dx), None, None);
        });
        check_grad(&format!("{what} dweight"), ROW_SUM, &dw, |dw| {
            layer_norm_backward(&x, &w, &mean, &rstd, &dy, None, Some(dw), None);
        });
        check_grad(&format!("{what} dbias"), ROW_SUM, &db, |db| {
            let mut dx = vec![f32::NAN; x.len()];
            let dx = Some(Grad { data: &mut dx[..], add: false });
            layer_norm_backward(&x, &w, &mean, &rstd, &dy, dx, None, Some(db));
        });
    }
}

#[test]
fn rms_norm_and_its_gradients() {
    for (rows, cols) in shapes() {
        let what = format!("rms_norm {rows} × {cols}");
        let (x, dy) = (numbers(rows * cols, 10, 2.0), numbers(rows * cols, 11, 1.0));
        let (w, eps) = (numbers(cols, 12, 1.0), 1e-2);
        let zeros = vec![0.0; cols];
        let [want, _, rstd, dx, dw, _] = norm_oracle(true, &x, &w, &zeros, f64::from(eps), &dy);
        let forward = || {
            let [mut y, mut rstd] = [rows * cols, rows].map(|n| vec![f32::NAN; n]);
            rms_norm(&x, &w, eps, &mut y, &mut rstd);
            (y, rstd)
        };
        check(&what, ROW_SUM, &want, || forward().0);
        check(&what, ROW_SUM, &rstd, || forward().1);
        let rstd: Vec<f32> = rstd.iter().map(|&x| x as f32).collect();
        check_grad(&format!("{what} dx"), ROW_SUM, &dx, |dx| {
            rms_norm_backward(&x, &w, &rstd, &dy, Some(dx), None);
        });
        check_grad(&format!("{what} dweight"), ROW_SUM, &dw, |dw| {
            rms_norm_backward(&x, &w, &rstd, &dy, None, Some(dw));
        });
    }
}

#[test]
fn layer_norm_of_a_row_far_from_zero_keeps_its_digits() {
    let x: Vec<f32> = numbers(300, 13, 1.0).iter().map(|x| x + 4096.0).collect();
    let (ones, zeros) = (vec![1.0; 300], vec![0.0; 300]);
    let [want, ..] = norm_oracle(false, &x, &ones, &zeros, 1e-5, &zeros);
    // The mean of numbers near 4096 is off by a few of their last places, 2⁻¹¹ · 2⁻¹² each.
    check("layer_norm", 1e-3, &want, || {
        let [mut y, mut mean, mut rstd] = [300, 1, 1].map(|n| vec![f32::NAN; n]);
        layer_norm(&x, &ones, None, 1e-5, &mut y, &mut mean, &mut rstd);
        y
    });
}

#[test]
fn column_sums_of_any_shape() {
    for (rows, cols) in shapes().chain([(70, 300), (3, 0)]) {
        let x = numbers(rows * cols, 14, 1.0);
        let want: Vec<f64> =
            (0..cols).map(|j| x.iter().skip(j).step_by(cols).map(|&x| f64::from(x)).sum()).collect();
        check_grad(&format!("column_sums {rows} × {cols}"), ROW_SUM, &want, |out| {
            column_sums(&x, cols, out);
        });
    }
}

fn softmax_oracle(x: &[f32], cols: usize) -> Vec<f64> {
    let row = |x: &[f32]| {
        let x = wide(x);
        let max = x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let e: Vec<f64> =
            x.iter().map(|x| if *x == f64::NEG_INFINITY { 0.0 } else { libm::exp(x - max) }).collect();
        let sum: f64 = e.iter().sum();
        e.into_iter().map(move |e| if sum == 0.0 { 0.0 } else { e / sum }).collect::<Vec<_>>()
    };
    x.chunks(cols.max(1)).flat_map(row).collect()
}

/// Logits with some −∞, one row of nothing else, one of large values, one of large negative values.
fn masked_logits(rows: usize, cols: usize, seed: u64) -> Vec<f32> {
    let mut x = numbers(rows * cols, seed, 10.0);
    for (i, x) in x.iter_mut().enumerate() {
        let (row, col) = (i / cols, i % cols);
        match row {
            0 if col % 3 == 1 => *x = f32::NEG_INFINITY,
            1 => *x = f32::NEG_INFINITY,
            2 => *x = *x * 0.5 + 1e3,
            3 => *x = *x * 0.5 - 3e38,
            _ => {}
        }
    }
    x
}

#[test]
fn softmax_log_softmax_and_their_gradients() {
    for cols in lengths() {
        let what = format!("softmax 5 × {cols}");
        let (x, dy) = (masked_logits(5, cols, 15), numbers(5 * cols, 16, 1.0));
        let y = softmax_oracle(&x, cols);
        check(&what, ROW_SUM, &y, || {
            let mut y = vec![f32::NAN; x.len()];
            softmax(&x, &mut y, cols);
            y
        });
        let log: Vec<f64> = y.iter().map(|&y| libm::log(y)).collect();
        // Entries whose probability underflows in the oracle are none: logits differ by 20 at most.
        check(&format!("log_{what}"), ROW_SUM, &log, || {
            let mut y = vec![f32::NAN; x.len()];
            log_softmax(&x, &mut y, cols);
            y
        });
        let rows = || y.chunks(cols.max(1)).zip(dy.chunks(cols.max(1)));
        let want: Vec<f64> = rows()
            .flat_map(|(y, dy)| {
                let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum();
                y.iter().zip(dy).map(move |(y, dy)| y * (f64::from(*dy) - dot)).collect::<Vec<_>>()
            })
            .collect();
        let y32: Vec<f32> = y.iter().map(|&y| y as f32).collect();
        check_grad(&format!("{what} gradient"), ROW_SUM, &want, |dx| {
            softmax_backward(&y32, &dy, dx, cols);
        });
        let want: Vec<f64> = rows()
            .flat_map(|(y, dy)| {
                let sum: f64 = dy.iter().map(|dy| f64::from(*dy)).sum();
                y.iter().zip(dy).map(move |(y, dy)| f64::from(*dy) - y * sum).collect::<Vec<_>>()
            })
            .collect();
        let log32: Vec<f32> = log.iter().map(|&y| y as f32).collect();
        check_grad(&format!("log_{what} gradient"), ROW_SUM, &want, |dx| {
            log_softmax_backward(&log32, &dy, dx, cols);
        });
    }
}

#[test]
fn softmax_of_nan_or_infinity_is_nan() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = numbers(40, 17, 1.0);
        x[33] = bad;
        at_every_level(|level| {
            let mut y = vec![0.0; 40];
            softmax(&x, &mut y, 20);
            assert!(y[20..].iter().any(|y| y.is_nan()), "{bad} vanished at level {level:?}");
            assert!(y[..20].iter().all(|y| y.is_finite()), "{bad} spread at level {level:?}");
        });
    }
}

const IGNORE: u32 = u32::MAX;

#[test]
fn cross_entropy_and_its_gradient() {
    let shapes = (1..=67).map(|cols| (19, cols)).chain([(0, 7), (1, 300), (40, 65), (3, 5000), (2, 200_000)]);
    for (rows, cols) in shapes {
        let what = format!("cross_entropy {rows} × {cols}");
        let x = numbers(rows * cols, 18, 10.0);
        let mut targets: Vec<u32> = (0..rows).map(|row| (row * 7919 % cols) as u32).collect();
        for target in targets.iter_mut().skip(2).step_by(5) {
            *target = IGNORE;
        }
        let scale = 0.125;
        let p = softmax_oracle(&x, cols);
        let (mut loss, mut want) = (0.0, vec![0.0; x.len()]);
        for (row, &target) in targets.iter().enumerate().filter(|(_, target)| **target != IGNORE) {
            loss -= libm::log(p[row * cols + target as usize]);
            for col in 0..cols {
                let hit = if col == target as usize { 1.0 } else { 0.0 };
                want[row * cols + col] = f64::from(scale) * (p[row * cols + col] - hit);
            }
        }
        let mut lse = vec![f32::NAN; rows];
        check(&what, ROW_SUM, &[loss], || vec![cross_entropy(&x, &targets, IGNORE, &mut lse) as f32]);
        check_grad(&format!("{what} gradient"), ROW_SUM, &want, |dx| {
            cross_entropy_backward(&x, &targets, IGNORE, &lse, scale, dx);
        });
        let in_place = || {
            let mut x = x.clone();
            let loss = cross_entropy_in_place(&mut x, &targets, IGNORE, scale);
            (x, vec![loss as f32])
        };
        check(&format!("{what} in place"), ROW_SUM, &want, || in_place().0);
        check(&format!("{what} in place"), ROW_SUM, &[loss], || in_place().1);
    }
}

#[test]
fn cross_entropy_bears_huge_and_masked_logits() {
    for cols in [40, 5000] {
        let mut x = masked_logits(6, cols, 19);
        // In row 4 each block has a larger maximum than the last.
        for (col, x) in x[4 * cols..5 * cols].iter_mut().enumerate() {
            *x = col as f32 * 0.1;
        }
        let targets = [0, IGNORE, 1, 1, 0, 2];
        let p = softmax_oracle(&x, cols);
        let exact = |row: usize| -> f64 {
            let row_x = wide(&x[row * cols..][..cols]);
            let max = row_x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = row_x.iter().map(|x| libm::exp(x - max)).sum();
            max - row_x[targets[row] as usize] + libm::log(sum)
        };
        let loss: f64 = [0, 2, 3, 4, 5].into_iter().map(exact).sum();
        let mut want = p;
        want[cols..2 * cols].fill(0.0);
        for row in [0, 2, 3, 4, 5] {
            want[row * cols + targets[row] as usize] -= 1.0;
        }
        check(
            "forward",
            ROW_SUM,
            &[loss],
            || vec![cross_entropy(&x, &targets, IGNORE, &mut [0.0; 6]) as f32],
        );
        let in_place = || {
            let mut x = x.clone();
            let loss = cross_entropy_in_place(&mut x, &targets, IGNORE, 1.0);
            (x, vec![loss as f32])
        };
        check("in place", ROW_SUM, &want, || in_place().0);
        check("in place", ROW_SUM, &[loss], || in_place().1);
    }
}

#[test]
#[should_panic(expected = "target 7 of row 1 is out of range: there are 5 classes")]
fn cross_entropy_names_a_target_out_of_range() {
    cross_entropy(&[0.0f32; 10], &[0, 7], IGNORE, &mut [0.0; 2]);
}

/// All `n` parameters but the first, which belongs to no stretch; those from the middle on decay.
fn stretches(n: usize) -> [Stretch; 2] {
    let (first, half) = (1.min(n), (n / 2).max(1.min(n)));
    [Stretch { range: first..half, decays: false }, Stretch { range: half..n, decays: true }]
}

/// Parts of a gradient of `n` numbers, one to five of them, and their sum.
fn gradients(n: usize) -> impl Iterator<Item = (Vec<Vec<f32>>, Vec<f32>)> {
    (1..=5).map(move |parts| {
        let parts: Vec<_> = (0..parts).map(|part| numbers(n, 40 + part, 0.1)).collect();
        let sum = (0..n).map(|i| parts[1..].iter().fold(parts[0][i], |sum, part| sum + part[i])).collect();
        (parts, sum)
    })
}

fn slices(parts: &[Vec<f32>]) -> Vec<&[f32]> {
    parts.iter().map(Vec::as_slice).collect()
}

#[test]
fn adamw_follows_its_formulas() {
    for n in lengths() {
        let (p, m) = (numbers(n, 20, 1.0), numbers(n, 22, 0.1));
        let v: Vec<f32> = numbers(n, 23, 0.1).iter().map(|v| v * v).collect();
        let options = AdamW {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 3,
            grad_scale: 0.5,
        };
        for (parts, g) in gradients(n) {
            let mut want = [&p, &m, &v].map(|x| wide(x));
            for Stretch { range, decays } in stretches(n) {
                let decay = if decays { 0.1 } else { 0.0 };
                for i in range {
                    let [p, g, m, v] = [p[i], g[i] * 0.5, m[i], v[i]].map(f64::from);
                    let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
                    let (m_hat, v_hat) = (m / (1.0 - libm::pow(0.9, 3.0)), v / (1.0 - libm::pow(0.95, 3.0)));
                    want[0][i] = p - 0.01 * decay * p - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                    (want[1][i], want[2][i]) = (m, v);
                }
            }
            let run = || {
                let mut state = [p.clone(), m.clone(), v.clone()];
                let [p, m, v] = &mut state;
                adamw(&options, &stretches(n), p, &slices(&parts), m, v);
                state
            };
            for (i, want) in want.iter().enumerate() {
                let what = format!("adamw of {n}, {} parts, {}", parts.len(), ["p", "m", "v"][i]);
                check(&what, FEW_ROUNDINGS, want, || run()[i].clone());
            }
        }
    }
}

#[test]
fn sgd_follows_its_formulas() {
    for n in lengths() {
        let (p, u) = (numbers(n, 24, 1.0), numbers(n, 26, 1.0));
        let options = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.01, grad_scale: 0.5 };
        for (parts, g) in gradients(n) {
            let (mut want_p, mut want_u) = (wide(&p), wide(&u));
            for Stretch { range, decays } in stretches(n) {
                let decay = if decays { 0.01 } else { 0.0 };
                for i in range {
                    want_u[i] = 0.9 * want_u[i] + (0.5 * f64::from(g[i]) + decay * want_p[i]);
                    want_p[i] -= 0.1 * want_u[i];
                }
            }
            let run = || {
                let (mut p, mut u) = (p.clone(), u.clone());
                sgd(&options, &stretches(n), &mut p, &slices(&parts), &mut u);
                (p, u)
            };
            check(&format!("sgd of {n}, {} parts, p", parts.len()), FEW_ROUNDINGS, &want_p, || run().0);
            check(&format!("sgd of {n}, {} parts, u", parts.len()), FEW_ROUNDINGS, &want_u, || run().1);
        }
    }
}

#[test]
fn sums_of_squares_of_a_sum() {
    for n in lengths().chain([100_000]) {
        for (parts, sum) in gradients(n) {
            let want: f64 = wide(&sum).iter().map(|x| x * x).sum();
            let what = format!("squares of {n}, {} parts", parts.len());
            check(&what, ROW_SUM, &[want], || vec![sum_of_squares(&slices(&parts)) as f32]);
            assert_eq!(sum_of_squares(&slices(&parts)), sum_of_squares(&[&sum]), "{what}: two ways");
        }
    }
    let squares = |x: &[f32]| sum_of_squares(&[x]);
    assert_eq!(squares(&[1e30, 1e30]), 2.0 * f64::from(1e30f32) * f64::from(1e30f32));
    assert!(squares(&[0.0, f32::NAN]).is_nan());
    assert_eq!(squares(&[0.0, f32::NEG_INFINITY]), f64::INFINITY);
}

/// A hash of the bits.
fn hash(x: &[f32]) -> u64 {
    x.iter().fold(0, |hash: u64, x| {
        (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)
    })
}

#[test]
fn large_inputs_give_the_same_bits_for_any_number_of_threads() {
    let (rows, cols) = (1500, 700);
    let (x, dy) = (numbers(rows * cols, 30, 3.0), numbers(rows * cols, 31, 1.0));
    let (w, b) = (numbers(cols, 32, 1.0), numbers(cols, 33, 1.0));
    let targets: Vec<u32> =
        (0..rows as u32).map(|row| if row % 7 == 0 { IGNORE } else { row % 700 }).collect();
    let n = rows * cols;
    let run = || {
        let mut bits = Vec::new();
        let (mut y, mut mean, mut rstd) = (vec![0.0; n], vec![0.0; rows], vec![0.0; rows]);
        layer_norm(&x, &w, Some(&b), 1e-5, &mut y, &mut mean, &mut rstd);
        bits.push(("layer_norm", hash(&y)));
        let (mut dx, mut dw, mut db) = (vec![0.0; n], vec![0.0; cols], vec![0.0; cols]);
        fn grad(data: &mut [f32]) -> Option<Grad<'_, f32>> {
            Some(Grad { data, add: false })
        }
        layer_norm_backward(&x, &w, &mean, &rstd, &dy, grad(&mut dx), grad(&mut dw), grad(&mut db));
        bits.push(("layer_norm_backward", hash(&dx) ^ hash(&dw) ^ hash(&db)));
        rms_norm(&x, &w, 1e-5, &mut y, &mut rstd);
        bits.push(("rms_norm", hash(&y)));
        rms_norm_backward(&x, &w, &rstd, &dy, grad(&mut dx), grad(&mut dw));
        bits.push(("rms_norm_backward", hash(&dx) ^ hash(&dw)));
        column_sums(&x, cols, Grad { data: &mut db, add: false });
        bits.push(("column_sums", hash(&db)));
        softmax(&x, &mut y, cols);
        bits.push(("softmax", hash(&y)));
        softmax_backward(&y, &dy, Grad { data: &mut dx, add: false }, cols);
        bits.push(("softmax_backward", hash(&dx)));
        bits.push(("cross_entropy", cross_entropy(&x, &targets, IGNORE, &mut mean).to_bits()));
        cross_entropy_backward(&x, &targets, IGNORE, &mean, 0.1, Grad { data: &mut dx, add: false });
        bits.push(("cross_entropy_backward", hash(&dx)));
        let mut z = x.clone();
        bits.push((
            "cross_entropy_in_place",
            cross_entropy_in_place(&mut z, &targets, IGNORE, 0.1).to_bits(),
        ));
        bits.push(("cross_entropy_in_place", hash(&z)));
        activation(Activation::GeluTanh, &x, &mut y);
        activation_backward(Activation::GeluTanh, &x, &dy, Grad { data: &mut dx, add: false });
        bits.push(("activation", hash(&y) ^ hash(&dx)));
        activation_backward_with_value(Activation::Silu, &x, &dy, Grad { data: &mut dx, add: false }, &mut y);
        bits.push(("activation_backward_with_value", hash(&y) ^ hash(&dx)));
        unary(Unary::Tanh, &x, &mut y);
        bits.push(("unary", hash(&y)));
        log_softmax(&x, &mut y, cols);
        log_softmax_backward(&y, &dy, Grad { data: &mut dx, add: false }, cols);
        bits.push(("log_softmax", hash(&y) ^ hash(&dx)));
        // Rows of x are gate and other half of rows of y.
        let half = cols / 2;
        gated_activation(Activation::Silu, &x, &mut y[..n / 2], half);
        gated_activation_backward(
            Activation::Silu,
            &x,
            &dy[..n / 2],
            Grad { data: &mut dx, add: false },
            half,
        );
        bits.push(("gated_activation", hash(&y) ^ hash(&dx)));
        let options = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 1,
            grad_scale: 1.0,
        };
        let (mut p, mut m, mut v) = (x.clone(), vec![0.0; n], vec![0.0; n]);
        let all = [Stretch { range: 0..5, decays: false }, Stretch { range: 5..n, decays: true }];
        adamw(&options, &all, &mut p, &[&dy, &x], &mut m, &mut v);
        bits.push(("adamw", hash(&p) ^ hash(&m) ^ hash(&v)));
        bits.push(("sum_of_squares", sum_of_squares(&[&*x, &dy]).to_bits()));
        bits
    };
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(run)
    };
    let one = with(1);
    for threads in [2, 3, 7] {
        assert_eq!(with(threads), one, "{threads} threads and one differ");
    }
}

/// Through `f64` the same sources are as good as `f64` is, which is what gradients are checked with.
#[test]
fn in_f64_the_kernels_are_exact_to_f64() {
    let x: Vec<f64> = wide(&numbers(3 * 20, 34, 2.0));
    let targets = [3, IGNORE, 19];
    let loss_of = |x: &[f64]| {
        let (mut y, mut mean, mut rstd) = (vec![0.0; 60], [0.0; 3], [0.0; 3]);
        layer_norm(x, &[1.5; 20], None, 1e-5, &mut y, &mut mean, &mut rstd);
        let mut z = vec![0.0; 60];
        activation(Activation::GeluTanh, &y, &mut z);
        let loss = cross_entropy_in_place(&mut z, &targets, IGNORE, 1.0);
        let mut dy = vec![f64::NAN; 60];
        activation_backward(Activation::GeluTanh, &y, &z, Grad { data: &mut dy, add: false });
        let mut dx = vec![f64::NAN; 60];
        let grad = Some(Grad { data: &mut dx[..], add: false });
        layer_norm_backward(x, &[1.5; 20], &mean, &rstd, &dy, grad, None, None);
        (loss, dx)
    };
    let (_, dx) = loss_of(&x);
    for i in 0..60 {
        let moved = |by: f64| {
            let mut x = x.clone();
            x[i] += by;
            loss_of(&x).0
        };
        let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((numeric - dx[i]).abs() <= 1e-7 + 1e-5 * dx[i].abs(), "dx[{i}]: {} or {numeric}", dx[i]);
    }
}
