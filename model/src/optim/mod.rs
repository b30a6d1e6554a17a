//! Optimisers: one pass over the flat parameters.

mod schedule;

pub use schedule::{Schedule, ScheduleKind};

use serde::{Deserialize, Serialize};
use weft_autograd::{ParamLayout, Params};
use weft_tensor::kernels::optimizer::{self, AdamW, Sgd, Stretch};
use weft_tensor::{Buffer, Real};

/// Which rule turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).
    #[default]
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

impl OptimizerKind {
    /// The names of the moments it keeps.
    pub fn moments(self) -> &'static [&'static str] {
        match self {
            OptimizerKind::Adamw => &["m", "v"],
            OptimizerKind::Sgd => &["velocity"],
        }
    }
}

/// The numbers of an optimiser that do not change during a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Which rule.
    pub optimizer: OptimizerKind,
    /// Decay of the first moment (AdamW), momentum (SGD).
    pub beta1: f64,
    /// Decay of the second moment (AdamW).
    pub beta2: f64,
    /// Keeps the divisor of AdamW away from zero.
    pub eps: f64,
    /// Decay of matrices (tensors of two dimensions or more) per unit of learning rate; vectors do not decay.
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            optimizer: OptimizerKind::Adamw,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
        }
    }
}

/// What gradients of norm `grad_norm` are multiplied by so that their norm is at most `grad_clip`; 0 for no limit.
pub fn clip_scale(grad_norm: f64, grad_clip: f64) -> f64 {
    // PyTorch's small number: it keeps a gradient of zero from being divided by itself.
    const EPS: f64 = 1e-6;
    if grad_clip > 0.0 { (grad_clip / (grad_norm + EPS)).min(1.0) } else { 1.0 }
}

/// An optimiser and its moments, which are laid out like the parameters.
pub struct Optimizer<T = f32> {
    config: OptimizerConfig,
    moments: Vec<Buffer<T>>,
    /// Where the parameters lie, and which of them decay.
    stretches: Vec<Stretch>,
}

impl<T: Real> Optimizer<T> {
    /// An optimiser for `params` with moments of zero.
    pub fn new(config: OptimizerConfig, params: &Params<T>) -> Self {
        let moments = config.optimizer.moments().iter().map(|_| Buffer::zeros(params.flat().len())).collect();
        Optimizer { config, moments, stretches: stretches(params.layout()) }
    }

    /// The moments, in the order of [`OptimizerKind::moments`].
    pub fn moments(&self) -> &[Buffer<T>] {
        &self.moments
    }

    /// The moments, to restore.
    pub fn moments_mut(&mut self) -> &mut [Buffer<T>] {
        &mut self.moments
    }

    /// Updates `params` with the sum of `grads`, buffers laid out like the parameters, times `grad_scale`, as the update
    /// number `step`, counted from 1.
    pub fn step(&mut self, params: &mut Params<T>, grads: &[&[T]], step: u64, lr: f64, grad_scale: f64) {
        let OptimizerConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let (params, stretches) = (params.flat_mut(), &self.stretches);
        match (self.config.optimizer, self.moments.as_mut_slice()) {
            (OptimizerKind::Adamw, [m, v]) => {
                let options = AdamW { lr, beta1, beta2, eps, weight_decay, step, grad_scale };
                optimizer::adamw(&options, stretches, params, grads, m, v);
            }
            (OptimizerKind::Sgd, [velocity]) => {
                let options = Sgd { lr, momentum: beta1, weight_decay, grad_scale };
                optimizer::sgd(&options, stretches, params, grads, velocity);
            }
            _ => unreachable!("an optimiser has the moments of its kind"),
        }
    }
}

/// Where the parameters lie, as few stretches as possible: matrices decay, vectors do not.
fn stretches(layout: &ParamLayout) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for id in layout.ids() {
        let (range, decays) = (layout.range(id), layout.shape(id).rank() >= 2);
        match stretches.last_mut() {
            Some(last) if last.range.end == range.start && last.decays == decays => {
                last.range.end = range.end
            }
            _ => stretches.push(Stretch { range, decays }),
        }
    }
    stretches
}
