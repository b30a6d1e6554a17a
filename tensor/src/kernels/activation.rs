//! Activations, gated activations and the other functions of one number, elementwise.

use super::split::{CHUNK, In, Out, by_rows, is_large};
use super::{Grad, put, sweep};
use crate::simd::Simd;
use crate::{Real, dispatch};

/// The non-linearity of a transformer's hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x σ(2u), u = √(2/π) (x + 0.044715 x³): GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415).
    GeluTanh,
    /// ½ x (1 + erf(x/√2)): GELU itself.
    GeluErf,
    /// x σ(x) (Elfwing et al. 2017, arXiv:1702.03118).
    Silu,
    /// max(x, 0).
    Relu,
    /// max(x, 0)² (So et al. 2021, arXiv:2109.08668).
    Relu2,
}

/// A function of one number, of those that primitive ops are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// eˣ.
    Exp,
    /// 2ˣ.
    Exp2,
    /// ln x: NaN below zero, −∞ at zero.
    Ln,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// erf x.
    Erf,
    /// √x: NaN below zero.
    Sqrt,
    /// 1 / x.
    Recip,
    /// −x.
    Neg,
    /// |x|.
    Abs,
    /// x².
    Square,
    /// max(x, 0).
    Relu,
    /// 1 above zero, else 0; NaN at NaN.
    Step,
    /// 1 above zero, −1 below, 0 at zero; NaN at NaN.
    Sign,
}

/// An activation as a value of its own type, so that each gets its own loop.
trait Act: Copy {
    /// f(x).
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V;
    /// f(x) and f′(x).
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V);
}

#[inline(always)]
fn splat<S: Simd>(simd: S, x: f64) -> S::V {
    simd.splat(S::T::from_f64(x))
}

/// −2 √(2/π).
const GELU_LINEAR: f64 = -1.595_769_121_605_731;
/// −2 √(2/π) · 0.044715.
const GELU_CUBIC: f64 = GELU_LINEAR * 0.044715;
/// log₂ e: in GELU it goes into the constants, and e^(−2u) becomes a power of two, which is cheaper.
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// 1 / √(2π).
const INV_SQRT_2_PI: f64 = 0.398_942_280_401_432_7;

#[derive(Clone, Copy)]
struct GeluTanh;

impl GeluTanh {
    #[inline(always)]
    fn exp_minus_2u<S: Simd>(simd: S, x: S::V, x2: S::V) -> S::V {
        let (linear, cubic) = (splat(simd, GELU_LINEAR * LOG2_E), splat(simd, GELU_CUBIC * LOG2_E));
        S::T::exp2(simd, simd.mul(x, simd.mul_add(x2, cubic, linear)))
    }
}

impl Act for GeluTanh {
    // σ(2u) = 1 / (1 + e^(−2u)): one exponential and one division.
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        let x2 = simd.mul(x, x);
        let e = Self::exp_minus_2u(simd, x, x2);
        simd.div(x, simd.add(e, splat(simd, 1.0)))
    }
    // f′ = σ (1 + x (1 − σ) 2u′)
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V) {
        // σ is 0 or 1 long before x² reaches the bound, which keeps 0 · ∞ out of the slope.
        let x2 = simd.min(splat(simd, 1e6), simd.mul(x, x));
        let one = splat(simd, 1.0);
        let sigma = simd.div(one, simd.add(Self::exp_minus_2u(simd, x, x2), one));
        let minus_2du = simd.mul_add(x2, splat(simd, 3.0 * GELU_CUBIC), splat(simd, GELU_LINEAR));
        let y = simd.mul(x, sigma);
        let rest = simd.mul(y, simd.sub(one, sigma));
        (y, simd.neg_mul_add(rest, minus_2du, sigma))
    }
}

#[derive(Clone, Copy)]
struct GeluErf;

