//! The speed limit of this machine, measured: what the speed of a kernel is a fraction of.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use crate::dispatch;
use crate::simd::{LANES, Level, Simd, level};

/// Fused multiply-adds of one vector each in a measurement: about a millisecond.
const LENGTH: usize = 1 << 21;

/// The same at the scalar level, which may have to call a function for each.
const SCALAR_LENGTH: usize = 1 << 15;

/// Measurements of which the best counts.
const REPEATS: usize = 12;

/// Fused multiply-adds per second of `threads` threads together at the current SIMD level, times 2, in GFLOP/s: the
/// best of several runs of a millisecond.
pub fn fma_gflops(threads: usize) -> f64 {
    let threads = threads.max(1);
    let barrier = Barrier::new(threads);
    let length = if level() == Level::Scalar { SCALAR_LENGTH } else { LENGTH };
    let measure = || {
        let mut rates = [0.0; REPEATS];
        for rate in &mut rates {
            barrier.wait();
            let start = Instant::now();
            black_box(fma_chains(black_box(length), black_box(0.5f32)));
            *rate = (2 * length * LANES) as f64 / start.elapsed().as_secs_f64() * 1e-9;
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
