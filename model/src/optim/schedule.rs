//! The learning rate as a function of the step.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Along half a cosine to `min_lr` (Loshchilov & Hutter 2017, arXiv:1608.03983).
    #[default]
    Cosine,
    /// Along a line to `min_lr`.
    Linear,
    /// Not at all.
    Constant,
}

/// A linear warm-up, then a fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How it falls.
    pub kind: ScheduleKind,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Where it ends.
    pub min_lr: f64,
    /// Steps of the warm-up.
    pub warmup_iters: u64,
    /// The step at which `min_lr` is reached.
    pub lr_decay_iters: u64,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let Schedule { kind, learning_rate, min_lr, warmup_iters, lr_decay_iters } = *self;
        if step < warmup_iters {
            return learning_rate * (step + 1) as f64 / (warmup_iters + 1) as f64;
        }
        let span = lr_decay_iters.saturating_sub(warmup_iters).max(1);
        let progress = ((step - warmup_iters) as f64 / span as f64).min(1.0);
        let height = match kind {
            ScheduleKind::Constant => return learning_rate,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress)),
        };
        min_lr + height * (learning_rate - min_lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_in_a_line_and_falls_to_the_minimum() {
        let schedule = Schedule {
            kind: ScheduleKind::Cosine,
            learning_rate: 1.0,
            min_lr: 0.1,
            warmup_iters: 4,
            lr_decay_iters: 14,
        };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(schedule.at(0), 0.2);
        close(schedule.at(3), 0.8);
        close(schedule.at(4), 1.0);
        close(schedule.at(9), 0.55);
        close(schedule.at(14), 0.1);
        close(schedule.at(1000), 0.1);
        close(Schedule { kind: ScheduleKind::Linear, ..schedule }.at(9), 0.55);
        close(Schedule { kind: ScheduleKind::Constant, ..schedule }.at(900), 1.0);
        close(Schedule { warmup_iters: 20, ..schedule }.at(25), 0.1);
    }
}
