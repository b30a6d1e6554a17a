//! How fast this machine is, and how near to it kernels, training steps and sampling come: what `weft bench` prints.
//!
//! Every speed is a fraction of a limit that was measured in the same process, seconds apart, since clocks wander: arithmetic
//! owes the rate of fused multiply-adds, everything else the bandwidth of the memory that its data lies in
//! ([`weft_tensor::peak`]). Which work is measured, under which name and with which aim, stands in [`shapes`].

mod kernels;
mod machine;
pub mod numbers;
mod rows;
pub mod shapes;
mod whole;

use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use kernels::{attention, matmul};
pub use machine::{Level, Machine, Roofs, processor};
pub use rows::rows;
pub use whole::{sample, sample_together, train_step, trainer};

/// How much time measuring may take.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds for one figure, at least.
    pub seconds: f64,
    /// Runs for one figure, at least; a single one if it takes longer than `patience`.
    pub runs: usize,
    /// Seconds after which a run is not made again.
    pub patience: f64,
    /// Kernels that take more operations are left out.
    pub largest: f64,
    /// How many of the named shapes, the smallest first.
    pub shapes: usize,
}

impl Effort {
    /// One or two minutes in all.
    pub const FULL: Effort =
        Effort { seconds: 0.25, runs: 3, patience: 4.0, largest: f64::INFINITY, shapes: usize::MAX };
    /// Some 20 seconds in all.
    pub const QUICK: Effort = Effort { seconds: 0.02, runs: 1, patience: 2.0, largest: 5e9, shapes: 3 };
    /// As little as there can be, to see that it works.
    pub const TINY: Effort = Effort { seconds: 0.0, runs: 1, patience: 0.0, largest: 1e8, shapes: 1 };
}

/// What a figure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// A training step of a named shape; a run is a step.
    Step,
    /// Sampling from a named shape; a run is a token.
    Sample,
    /// A matrix product.
    Matmul,
    /// Causal attention, forward or backward.
    Attention,
    /// A kernel that passes over rows of numbers.
    Rows,
}

/// What limits a speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Roof {
    /// Fused multiply-adds.
    #[serde(rename = "FMA")]
    Fma,
    /// The bandwidth of the first-level caches.
    L1,
    /// Of the second-level caches.
    L2,
    /// Of the third-level cache.
    L3,
    /// Of the main memory.
    #[serde(rename = "DRAM")]
    Dram,
}

impl Roof {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Roof::Fma => "FMA",
            Roof::L1 => "L1",
            Roof::L2 => "L2",
            Roof::L3 => "L3",
            Roof::Dram => "DRAM",
        }
    }
}

/// How fast one thing is, beside how fast it could be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it belongs to.
    pub section: Section,
    /// What was run.
    pub name: String,
    /// On how many threads.
    pub threads: usize,
    /// How often it was timed.
    pub runs: usize,
    /// Seconds of the median run.
    pub median_s: f64,
    /// Seconds of the fastest run.
    pub best_s: f64,
    /// Useful floating-point operations of a run, or bytes that it has to move.
    pub work: f64,
    /// What limits it.
    pub roof: Roof,
    /// That limit, measured beside it, in 10⁹ operations or bytes a second.
    pub roof_rate: f64,
    /// The part of the limit that the median run reached.
    pub fraction: f64,
    /// The part of the limit that the fastest run reached.
    pub best_fraction: f64,
    /// The part of the limit that this should reach on one thread or two.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aim: Option<f64>,
    /// Tokens trained on or drawn, a second.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens_per_s: Option<f64>,
    /// Bytes of memory that a process needed at most which did nothing else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peak_bytes: Option<u64>,
}

impl Figure {
    /// `times` of `work` operations or bytes each, under a `roof` of `roof_rate` · 10⁹ a second.
    fn new(
        section: Section,
        name: impl Into<String>,
        threads: usize,
        times: Times,
        work: f64,
        (roof, roof_rate): (Roof, f64),
    ) -> Figure {
        let Times { runs, median_s, best_s } = times;
        let fraction = |seconds: f64| work / seconds * 1e-9 / roof_rate;
        let (fraction, best_fraction) = (fraction(median_s), fraction(best_s));
        let name = name.into();
        let (aim, tokens_per_s, peak_bytes) = (None, None, None);
        Figure {
            section,
            name,
            threads,
            runs,
            median_s,
            best_s,
            work,
            roof,
            roof_rate,
            fraction,
            best_fraction,
            aim,
            tokens_per_s,
            peak_bytes,
        }
    }

    /// What the median run does, in 10⁹ operations or bytes a second.
    pub fn rate(&self) -> f64 {
        self.work / self.median_s * 1e-9
    }
}

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
struct Times {
    runs: usize,
    median_s: f64,
    best_s: f64,
}

/// Seconds that a clock is read after, at least: shorter runs are timed several at once.
const TICK: f64 = 50e-6;

/// Times `run`, which has some of its work done by a first one: caches fill, memory is asked for.
fn time(effort: &Effort, mut run: impl FnMut()) -> Times {
    let mut timed = |runs: usize| {
        let start = Instant::now();
        (0..runs).for_each(|_| run());
        start.elapsed().as_secs_f64() / runs as f64
    };
    let first = timed(1);
    if first > effort.patience {
        return Times { runs: 1, median_s: first, best_s: first };
    }
    let (begin, second) = (Instant::now(), timed(1));
    let at_once = (TICK / second.max(1e-9)).ceil().max(1.0) as usize;
    let mut times = if at_once == 1 { vec![second] } else { Vec::new() };
    while times.len() < effort.runs || begin.elapsed().as_secs_f64() < effort.seconds {
        times.push(timed(at_once));
    }
    times.sort_by(f64::total_cmp);
    Times { runs: times.len() * at_once, median_s: times[times.len() / 2], best_s: times[0] }
}

/// Runs `f` on a pool of so many threads, as training does: entering the pool would be measured with every call.
fn on_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    if threads == rayon::current_num_threads() && rayon::current_thread_index().is_some() {
        return f();
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.expect("the system has threads to give").install(f)
}

/// The aim for so many threads, where there is one.
fn aim_for(threads: usize, aims: [Option<f64>; 2]) -> Option<f64> {
    threads.checked_sub(1).and_then(|i| aims.get(i).copied().flatten())
}