impl Act for GeluErf {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        let erf = S::T::erf(simd, simd.mul(x, splat(simd, std::f64::consts::FRAC_1_SQRT_2)));
        let half = simd.mul(x, splat(simd, 0.5));
        simd.mul_add(half, erf, half)
    }
    // f′ = Φ(x) + x φ(x)
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V) {
        let erf = S::T::erf(simd, simd.mul(x, splat(simd, std::f64::consts::FRAC_1_SQRT_2)));
        let half = splat(simd, 0.5);
        let cdf = simd.mul_add(half, erf, half);
        let density = S::T::exp(simd, simd.mul(simd.mul(x, x), splat(simd, -0.5)));
        let density = simd.mul(density, splat(simd, INV_SQRT_2_PI));
        (simd.mul(x, cdf), simd.mul_add(x, density, cdf))
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Act for Silu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        simd.div(x, simd.add(S::T::exp(simd, simd.neg(x)), splat(simd, 1.0)))
    }
    // f′ = σ (1 + x (1 − σ))
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V) {
        let one = splat(simd, 1.0);
        let sigma = simd.div(one, simd.add(S::T::exp(simd, simd.neg(x)), one));
        let y = simd.mul(x, sigma);
        (y, simd.mul_add(y, simd.sub(one, sigma), sigma))
    }
}

#[derive(Clone, Copy)]
struct Relu;

impl Act for Relu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        simd.max(simd.zero(), x)
    }
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V) {
        let slope = simd.select(simd.lt(simd.zero(), x), splat(simd, 1.0), simd.zero());
        (self.value(simd, x), slope)
    }
}

#[derive(Clone, Copy)]
struct Relu2;

impl Act for Relu2 {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::V) -> S::V {
        let x = simd.max(simd.zero(), x);
        simd.mul(x, x)
    }
    #[inline(always)]
    fn value_and_slope<S: Simd>(self, simd: S, x: S::V) -> (S::V, S::V) {
        let x = simd.max(simd.zero(), x);
        (simd.mul(x, x), simd.add(x, x))
    }
}

/// Runs an expression with `$act` standing for the type that `$kind` names.
macro_rules! with_act {
    ($kind:expr, $act:ident => $body:expr) => {
        match $kind {
            Activation::GeluTanh => {
                let $act = GeluTanh;
                $body
            }
            Activation::GeluErf => {
                let $act = GeluErf;
                $body
            }
            Activation::Silu => {
                let $act = Silu;
                $body
            }
            Activation::Relu => {
                let $act = Relu;
                $body
            }
            Activation::Relu2 => {
                let $act = Relu2;
                $body
            }
        }
    };
}

/// y = f(x), elementwise.
///
/// # Panics
/// If the lengths differ.
pub fn activation<T: Real>(kind: Activation, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "activation: x and y differ in length");
    let all = (In(x, 1), Out(y, 1));
    by_rows(is_large::<T>(2 * x.len()), x.len(), CHUNK, all, &|(x, y)| activation_chunk(kind, x.0, y.0));
}

/// dx = f′(x) · dy, elementwise.
///
/// # Panics
/// If the lengths differ.
pub fn activation_backward<T: Real>(kind: Activation, x: &[T], dy: &[T], dx: Grad<'_, T>) {
    assert_eq!(x.len(), dy.len(), "activation_backward: x and dy differ in length");
    assert_eq!(x.len(), dx.data.len(), "activation_backward: x and dx differ in length");
    let Grad { data, add } = dx;
    let all = (In(x, 1), In(dy, 1), Out(data, 1));
    by_rows(is_large::<T>(3 * x.len()), x.len(), CHUNK, all, &|(x, dy, dx)| {
        activation_backward_chunk(kind, x.0, dy.0, dx.0, add);
    });
}

/// As [`activation_backward`], and y = f(x) again, which the forward pass then need not keep.
///
/// # Panics
/// If the lengths differ.
pub fn activation_backward_with_value<T: Real>(
    kind: Activation,
    x: &[T],
    dy: &[T],
    dx: Grad<'_, T>,
    y: &mut [T],
) {
    assert_eq!(x.len(), dy.len(), "activation_backward_with_value: x and dy differ in length");
    assert_eq!(x.len(), dx.data.len(), "activation_backward_with_value: x and dx differ in length");
    assert_eq!(x.len(), y.len(), "activation_backward_with_value: x and y differ in length");
    let Grad { data, add } = dx;
    let all = (In(x, 1), In(dy, 1), Out(data, 1), Out(y, 1));
    by_rows(is_large::<T>(4 * x.len()), x.len(), CHUNK, all, &|(x, dy, dx, y)| {
        backward_with_value_chunk(kind, x.0, dy.0, dx.0, add, y.0);
    });
}

