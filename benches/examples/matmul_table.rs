//! Prints which part of the FMA peak our matrix product reaches, and `gemm`, `matrixmultiply` and `faer` beside it.
//!
//! `cargo run --release -p weft-benches --example matmul_table -- [--seconds S] [m,n,k …]`, on `RAYON_NUM_THREADS` threads,
//! or else first on one, then on two. The four take turns within each round of about a millisecond or one product, so that
//! whatever else the machine does falls on all of them; the medians of the rounds are shown, and the peak of the same seconds.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::time::Instant;

use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes::{PRODUCTS, Product};
use weft_peers::{Peer, at_each_thread_count};
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, matmul};
use weft_tensor::peak::fma_gflops;
use weft_tensor::simd;

/// Seconds of a shape and number of threads, at least.
const SECONDS: f64 = 1.2;

/// Rounds, at least.
const ROUNDS: usize = 5;

/// Operations of a product that is timed alone; shorter ones are timed several at once.
const OPERATIONS: f64 = 1e8;

/// Who multiplies; `None` is this workspace.
const SIDES: [Option<Peer>; 4] = [None, Some(Peer::Gemm), Some(Peer::Matrixmultiply), Some(Peer::Faer)];

/// Roundings of a sum of a thousand or two products of numbers below 1, in f32, in an order that each chooses.
const TOLERANCE: f64 = 1e-3;

/// The FMA peak, and what each of `SIDES` reaches in the median, in GFLOP/s.
fn measure(threads: usize, seconds: f64, (m, n, k): (usize, usize, usize)) -> (f64, [f64; SIDES.len()]) {
    let (a, b) = (numbers(m * k), numbers(k * n));
    let mut results = SIDES.map(|_| numbers(m * n));
    let operations = 2.0 * (m * n * k) as f64;
    let runs = (OPERATIONS / operations).ceil() as usize;
    let mut time = |side: usize, runs: usize| {
        let c = &mut results[side];
        let start = Instant::now();
        for _ in 0..runs {
            match SIDES[side] {
                None => {
                    let c = MatMut::new(c, m, n);
                    matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), c, Epilogue::default());
                }
                Some(peer) => peer.multiply(threads, (m, n, k), &a, &b, c),
            }
        }
        start.elapsed().as_secs_f64() / runs as f64
    };
    (0..SIDES.len()).for_each(|side| _ = time(side, 1));
    let before = fma_gflops(threads);
    let (begin, mut times) = (Instant::now(), SIDES.map(|_| Vec::new()));
    for round in 0.. {
        if round >= ROUNDS && begin.elapsed().as_secs_f64() > seconds {
            break;
        }
        for turn in 0..SIDES.len() {
            let side = (round + turn) % SIDES.len();
            times[side].push(time(side, runs));
        }
    }
    let peak = before.max(fma_gflops(threads));
    for (side, c) in SIDES.iter().zip(&results) {
        for (i, j) in [(0, 0), (m / 2, n / 3), (m - 1, n - 1)] {
            let wanted = (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j])).sum();
            assert_close(side.map_or("weft", Peer::name), c[i * n + j], wanted, TOLERANCE);
        }
    }
    let rates = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        operations / times[times.len() / 2] * 1e-9
    });
    (peak, rates)
}

fn table(threads: usize, seconds: f64, shapes: &[(usize, usize, usize)]) {
    println!("{} on {threads} threads: % of the FMA peak, median", simd::level().name());
    println!(
        "| m × n × k | peak, GFLOP/s | weft | gemm | matrixmultiply | faer | fastest | weft / best peer |"
    );
    println!("|---|---:|---:|---:|---:|---:|---|---:|");
    let mut ahead = 0;
    for &(m, n, k) in shapes {
        let (peak, rates) = measure(threads, seconds, (m, n, k));
        let fastest = (0..SIDES.len()).max_by(|&i, &j| rates[i].total_cmp(&rates[j])).unwrap_or(0);
        let best_peer = rates[1..].iter().copied().fold(0.0, f64::max);
        ahead += usize::from(fastest == 0);
        print!("| {m} × {n} × {k} | {peak:.0} |");
        rates.iter().for_each(|rate| print!(" {:.1} |", 100.0 * rate / peak));
        println!(" {} | {:.2} |", SIDES[fastest].map_or("weft", Peer::name), rates[0] / best_peer);
    }
    println!("weft is the fastest in {ahead} of {} rows\n", shapes.len());
}

fn main() {
    let (mut seconds, mut shapes) = (SECONDS, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let numbers: Vec<usize> = argument.split(',').filter_map(|word| word.parse().ok()).collect();
        match (argument.as_str(), &numbers[..]) {
            ("--seconds", _) => {
                seconds = arguments.next().and_then(|s| s.parse().ok()).expect("a number of seconds")
            }
            (_, &[m, n, k]) => shapes.push((m, n, k)),
            _ => panic!("usage: matmul_table [--seconds S] [m,n,k …]"),
        }
    }
    if shapes.is_empty() {
        shapes.extend(PRODUCTS.map(|Product { m, n, k, .. }| (m, n, k)));
    }
    at_each_thread_count(|threads| rayon::scope(|_| table(threads, seconds, &shapes)));
}
