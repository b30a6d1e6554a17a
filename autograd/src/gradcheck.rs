//! Gradient checks: every analytic derivative against central differences, in `f64`.
//!
//! In `f64` a right gradient and its central difference agree to about ten digits, a wrong one does not; in `f32` rounding hides
//! the difference. [`gradcheck`] checks one function; [`suite`] checks every op of the library over shapes, layouts and subsets
//! of inputs, the fused ops also against their reference in primitives.

use std::fmt;

use weft_tensor::random::{Purpose, Random};
use weft_tensor::{Shape, Tensor, View};

use crate::params::{Grads, Params};
use crate::tape::{Pool, Tape, Var};

mod suite;
#[cfg(test)]
mod teeth;

pub(crate) use suite::Cases;
pub use suite::{OpReport, suite};

/// The half step of the central difference. Its error is of order EPS² (truncation) plus ε/EPS (rounding), about 1e-10 each
/// for functions whose values and derivatives are of order one.
pub const STEP: f64 = 1e-5;
/// The difference that is accepted however small the gradient is.
pub const ABSOLUTE: f64 = 1e-7;
/// The difference that is accepted in proportion to the gradient.
pub const RELATIVE: f64 = 1e-5;

/// A derivative that the central difference contradicts.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// Which input, counted from 0.
    pub input: usize,
    /// Which element of it, row by row.
    pub element: usize,
    /// By central difference.
    pub numeric: f64,
    /// By the walk back.
    pub analytic: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { input, element, numeric, analytic } = self;
        write!(f, "input {input}, element {element}: central difference {numeric:e}, gradient {analytic:e}")
    }
}

impl std::error::Error for Mismatch {}

/// What a passed check saw.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Checked {
    /// Derivatives compared.
    pub comparisons: usize,
    /// The largest |numeric − analytic| / (ABSOLUTE + RELATIVE · |analytic|): 1 would be a miss.
    pub worst: f64,
}

impl Checked {
    /// Both together.
    pub fn and(self, other: Checked) -> Checked {
        Checked { comparisons: self.comparisons + other.comparisons, worst: self.worst.max(other.worst) }
    }

    fn compare(&mut self, input: usize, element: usize, numeric: f64, analytic: f64) -> Result<(), Mismatch> {
        let excess = (numeric - analytic).abs() / (ABSOLUTE + RELATIVE * analytic.abs());
        self.comparisons += 1;
        self.worst = self.worst.max(excess);
        // Written so that a NaN is a miss.
        if excess <= 1.0 { Ok(()) } else { Err(Mismatch { input, element, numeric, analytic }) }
    }
}

/// Checks the gradients of `f` by each of its inputs and panics at the first that is wrong.
///
/// The output is summed with random weights, so that every element's gradient counts.
///
/// ```
/// use weft_autograd::gradcheck::{gradcheck, randn};
///
/// gradcheck(|[x]| x.gelu(), [randn([3, 7])]);
/// ```
///
/// # Panics
/// At the first derivative that its central difference contradicts.
#[track_caller]
pub fn gradcheck<const N: usize>(
    f: impl for<'t> Fn([Var<'t, f64>; N]) -> Var<'t, f64>,
    inputs: [Tensor<f64>; N],
) -> Checked {
    try_gradcheck(f, inputs).unwrap_or_else(|mismatch| panic!("gradcheck: {mismatch}"))
}

/// As [`gradcheck`]; gives the first wrong derivative back instead of a panic.
///
/// ```
/// use weft_autograd::gradcheck::{randn, try_gradcheck};
///
/// // A copy of the values cuts the graph: half of the derivative of x² is lost.
/// let cut = try_gradcheck(|[x]| x * x.tape().constant_from_f64(&x.to_vec(), x.shape()), [randn([3])]);
/// let mismatch = cut.unwrap_err();
/// assert!((mismatch.numeric - 2.0 * mismatch.analytic).abs() < 1e-6);
/// ```
pub fn try_gradcheck<const N: usize>(
    f: impl for<'t> Fn([Var<'t, f64>; N]) -> Var<'t, f64>,
    inputs: [Tensor<f64>; N],
) -> Result<Checked, Mismatch> {
    check(&of_slice(f), &inputs, &[true; N])
}

