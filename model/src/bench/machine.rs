//! The limits of this machine.

use std::fs;

use serde::Serialize;
use weft_tensor::peak::{fma_gflops, read_gbps, update_gbps};
use weft_tensor::simd;

use super::Roof;

/// A level of memory.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Which.
    pub roof: Roof,
    /// Bytes that it holds: for each core, or for all in the third level and the main memory.
    capacity: usize,
    /// All cores have it together.
    is_shared: bool,
    /// Bytes that fit in well, or that are too many for the level before.
    sample: usize,
}

impl Level {
    /// The levels of this machine, the fastest first.
    ///
    /// Where the system does not tell the sizes of the caches (only Linux does here) they are taken to be common ones.
    pub fn all() -> Vec<Level> {
        let caches = caches().unwrap_or_else(|| vec![(1, 32 << 10), (2, 1 << 20), (3, 32 << 20)]);
        let last = caches.last().map_or(0, |(_, capacity)| *capacity);
        let cache = |(level, capacity): (u32, usize)| {
            let (roof, sample) = match level {
                1 => (Roof::L1, capacity / 2),
                2 => (Roof::L2, capacity / 2),
                _ => (Roof::L3, capacity / 4),
            };
            Level { roof, capacity, is_shared: level > 2, sample }
        };
        let dram = Level {
            roof: Roof::Dram,
            capacity: usize::MAX,
            is_shared: true,
            sample: (4 * last).clamp(256 << 20, 512 << 20),
        };
        caches.into_iter().map(cache).chain([dram]).collect()
    }

    /// The level called `roof`, or the next one.
    pub(super) fn find(roof: Roof) -> Level {
        let levels = Level::all();
        *levels.iter().find(|level| level.roof as u8 >= roof as u8).unwrap_or(&levels[levels.len() - 1])
    }

    /// The first level that holds so many bytes if `threads` threads share them out evenly.
    pub(crate) fn holding(bytes: f64, threads: usize) -> Level {
        let levels = Level::all();
        let holds = |level: &Level| {
            let cores = if level.is_shared { 1.0 } else { threads as f64 };
            bytes <= level.capacity as f64 * cores
        };
        *levels.iter().find(|level| holds(level)).unwrap_or(&levels[levels.len() - 1])
    }

    /// Bytes of a buffer that lies in this level, for each of so many threads.
    pub(super) fn bytes(&self, threads: usize) -> usize {
        if self.is_shared {
            // Each part must be too much for the level before: some megabytes.
            (self.sample / threads).max(4 << 20)
        } else {
            self.sample
        }
    }

    /// Gigabytes per second that `threads` threads read.
    pub(super) fn read_gbps(&self, threads: usize) -> f64 {
        read_gbps(threads, self.bytes(threads))
    }

    /// Gigabytes per second that `threads` threads read and write in place, both counted.
    pub(crate) fn update_gbps(&self, threads: usize) -> f64 {
        update_gbps(threads, self.bytes(threads))
    }
}

/// Level and size in bytes of each data cache of the first core, as Linux tells it.
fn caches() -> Option<Vec<(u32, usize)>> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    let mut caches = Vec::new();
    for index in 0.. {
        let read = |file: &str| fs::read_to_string(format!("{folder}/index{index}/{file}")).ok();
        let Some(level) = read("level") else { break };
        if read("type")?.trim() != "Instruction" {
            let kib: usize = read("size")?.trim().strip_suffix('K')?.parse().ok()?;
            caches.push((level.trim().parse().ok()?, kib << 10));
        }
    }
    caches.sort_unstable();
    (!caches.is_empty()).then_some(caches)
}

/// The limits of this machine on some numbers of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// What the system calls the processor.
    pub processor: String,
    /// The instruction set of the kernels.
    pub simd: &'static str,
    /// For each number of threads.
    pub roofs: Vec<Roofs>,
}

/// The limits of so many threads.
#[derive(Clone, Debug, Serialize)]
pub struct Roofs {
    /// How many.
    pub threads: usize,
    /// Fused multiply-adds of 32-bit floats, two operations each, in 10⁹ operations a second.
    pub fma_gflops: f64,
    /// The levels of memory, the fastest first.
    pub levels: Vec<Bandwidth>,
}

/// The bandwidth of a level of memory.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bandwidth {
    /// Which.
    pub level: Roof,
    /// Bytes of the buffer that each thread had.
    pub bytes: usize,
    /// Reading, in 10⁹ bytes a second.
    pub read_gbps: f64,
    /// Reading and writing in place, both counted.
    pub update_gbps: f64,
}

impl Machine {
    /// Measures the limits on each of these numbers of threads.
    pub fn measure(threads: &[usize]) -> Machine {
        let roofs = |&threads: &usize| Roofs {
            threads,
            fma_gflops: fma_gflops(threads),
            levels: Level::all()
                .iter()
                .map(|level| Bandwidth {
                    level: level.roof,
                    bytes: level.bytes(threads),
                    read_gbps: level.read_gbps(threads),
                    update_gbps: level.update_gbps(threads),
                })
                .collect(),
        };
        Machine {
            processor: processor(),
            simd: simd::level().name(),
            roofs: threads.iter().map(roofs).collect(),
        }
    }

    /// How fast so many threads read and write in place in the level called `roof`, in 10⁹ bytes a second.
    pub(super) fn update_gbps(&self, threads: usize, roof: Roof) -> f64 {
        let roofs = self.roofs.iter().find(|roofs| roofs.threads == threads);
        let level = roofs.and_then(|roofs| roofs.levels.iter().find(|at| at.level == roof));
        level.map_or_else(|| Level::find(roof).update_gbps(threads), |level| level.update_gbps)
    }
}

/// What the system calls the processor.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}
