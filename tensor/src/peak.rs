//! The speed limits of this machine, measured: what the speed of a kernel is a fraction of.
//!
//! Arithmetic owes the rate of fused multiply-adds, everything else the bandwidth of the memory that its data lies in:
//! a buffer of 24 KiB lies in the first-level cache, one of 512 KiB in the second, one of 256 MiB in the
//! DRAM.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use crate::simd::{LANES, Level, Simd, level};
use crate::{Buffer, dispatch};

/// Fused multiply-adds of one vector each in a measurement: about a millisecond.
const LENGTH: usize = 1 << 21;

/// The same at the scalar level, which may have to call a function for each.
const SCALAR_LENGTH: usize = 1 << 15;

/// Bytes that pass in a measurement of bandwidth, if the buffer is not larger: a millisecond or a few.
const TRAFFIC: usize = 64 << 20;

/// Measurements of which the best counts.
const REPEATS: usize = 12;

/// Fused multiply-adds per second of `threads` threads together at the current SIMD level, times 2, in GFLOP/s: the
/// best of several runs of a millisecond.
pub fn fma_gflops(threads: usize) -> f64 {
    let length = if level() == Level::Scalar { SCALAR_LENGTH } else { LENGTH };
    let flops = 2 * length * LANES;
    best_rate(
        threads,
        flops,
        || (),
        |()| {
            black_box(fma_chains(black_box(length), black_box(0.5f32)));
        },
    )
}

/// Gigabytes per second that `threads` threads together read, each its own buffer of `bytes` from end to end: the best
/// of several runs.
pub fn read_gbps(threads: usize, bytes: usize) -> f64 {
    let sweeps = TRAFFIC.div_ceil(bytes.max(1));
    best_rate(
        threads,
        sweeps * bytes,
        || numbers(bytes),
        |buffer| {
            for _ in 0..sweeps {
                let x: &[f32] = black_box(&*buffer);
                black_box(sum(x));
            }
        },
    )
}

/// Gigabytes per second that `threads` threads together read and write, both counted, when each updates its own buffer
/// of `bytes` in place: the best of several runs.
pub fn update_gbps(threads: usize, bytes: usize) -> f64 {
    let sweeps = TRAFFIC.div_ceil(2 * bytes.max(1));
    best_rate(
        threads,
        2 * sweeps * bytes,
        || numbers(bytes),
        |buffer| {
            for _ in 0..sweeps {
                update(black_box(0.5f32), black_box(0.5), black_box(&mut *buffer));
            }
        },
    )
}

/// A buffer of `bytes` that is not zeros.
fn numbers(bytes: usize) -> Buffer<f32> {
    let mut buffer = Buffer::zeros(bytes / size_of::<f32>());
    buffer.fill(1.0);
    buffer
}

/// 10⁻⁹ of the `units` per second that `threads` threads together do when each does `run`, which is so many, on what
/// `prepare` made for it: all begin together, and the best of several times counts.
fn best_rate<S>(
    threads: usize,
    units: usize,
    prepare: impl Fn() -> S + Sync,
    run: impl Fn(&mut S) + Sync,
) -> f64 {
    let threads = threads.max(1);
    let barrier = Barrier::new(threads);
    let measure = || {
        let mut state = prepare();
        let mut rates = [0.0; REPEATS];
        for rate in &mut rates {
            barrier.wait();
            let start = Instant::now();
            run(&mut state);
            *rate = units as f64 / start.elapsed().as_secs_f64() * 1e-9;
        }
        rates
    };
    let rates: Vec<[f64; REPEATS]> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(measure)).collect();
        let mine = measure();
        let others = others.into_iter().map(|thread| thread.join().expect("a measurement does not panic"));
        std::iter::once(mine).chain(others).collect()
    });
    (0..REPEATS).map(|i| rates.iter().map(|of_thread| of_thread[i]).sum()).fold(0.0, f64::max)
}

dispatch! {
    /// About `length` fused multiply-adds in independent chains; returns their sum, so that none can be left out.
    fn fma_chains<T>(length: usize, x: T) -> T = fma_chains_on

    /// The sum of whole groups of vectors: nothing but loads, as many under way as there can be.
    fn sum<T>(x: &[T]) -> T = sum_on

    /// y = a · y + b.
    fn update<T>(a: T, b: T, y: &mut [T]) = update_on
}

#[inline(always)]
fn fma_chains_on<S: Simd>(simd: S, length: usize, x: S::T) -> S::T {
    // As many registers as the tile of a matrix product; fewer chains would wait for their own results.
    match S::TILE_ROWS * S::TILE_VECTORS {
        28 => chains::<S, 24>(simd, length, x),
        6 => chains::<S, 6>(simd, length, x),
        _ => chains::<S, 4>(simd, length, x),
    }
}

#[inline(always)]
fn chains<S: Simd, const N: usize>(simd: S, length: usize, x: S::T) -> S::T {
    // y ← y/2 + 1/2 stays finite and normal.
    let x = simd.splat(x);
    let mut y = [x; N];
    for _ in 0..length / N {
        for y in &mut y {
            *y = simd.mul_add(x, *y, x);
        }
    }
    let mut sum = simd.zero();
    for y in y {
        sum = simd.add(sum, y);
    }
    simd.sum_lanes(sum)
}

#[inline(always)]
fn sum_on<S: Simd>(simd: S, x: &[S::T]) -> S::T {
    let mut sums = [simd.zero(); 8];
    for x in x.as_chunks::<{ 8 * LANES }>().0 {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = simd.add(*sum, simd.load(&x[i * LANES..]));
        }
    }
    let sum = sums.into_iter().fold(simd.zero(), |sum, x| simd.add(sum, x));
    simd.sum_lanes(sum)
}

#[inline(always)]
fn update_on<S: Simd>(simd: S, a: S::T, b: S::T, y: &mut [S::T]) {
    let (a, b) = (simd.splat(a), simd.splat(b));
    for y in y.as_chunks_mut::<{ 4 * LANES }>().0 {
        for y in y.as_chunks_mut::<LANES>().0 {
            let updated = simd.mul_add(a, simd.load(y), b);
            simd.store(y, updated);
        }
    }
}