/// Normal random numbers of variance 1, from a fixed seed.
pub fn randn(shape: impl Into<Shape>) -> Tensor<f64> {
    let shape = shape.into();
    let mut random = Random::new(shape.elements() as u64, Purpose::Test, 0, 0);
    let values = (0..shape.elements())
        .map(|_| rand_distr::Distribution::sample(&rand_distr::StandardNormal, &mut random));
    Tensor::from_vec(values.collect(), shape)
}

/// A function of any number of inputs.
pub(crate) type Function<'a> = dyn for<'t> Fn(&[Var<'t, f64>]) -> Var<'t, f64> + 'a;

/// A function of an array as one of a slice.
pub(crate) fn of_slice<const N: usize, F>(f: F) -> impl for<'t> Fn(&[Var<'t, f64>]) -> Var<'t, f64>
where
    F: for<'t> Fn([Var<'t, f64>; N]) -> Var<'t, f64>,
{
    move |vars: &[Var<'_, f64>]| f(vars.try_into().expect("as many variables as inputs"))
}

/// Checks the gradients of `f` by those of its inputs that `needs` names; the others are constants.
pub(crate) fn check(f: &Function<'_>, inputs: &[Tensor<f64>], needs: &[bool]) -> Result<Checked, Mismatch> {
    let mut params = Params::from_views(&inputs.iter().map(Tensor::view).collect::<Vec<_>>());
    let pool = Pool::new();
    let mut grads = Grads::new(&params);
    // What is overwritten is never read: a rule that adds at its first write makes NaN of it.
    grads.flat_mut().fill(f64::NAN);
    {
        let tape = Tape::new(&params, &pool);
        let loss = weighted(f, &tape, needs);
        loss.backward(&mut grads);
    }
    let mut checked = Checked::default();
    for (input, id) in params.layout().ids().enumerate().filter(|(i, _)| needs[*i]) {
        for element in 0..inputs[input].shape().elements() {
            let x = params.get(id)[element];
            let mut at = |x: f64| {
                params.get_mut(id)[element] = x;
                // It records, because a function may ask for gradients inside.
                weighted(f, &Tape::new(&params, &pool), needs).item()
            };
            // The step that was really taken, after rounding.
            let (above, below) = (x + STEP, x - STEP);
            let numeric = (at(above) - at(below)) / (above - below);
            at(x);
            let analytic = grads.get(id).map_or(0.0, |grad| grad[element]);
            checked.compare(input, element, numeric, analytic)?;
        }
    }
    Ok(checked)
}

/// The output of `f` summed with fixed random weights. The inputs are the parameters of the tape.
fn weighted<'t>(f: &Function<'_>, tape: &'t Tape<'t, f64>, needs: &[bool]) -> Var<'t, f64> {
    let params = tape.params();
    let vars: Vec<_> = params
        .layout()
        .ids()
        .zip(needs)
        .map(|(id, &needed)| if needed { tape.param(id) } else { tape.constant(params.view(id)) })
        .collect();
    weigh(f(&vars), 0)
}

/// Σ wᵢ yᵢ with normal random weights.
fn weigh(y: Var<'_, f64>, seed: u64) -> Var<'_, f64> {
    let shape = y.shape();
    let mut random = Random::new(seed, Purpose::Test, 1, 0);
    let weights: Vec<f64> = (0..shape.elements())
        .map(|_| rand_distr::Distribution::sample(&rand_distr::StandardNormal, &mut random))
        .collect();
    (y * y.tape().constant(View::new(&weights, shape))).sum_all()
}
