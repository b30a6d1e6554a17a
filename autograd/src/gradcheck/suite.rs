//! The checks of every op, over the list of ops.

use std::collections::BTreeSet;

use weft_tensor::random::{Purpose, Random};
use weft_tensor::{Shape, Tensor};

use super::{Checked, Function, check, of_slice, weigh, weighted};
use crate::ops;
use crate::params::{Grads, Params};
use crate::tape::{Pool, Tape, Var};

/// How far a fused op in `f64` may be from its reference, relative to 1 + |value|: a few thousand roundings.
const REFERENCE: f64 = 1e-11;

/// What the suite found about one op.
#[derive(Clone, Debug)]
pub struct OpReport {
    /// The op's name.
    pub name: &'static str,
    /// Functions checked: cases times layouts and subsets of inputs.
    pub checks: usize,
    /// Derivatives compared, and the worst of them.
    pub checked: Checked,
    /// The first thing that was wrong.
    pub failure: Option<String>,
}

/// The gradient checks of the ops, as they are collected.
pub(crate) struct Cases {
    list: Vec<Case>,
    random: Random,
}

/// One function of an op and inputs for it.
pub(crate) struct Case {
    op: &'static str,
    inputs: Vec<Tensor<f64>>,
    function: Box<Function<'static>>,
}

impl Cases {
    pub(crate) fn new() -> Self {
        Cases { list: Vec::new(), random: Random::new(7, Purpose::Test, 0, 0) }
    }

    /// Adds a function that uses the op called `op`, at these inputs.
    pub(crate) fn add<const N: usize>(
        &mut self,
        op: &'static str,
        inputs: [Tensor<f64>; N],
        f: impl for<'t> Fn([Var<'t, f64>; N]) -> Var<'t, f64> + 'static,
    ) {
        self.list.push(Case { op, inputs: inputs.into(), function: Box::new(of_slice(f)) });
    }

    /// Normal random numbers, different at every call.
    pub(crate) fn normal(&mut self, shape: impl Into<Shape>) -> Tensor<f64> {
        self.sample(shape.into(), rand_distr::StandardNormal)
    }

    /// Numbers between 0.5 and 2: for functions that want positive ones.
    pub(crate) fn positive(&mut self, shape: impl Into<Shape>) -> Tensor<f64> {
        self.sample(shape.into(), rand_distr::Uniform::new(0.5, 2.0).expect("0.5 < 2"))
    }

    fn sample(&mut self, shape: Shape, distribution: impl rand_distr::Distribution<f64>) -> Tensor<f64> {
        let values = (0..shape.elements()).map(|_| distribution.sample(&mut self.random)).collect();
        Tensor::from_vec(values, shape)
    }

    /// Runs every check.
    pub(crate) fn run(&self, names: impl Iterator<Item = &'static str>) -> Vec<OpReport> {
        names.map(|name| self.run_op(name)).collect()
    }

    fn run_op(&self, name: &'static str) -> OpReport {
        let mut report = OpReport { name, checks: 0, checked: Checked::default(), failure: None };
        let mut seen = BTreeSet::new();
        for (number, case) in self.list.iter().enumerate().filter(|(_, case)| case.op == name) {
            let shapes: Vec<Shape> = case.inputs.iter().map(Tensor::shape).collect();
            if let Err(what) = case.run(&mut report, &mut seen) {
                report.failure = Some(format!("case {number}, inputs {shapes:?}: {what}"));
                return report;
            }
        }
        if !seen.contains(name) {
            report.failure = Some("no check records this op".into());
        }
        report
    }
}

/// How an input lies before it reaches the function: as it is, or behind ops that undo a layout.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lay {
    Contiguous,
    Transposed,
    Permuted,
    Sliced,
    Broadcast,
}

impl Lay {
    const ALL: [Lay; 5] = [Lay::Contiguous, Lay::Transposed, Lay::Permuted, Lay::Sliced, Lay::Broadcast];

    /// Does the layout make a difference at this shape?
    fn applies(self, shape: &Shape) -> bool {
        match self {
            Lay::Contiguous => true,
            Lay::Transposed => shape.rank() >= 2,
            Lay::Permuted => shape.rank() >= 3,
            Lay::Sliced => shape.rank() >= 1,
            Lay::Broadcast => shape.rank() >= 1 && shape[0] > 1,
        }
    }

    /// The order of axes that [`Lay::Permuted`] undoes: the last comes first.
    fn rotation(rank: usize) -> Vec<usize> {
        (0..rank).map(|axis| (axis + rank - 1) % rank).collect()
    }

    /// The parameter behind an input.
    fn store(self, x: &Tensor<f64>) -> Tensor<f64> {
        let rank = x.shape().rank();
        if !self.applies(&x.shape()) {
            return x.clone();
        }
        match self {
            Lay::Contiguous => x.clone(),
            Lay::Transposed => x.transpose(rank - 2, rank - 1).contiguous(),
            Lay::Permuted => x.permute(&Lay::rotation(rank)).contiguous(),
            Lay::Sliced => {
                let padded: Vec<usize> = x.shape().iter().map(|size| size + 2).collect();
                let mut values = vec![0.25; padded.iter().product()];
                let at = x.to_vec();
                for (i, value) in at.into_iter().enumerate() {
                    let (mut rest, mut place, mut stride) = (i, 0, 1);
                    for axis in (0..rank).rev() {
                        place += (rest % x.shape()[axis] + 1) * stride;
                        rest /= x.shape()[axis];
                        stride *= padded[axis];
                    }
                    values[place] = value;
                }
                Tensor::from_vec(values, padded.as_slice())
            }
            Lay::Broadcast => x.slice(0, 0..1).contiguous(),
        }
    }

