//! A model's own gradient against a central difference, in `f64`, along a random direction.

use rand_distr::{Distribution, StandardNormal};
use weft_autograd::{Grads, Params, Pool, Tape};
use weft_tensor::random::{Purpose, Random};

use crate::layers::Pass;
use crate::model::Model;
use crate::text::Batch;

/// Half the distance between the two losses of the central difference. Its error, about STEP² times the third derivative, and that
/// of rounding, about ε / STEP, are both below 1e-9 for a direction of length 1.
const STEP: f64 = 1e-5;
/// The difference that is accepted however small the derivative is: as for a single op.
const ABSOLUTE: f64 = weft_autograd::gradcheck::ABSOLUTE;
/// The difference that is accepted in proportion to the derivative.
const RELATIVE: f64 = weft_autograd::gradcheck::RELATIVE;

/// The derivative of a model's loss along one direction, found in two ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Directional {
    /// (loss(θ + STEP u) − loss(θ − STEP u)) / 2 STEP.
    pub numeric: f64,
    /// gradient · u.
    pub analytic: f64,
}

impl Directional {
    /// |numeric − analytic| in units of what is accepted: above 1 is a miss, and so is NaN.
    pub fn excess(&self) -> f64 {
        (self.numeric - self.analytic).abs() / (ABSOLUTE + RELATIVE * self.analytic.abs())
    }

    /// Whether the two agree.
    pub fn agrees(&self) -> bool {
        self.excess() <= 1.0
    }
}

/// Compares the gradient of the mean loss of `batch` with a central difference, along direction number `index`, of length 1.
pub fn directional(model: &Model, params: &Params<f64>, batch: &Batch, index: u32) -> Directional {
    let pool = Pool::new();
    let scale = 1.0 / batch.n_targets as f64;
    let mut random = Random::new(0, Purpose::Test, 2, index);
    let mut direction: Vec<f64> = params.flat().iter().map(|_| StandardNormal.sample(&mut random)).collect();
    let length = direction.iter().map(|u| u * u).sum::<f64>().sqrt();
    direction.iter_mut().for_each(|u| *u /= length);

    let loss_at = |step: f64| {
        let mut moved = params.clone();
        moved.flat_mut().iter_mut().zip(&direction).for_each(|(x, u)| *x += step * u);
        let tape = Tape::inference(&moved, &pool);
        model.loss(&tape, batch, scale, Pass::default()).item()
    };
    let numeric = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);

    let mut grads = Grads::new(params);
    {
        let tape = Tape::new(params, &pool);
        model.loss(&tape, batch, scale, Pass::default()).backward(&mut grads);
    }
    let layout = params.layout();
    let along = |id| {
        let grad = grads.get(id)?;
        Some(grad.iter().zip(&direction[layout.range(id)]).map(|(g, u)| g * u).sum::<f64>())
    };
    Directional { numeric, analytic: layout.ids().filter_map(along).sum() }
}
