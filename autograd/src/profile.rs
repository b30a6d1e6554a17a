//! Where the time goes, by op: what a [`Pool`](crate::Pool) counts for its tapes if it was asked to.

use std::cell::Cell;
use std::time::{Duration, Instant};

use weft_tensor::Shape;

/// What an op owes the machine in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Floating-point operations: it is bounded by arithmetic.
    Flops(usize),
    /// Numbers to read and to write: it is bounded by memory.
    Numbers(usize),
}

impl Work {
    /// One visit to each tensor and direction: forward reads the inputs and writes `y`; backward reads the inputs and the gradient
    /// of `y` and writes those of the inputs.
    pub(crate) fn passing_over(inputs: &[&Shape], y: &Shape) -> [Work; 2] {
        let n: usize = inputs.iter().map(|shape| shape.elements()).sum();
        [Work::Numbers(n + y.elements()), Work::Numbers(2 * n + y.elements())]
    }
}

/// The calls of one op in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The op's name.
    pub name: &'static str,
    /// In the walk back, whatever computes there.
    pub backward: bool,
    /// How many.
    pub calls: u64,
    /// How long they took together, on the threads that called.
    pub time: Duration,
    /// Useful floating-point operations, of an op that is bounded by them.
    pub flops: u64,
    /// Bytes that have to be read or written, of an op that is bounded by that.
    pub bytes: u64,
}

/// The calls of all ops, in the order of their first.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    entries: Vec<Entry>,
}

thread_local! {
    /// Time of all ops on this thread. A thread that waits for others within an op may take over a whole part of somebody
    /// else's work; what that counts for itself is not counted again.
    static COUNTED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl Profile {
    /// The entries, each name and direction once.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds the entries of another profile.
    pub fn merge(&mut self, other: &Profile) {
        for entry in &other.entries {
            let sum = self.entry(entry.name, entry.backward);
            sum.calls += entry.calls;
            sum.time += entry.time;
            sum.flops += entry.flops;
            sum.bytes += entry.bytes;
        }
    }

    /// Runs `f`; returns how long this took without other ops that were counted meanwhile.
    pub(crate) fn time(f: impl FnOnce()) -> Duration {
        let (before, start) = (COUNTED.get(), Instant::now());
        f();
        let time = start.elapsed();
        let within = COUNTED.get() - before;
        COUNTED.set(before + time);
        time.saturating_sub(within)
    }

    /// Counts a call on numbers of `size` bytes.
    pub(crate) fn count(
        &mut self,
        name: &'static str,
        backward: bool,
        time: Duration,
        work: Work,
        size: usize,
    ) {
        let entry = self.entry(name, backward);
        entry.calls += 1;
        entry.time += time;
        match work {
            Work::Flops(n) => entry.flops += n as u64,
            Work::Numbers(n) => entry.bytes += (n * size) as u64,
        }
    }

    fn entry(&mut self, name: &'static str, backward: bool) -> &mut Entry {
        let found = self.entries.iter().position(|entry| entry.name == name && entry.backward == backward);
        let at = found.unwrap_or_else(|| {
            self.entries.push(Entry { name, backward, calls: 0, time: Duration::ZERO, flops: 0, bytes: 0 });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }
}