    /// The input from the parameter.
    fn load<'t>(self, x: Var<'t, f64>, shape: Shape) -> Var<'t, f64> {
        let rank = shape.rank();
        if !self.applies(&shape) {
            return x;
        }
        match self {
            Lay::Contiguous => x,
            Lay::Transposed => x.transpose(rank - 2, rank - 1),
            Lay::Permuted => {
                let back: Vec<usize> = (0..rank).map(|axis| (axis + 1) % rank).collect();
                x.permute(&back)
            }
            Lay::Sliced => (0..rank).fold(x, |x, axis| x.slice(axis, 1..shape[axis] + 1)),
            Lay::Broadcast => x.broadcast_to(shape),
        }
    }
}

impl Case {
    fn run(&self, report: &mut OpReport, seen: &mut BTreeSet<&'static str>) -> Result<(), String> {
        let n = self.inputs.len();
        let mut check_one =
            |what: &dyn std::fmt::Debug, f: &Function<'_>, inputs: &[Tensor<f64>], needs: &[bool]| {
                report.checks += 1;
                let checked = check(f, inputs, needs).map_err(|mismatch| format!("{what:?}: {mismatch}"))?;
                report.checked = report.checked.and(checked);
                Ok::<(), String>(())
            };
        for subset in 1..1u32 << n {
            let needs: Vec<bool> = (0..n).map(|i| subset >> i & 1 == 1).collect();
            check_one(&needs, &self.function, &self.inputs, &needs)?;
        }
        let all = vec![true; n];
        let shapes: Vec<Shape> = self.inputs.iter().map(Tensor::shape).collect();
        for lay in Lay::ALL.into_iter().skip(1).filter(|lay| shapes.iter().any(|shape| lay.applies(shape))) {
            let stored: Vec<_> = self.inputs.iter().map(|x| lay.store(x)).collect();
            let laid = function(|vars: &[Var<'_, f64>]| {
                let vars: Vec<_> =
                    vars.iter().zip(&shapes).map(|(var, shape)| lay.load(*var, *shape)).collect();
                (self.function)(&vars)
            });
            check_one(&lay, &laid, &stored, &all)?;
        }
        // Every input used a second time, outside of the op: its gradient is written before the op's rule adds to it.
        let twice = function(|vars: &[Var<'_, f64>]| {
            let terms = vars.iter().enumerate().map(|(i, var)| weigh(*var, 1 + i as u64));
            terms.fold(weigh((self.function)(vars), 0), |a, b| a + b)
        });
        check_one(&"every input used twice", &twice, &self.inputs, &all)?;
        let second = function(|vars: &[Var<'_, f64>]| {
            let grads = weigh((self.function)(vars), 1).grad(vars);
            let terms = grads.into_iter().enumerate().map(|(i, grad)| weigh(grad, 2 + i as u64));
            terms.reduce(|a, b| a + b).expect("at least one input")
        });
        check_one(&"second derivative", &second, &self.inputs, &all)?;
        self.against_reference(seen)
    }

    /// Values and gradients of the function with fused ops, and with their references instead.
    fn against_reference(&self, seen: &mut BTreeSet<&'static str>) -> Result<(), String> {
        let params = Params::from_views(&self.inputs.iter().map(Tensor::view).collect::<Vec<_>>());
        let pool = Pool::new();
        let needs = vec![true; self.inputs.len()];
        let mut results = [false, true].map(|references| {
            let mut grads = Grads::new(&params);
            let tape = Tape::new(&params, &pool);
            tape.use_references(references);
            let loss = weighted(&self.function, &tape, &needs);
            tape.op_names(seen);
            loss.backward(&mut grads);
            let zeros = |id| vec![0.0; params.layout().shape(id).elements()];
            let grads =
                params.layout().ids().flat_map(|id| grads.get(id).map_or_else(|| zeros(id), <[f64]>::to_vec));
            let mut all: Vec<f64> = grads.collect();
            all.push(loss.item());
            all
        });
        let [fused, reference] = &mut results;
        for (i, (a, b)) in fused.iter().zip(reference).enumerate() {
            let close = (*a - *b).abs() <= REFERENCE * (1.0 + b.abs());
            if !close {
                return Err(format!(
                    "element {i} of the gradients and the loss: fused {a:e}, reference {b:e}"
                ));
            }
        }
        Ok(())
    }
}

/// Lets a closure be a [`Function`]: its lifetimes are inferred from here.
fn function<F>(f: F) -> F
where
    F: for<'t> Fn(&[Var<'t, f64>]) -> Var<'t, f64>,
{
    f
}

/// Checks every op of the library: derivatives by every subset of inputs, in five layouts, with every
/// input used twice, second derivatives, and fused ops against their references. The result lists every op.
pub fn suite() -> Vec<OpReport> {
    let mut cases = Cases::new();
    ops::cases(&mut cases);
    cases.run(ops::names())
}
