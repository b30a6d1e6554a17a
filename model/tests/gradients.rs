//! The gradient of the whole model's loss against central differences in `f64`, for every combination of its switches.

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use weft_autograd::gradcheck::{ABSOLUTE, RELATIVE, STEP};
use weft_autograd::{Grads, Params, Pool, Tape};
use weft_model::config::{ActivationName, ModelConfig, ModelKind, Norm, Position, Score};
use weft_model::layers::{DropoutKey, Pass};
use weft_model::model::Model;
use weft_model::text::{Batch, IGNORE};
use weft_tensor::random::{Purpose, Random};

/// Sizes as small as the switches allow: two heads of two numbers.
fn tiny() -> ModelConfig {
    ModelConfig {
        vocab_size: 5,
        block_size: 4,
        n_layer: 1,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 4,
        n_inner: 3,
        ..ModelConfig::default()
    }
}

fn every_combination() -> Vec<ModelConfig> {
    let mut all = vec![tiny()];
    let mut switch = |set: &[&dyn Fn(&mut ModelConfig)]| {
        let with = |config: &ModelConfig, set: &dyn Fn(&mut ModelConfig)| {
            let mut config = config.clone();
            set(&mut config);
            config
        };
        all = all
            .iter()
            .flat_map(|config| set.iter().map(|set| with(config, set)).collect::<Vec<_>>())
            .collect();
    };
    switch(&[&|c| c.norm = Norm::Layer, &|c| c.norm = Norm::Rms]);
    switch(&[&|c| c.position = Position::Learned, &|c| c.position = Position::Rotary, &|c| {
        c.position = Position::None
    }]);
    switch(&[
        &|c| c.activation = ActivationName::GeluTanh,
        &|c| c.activation = ActivationName::GeluErf,
        &|c| c.activation = ActivationName::Silu,
        &|c| c.activation = ActivationName::Relu2,
    ]);
    switch(&[&|c| c.gated = false, &|c| c.gated = true]);
    switch(&[&|c| c.attention = Score::Dot, &|c| c.attention = Score::Cosine]);
    switch(&[&|c| c.n_kv_head = 2, &|c| c.n_kv_head = 1]);
    switch(&[&|c| c.tied = true, &|c| c.tied = false]);
    switch(&[&|c| c.bias = true, &|c| c.bias = false]);
    switch(&[&|c| c.dropout = 0.0, &|c| c.dropout = 0.3]);
    all.push(ModelConfig { model: ModelKind::Bigram, ..tiny() });
    all.push(ModelConfig { n_layer: 3, ..tiny() });
    all
}

/// Two rows, one of them shorter than the other.
fn batch() -> Batch {
    let inputs = [1, 4, 0, 2, 3, 1, 0, 0];
    let targets = [4, 0, 2, 1, 1, 0, IGNORE, IGNORE];
    Batch::new(inputs.into(), targets.into(), 2, 4)
}

/// Checks the derivative along one random direction of every parameter; returns the worst in units of what is accepted.
fn check(config: &ModelConfig) -> f64 {
    let (model, mut params) = Model::new::<f64>(config, 1).unwrap();
    let mut random = Random::new(3, Purpose::Test, 0, 0);
    let mut normal = || StandardNormal.sample(&mut random);
    let layout = params.layout().clone();
    // Far from the first values, which are so small that a wrong gradient would be small, too.
    for id in layout.ids() {
        let noise: Vec<f64> = params.get(id).iter().map(|_| normal()).collect();
        params.get_mut(id).iter_mut().zip(noise).for_each(|(x, noise)| *x += 0.5 * noise);
    }
    let (batch, pool) = (batch(), Pool::new());
    let pass = Pass { dropout: (config.dropout > 0.0).then_some(DropoutKey { seed: 5, step: 2, part: 1 }) };
    let scale = 1.0 / batch.n_targets as f64;
    let loss = |params: &Params<f64>| model.loss(&Tape::inference(params, &pool), &batch, scale, pass).item();
    let mut grads = Grads::new(&params);
    {
        let tape = Tape::new(&params, &pool);
        let loss = model.loss(&tape, &batch, scale, pass);
        loss.backward(&mut grads);
    }
    assert_eq!(grads.missing().next(), None, "a parameter got no gradient: {config:?}");
    let mut worst = 0.0;
    for id in layout.ids() {
        let at = params.get(id).to_vec();
        let mut direction: Vec<f64> = at.iter().map(|_| normal()).collect();
        let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        direction.iter_mut().for_each(|x| *x /= norm);
        let mut moved = |step: f64| {
            for ((x, at), direction) in params.get_mut(id).iter_mut().zip(&at).zip(&direction) {
                *x = at + step * direction;
            }
            loss(&params)
        };
        // Richardson's extrapolation: a query of length near the root of the cosine's eps bends the loss so sharply that the
        // square of the step shows.
        let mut central = |step: f64| (moved(step) - moved(-step)) / (2.0 * step);
        let numeric = (4.0 * central(STEP / 2.0) - central(STEP)) / 3.0;
        moved(0.0);
        let analytic: f64 = grads.get(id).unwrap().iter().zip(&direction).map(|(g, d)| g * d).sum();
        let excess = (numeric - analytic).abs() / (ABSOLUTE + RELATIVE * analytic.abs());
        assert!(
            excess <= 1.0,
            "{}: central difference {numeric:e}, gradient {analytic:e}, of {config:?}",
            layout.name(id)
        );
        worst = f64::max(worst, excess);
    }
    worst
}

#[test]
fn every_combination_of_switches_has_the_gradient_that_central_differences_find() {
    let all = every_combination();
    assert_eq!(all.len(), 1538, "combinations got lost");
    let worst = all.par_iter().map(check).reduce(|| 0.0, f64::max);
    eprintln!("{} models, worst derivative at {worst:.3} of what is accepted", all.len());
}
