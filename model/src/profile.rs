//! Where the time of training goes: `weft train --profile`.

use std::time::{Duration, Instant};

use weft_autograd::{Entry, Pool, Profile as Ops};
use weft_tensor::peak::fma_gflops;

use crate::bench::{Level, Roof};

/// A part of a run that is not an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Drawing batches.
    Batches,
    /// Putting weights into the form that products want.
    Weights,
    /// Forward and backward: mostly ops.
    Passes,
    /// Gradients of replicas added, clipped, and the parameters updated.
    Update,
    /// On the validation split.
    Evaluation,
}

/// Times the parts of a run one after another, if it is on.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    is_on: bool,
    lap: Option<Instant>,
    times: [Duration; 5],
}

impl Watch {
    pub(crate) fn turn_on(&mut self) {
        self.is_on = true;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A part begins.
    pub(crate) fn start(&mut self) {
        if self.is_on {
            self.lap = Some(Instant::now());
        }
    }

    /// The part that began last ends here, and another begins.
    pub(crate) fn end(&mut self, part: Part) {
        if let Some(start) = self.lap.take() {
            let now = Instant::now();
            self.times[part as usize] += now - start;
            self.lap = Some(now);
        }
    }

    fn time(&self, part: Part) -> f64 {
        self.times[part as usize].as_secs_f64()
    }
}

/// Where the time of some steps went.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Steps.
    pub steps: u64,
    /// Threads.
    pub threads: usize,
    /// Seconds of all steps together, without evaluations.
    pub seconds: f64,
    /// Seconds in evaluations.
    pub evaluation: f64,
    /// What they consist of, the most expensive first. The shares add up to one.
    pub lines: Vec<Line>,
}

/// One expense.
#[derive(Clone, Debug)]
pub struct Line {
    /// An op's name, or what else it is.
    pub name: String,
    /// Of an op: in the walk back?
    pub backward: Option<bool>,
    /// Calls in all steps.
    pub calls: u64,
    /// Seconds in all steps: of one thread, divided by the number of threads.
    pub seconds: f64,
    /// The part of the time of all steps.
    pub share: f64,
    /// What limits it, and the part of that which each thread reached.
    pub of_roof: Option<(Roof, f64)>,
}

impl Profile {
    /// From what a trainer counted; measures the limits of the machine to compare with.
    pub(crate) fn new<'a>(watch: &Watch, pools: impl Iterator<Item = &'a Pool>, steps: u64) -> Profile {
        let threads = rayon::current_num_threads();
        let mut ops = Ops::default();
        pools.filter_map(Pool::profile).for_each(|profile| ops.merge(&profile));
        let [batches, weights, passes, update] =
            [Part::Batches, Part::Weights, Part::Passes, Part::Update].map(|part| watch.time(part));
        let seconds = batches + weights + passes + update;
        let share = |seconds: f64, all: f64| if all > 0.0 { seconds / all } else { 0.0 };
        let mut limits = Limits { threads, known: Vec::new() };
        let mut lines: Vec<Line> = ops
            .entries()
            .iter()
            .map(|entry| {
                let of_thread = entry.time.as_secs_f64();
                let own = of_thread / threads as f64;
                let (name, backward) = (entry.name.into(), Some(entry.backward));
                let of_roof = limits.reached(entry, of_thread);
                Line { name, backward, calls: entry.calls, seconds: own, share: share(own, seconds), of_roof }
            })
            .collect();
        let of_ops: f64 = lines.iter().map(|line| line.seconds).sum();
        let mut other = |name: &str, own: f64| {
            let name = name.into();
            let share = share(own, seconds);
            lines.push(Line { name, backward: None, calls: steps, seconds: own, share, of_roof: None });
        };
        other("making batches", batches);
        other("packing weights", weights);
        other("summing gradients, updating", update);
        other("between ops, waiting", passes - of_ops);
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Profile { steps, threads, seconds, evaluation: watch.time(Part::Evaluation), lines }
    }
}

/// Limits of one of so many busy threads, measured when they are asked for.
struct Limits {
    threads: usize,
    known: Vec<(Roof, f64)>,
}

impl Limits {
    /// What limits an op that took so many seconds, and the part that it reached.
    fn reached(&mut self, entry: &Entry, seconds: f64) -> Option<(Roof, f64)> {
        let work = if entry.flops > 0 { entry.flops } else { entry.bytes } as f64;
        if work == 0.0 || seconds == 0.0 {
            return None;
        }
        let level = Level::holding(entry.bytes as f64 / entry.calls as f64, 1);
        let roof = if entry.flops > 0 { Roof::Fma } else { level.roof };
        let known = self.known.iter().find(|(known, _)| *known == roof).map(|(_, rate)| *rate);
        let rate = known.unwrap_or_else(|| {
            let rate = match roof {
                // Another process on one of the cores would halve a measurement of 10 ms.
                Roof::Fma => (0..8).map(|_| fma_gflops(self.threads)).fold(0.0, f64::max),
                _ => level.update_gbps(self.threads),
            } / self.threads as f64;
            self.known.push((roof, rate));
            rate
        });
        Some((roof, work / seconds * 1e-9 / rate))
    }
}