/// y = f(gate) · up for rows x = \[gate | up\] of 2n numbers and rows y of n (Shazeer 2020, arXiv:2002.05202).
///
/// # Panics
/// If `x` is not twice as long as `y`, or `n` does not divide the length of `y`.
pub fn gated_activation<T: Real>(kind: Activation, x: &[T], y: &mut [T], n: usize) {
    assert_eq!(x.len(), 2 * y.len(), "gated_activation: x is not twice as long as y");
    if n == 0 {
        return assert!(y.is_empty(), "gated_activation: rows of no columns");
    }
    assert_eq!(y.len() % n, 0, "gated_activation: y is not rows of {n}");
    let (parallel, rows) = (is_large::<T>(3 * y.len()), y.len() / n);
    let all = (In(x, 2 * n), Out(y, n));
    by_rows(parallel, rows, CHUNK.div_ceil(n), all, &|(x, y)| gated_chunk(kind, x.0, y.0, n));
}

/// The gradient of [`gated_activation`]: dgate = dy · up · f′(gate), dup = dy · f(gate); `dx` is laid out like `x`.
///
/// # Panics
/// If `x` and `dx` are not twice as long as `dy`, or `n` does not divide the length of `dy`.
pub fn gated_activation_backward<T: Real>(kind: Activation, x: &[T], dy: &[T], dx: Grad<'_, T>, n: usize) {
    assert_eq!(x.len(), 2 * dy.len(), "gated_activation_backward: x is not twice as long as dy");
    assert_eq!(x.len(), dx.data.len(), "gated_activation_backward: x and dx differ in length");
    if n == 0 {
        return assert!(dy.is_empty(), "gated_activation_backward: rows of no columns");
    }
    assert_eq!(dy.len() % n, 0, "gated_activation_backward: dy is not rows of {n}");
    let Grad { data, add } = dx;
    let all = (In(x, 2 * n), In(dy, n), Out(data, 2 * n));
    by_rows(is_large::<T>(5 * dy.len()), dy.len() / n, CHUNK.div_ceil(n), all, &|(x, dy, dx)| {
        gated_backward_chunk(kind, x.0, dy.0, dx.0, add, n);
    });
}

/// y = f(x), elementwise.
///
/// # Panics
/// If the lengths differ.
pub fn unary<T: Real>(kind: Unary, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "unary: x and y differ in length");
    let all = (In(x, 1), Out(y, 1));
    by_rows(is_large::<T>(2 * x.len()), x.len(), CHUNK, all, &|(x, y)| unary_chunk(kind, x.0, y.0));
}

dispatch! {
    fn activation_chunk<T>(kind: Activation, x: &[T], y: &mut [T]) = activation_on
    fn activation_backward_chunk<T>(kind: Activation, x: &[T], dy: &[T], dx: &mut [T], add: bool) = activation_backward_on
    fn backward_with_value_chunk<T>(kind: Activation, x: &[T], dy: &[T], dx: &mut [T], add: bool, y: &mut [T]) = backward_with_value_on
    fn gated_chunk<T>(kind: Activation, x: &[T], y: &mut [T], n: usize) = gated_on
    fn gated_backward_chunk<T>(kind: Activation, x: &[T], dy: &[T], dx: &mut [T], add: bool, n: usize) = gated_backward_on
    fn unary_chunk<T>(kind: Unary, x: &[T], y: &mut [T]) = unary_on
}

#[inline(always)]
fn activation_on<S: Simd>(simd: S, kind: Activation, x: &[S::T], y: &mut [S::T]) {
    with_act!(kind, act => sweep!((x), (y) => simd.store_up_to(y, act.value(simd, simd.load_up_to(x)))));
}

#[inline(always)]
fn activation_backward_on<S: Simd>(
    simd: S,
    kind: Activation,
    x: &[S::T],
    dy: &[S::T],
    dx: &mut [S::T],
    add: bool,
) {
    with_act!(kind, act => sweep!((x, dy), (dx) => {
        let (_, slope) = act.value_and_slope(simd, simd.load_up_to(x));
        put(simd, dx, simd.mul(slope, simd.load_up_to(dy)), add);
    }));
}

#[inline(always)]
fn backward_with_value_on<S: Simd>(
    simd: S,
    kind: Activation,
    x: &[S::T],
    dy: &[S::T],
    dx: &mut [S::T],
    add: bool,
    y: &mut [S::T],
) {
    with_act!(kind, act => sweep!((x, dy), (dx, y) => {
        let (value, slope) = act.value_and_slope(simd, simd.load_up_to(x));
        simd.store_up_to(y, value);
        put(simd, dx, simd.mul(slope, simd.load_up_to(dy)), add);
    }));
}

#[inline(always)]
fn gated_on<S: Simd>(simd: S, kind: Activation, x: &[S::T], y: &mut [S::T], n: usize) {
    with_act!(kind, act => for (x, y) in x.chunks_exact(2 * n).zip(y.chunks_exact_mut(n)) {
        let (gate, up) = x.split_at(n);
        sweep!((gate, up), (y) => {
            let value = act.value(simd, simd.load_up_to(gate));
            simd.store_up_to(y, simd.mul(value, simd.load_up_to(up)));
        });
    });
}

#[inline(always)]
fn gated_backward_on<S: Simd>(
    simd: S,
    kind: Activation,
    x: &[S::T],
    dy: &[S::T],
    dx: &mut [S::T],
    add: bool,
    n: usize,
) {
    let rows = x.chunks_exact(2 * n).zip(dy.chunks_exact(n)).zip(dx.chunks_exact_mut(2 * n));
    with_act!(kind, act => for ((x, dy), dx) in rows {
        let (gate, up) = x.split_at(n);
        let (dgate, dup) = dx.split_at_mut(n);
        sweep!((gate, up, dy), (dgate, dup) => {
            let (value, slope) = act.value_and_slope(simd, simd.load_up_to(gate));
            let dy = simd.load_up_to(dy);
            put(simd, dgate, simd.mul(simd.mul(slope, simd.load_up_to(up)), dy), add);
            put(simd, dup, simd.mul(value, dy), add);
        });
    });
}

#[inline(always)]
fn unary_on<S: Simd>(simd: S, kind: Unary, x: &[S::T], y: &mut [S::T]) {
    /// One loop for each function of `x`.
    macro_rules! each {
        ($v:ident: $($kind:ident => $f:expr,)*) => {
            match kind {
                $(Unary::$kind => sweep!((x), (y) => {
                    let $v = simd.load_up_to(x);
                    simd.store_up_to(y, $f);
                }),)*
            }
        };
    }
    let (zero, one) = (simd.zero(), simd.splat(S::T::ONE));
    // NaN is neither above nor below zero and is passed on as it is.
    each! { x:
        Exp => S::T::exp(simd, x),
        Exp2 => S::T::exp2(simd, x),
        Ln => S::T::ln(simd, x),
        Tanh => S::T::tanh(simd, x),
        Sigmoid => S::T::sigmoid(simd, x),
        Erf => S::T::erf(simd, x),
        Sqrt => simd.sqrt(x),
        Recip => simd.div(one, x),
        Neg => simd.neg(x),
        Abs => simd.abs(x),
        Square => simd.mul(x, x),
        Relu => simd.max(zero, x),
        Step => {
            let step = simd.select(simd.lt(zero, x), one, zero);
            simd.select(simd.is_nan(x), x, step)
        },
        Sign => {
            let sign = simd.select(simd.lt(x, zero), simd.neg(one), simd.mul(x, zero));
            simd.select(simd.lt(zero, x), one, sign)
        },
    }
}
