//! Prints how much of the FMA peak, measured beside it, causal attention of typical shapes reaches, best and median, and
//! how long one new row over a cache takes.
//!
//! `cargo run --release -p weft-tensor --example attention_peak -- [THREADS] [b,h,t,d …] [decode]`
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::time::Instant;

use weft_tensor::kernels::attention::{Attention, attention, attention_backward, attention_decode};
use weft_tensor::peak::fma_gflops;
use weft_tensor::{Buffer, Grad, simd};

/// B, H, T, D of the models that train here, and of two long contexts.
const SHAPES: [[usize; 4]; 6] =
    [[32, 4, 16, 16], [12, 4, 64, 32], [4, 12, 64, 64], [8, 6, 256, 64], [1, 12, 1024, 64], [1, 8, 4096, 64]];

/// B, H, the rows in the cache, D: one name, many names, and larger models with a full context.
const DECODED: [[usize; 4]; 6] =
    [[1, 4, 8, 16], [16, 4, 8, 16], [64, 4, 8, 16], [1, 4, 63, 32], [1, 6, 255, 64], [1, 12, 1023, 64]];

/// Seconds that one function is measured for, at least.
const SECONDS: f64 = 0.3;

fn numbers(len: usize) -> Buffer<f32> {
    let mut buffer = Buffer::zeros(len);
    buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 * 0.1 - 0.8);
    buffer
}

fn sizes(batch: usize, n_head: usize, seq_len: usize, head_size: usize) -> Attention {
    let scale = 1.0 / (head_size as f64).sqrt();
    Attention { batch, seq_len, n_head, n_kv_head: n_head, head_size, scale }
}

/// Seconds of the best and the median call, of which `runs` are measured at a time.
fn measure(runs: usize, mut f: impl FnMut()) -> (f64, f64) {
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        (0..runs).for_each(|_| f());
        times.push(start.elapsed().as_secs_f64() / runs as f64);
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

/// Best and median seconds of the forward and of the backward pass.
fn forward_and_backward(a: Attention) -> [(f64, f64); 2] {
    let (qkv, dy) = (numbers(a.qkv_len()), numbers(a.y_len()));
    let (mut y, mut lse, mut dqkv) = (numbers(a.y_len()), numbers(a.lse_len()), numbers(a.qkv_len()));
    let forward = measure(1, || attention(a, &qkv, &mut y, &mut lse));
    let backward = measure(1, || {
        attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut dqkv, add: false });
    });
    [forward, backward]
}

/// Best and median seconds of one new row of each sequence behind `past` in the cache.
fn decode(a: Attention, past: usize) -> (f64, f64) {
    let (qkv, mut y) = (numbers(a.qkv_len()), numbers(a.y_len()));
    let capacity = past + 1;
    let (mut k, mut v) = (numbers(a.cache_len(capacity)), numbers(a.cache_len(capacity)));
    let past = vec![past; a.batch];
    measure(16, || attention_decode(a, &past, capacity, &qkv, &mut k, &mut v, &mut y))
}

fn main() {
    let (mut threads, mut decodes) = (1, false);
    let mut shapes = Vec::new();
    for arg in std::env::args().skip(1) {
        let numbers: Vec<usize> = arg.split(',').filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [n] => threads = n,
            [b, h, t, d] => shapes.push([b, h, t, d]),
            _ => decodes = arg == "decode",
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    println!("{} on {threads} threads, best / median", simd::level().name());
    if decodes {
        println!("{:>18}  {:>17}", "B, H, rows, D", "µs for a new row");
        for [b, h, past, d] in if shapes.is_empty() { DECODED.to_vec() } else { shapes } {
            let (best, median) = pool.install(|| decode(sizes(b, h, 1, d), past));
            println!("{:>18}  {:>7.2} / {:>7.2}", format!("{b}, {h}, {past}, {d}"), 1e6 * best, 1e6 * median);
        }
        return;
    }
    println!(
        "{:>18}  {:>7}  {:>31}  {:>31}",
        "B, H, T, D", "GFLOP/s", "forward: % of peak, ms", "backward: % of peak, ms"
    );
    for [b, h, t, d] in if shapes.is_empty() { SHAPES.to_vec() } else { shapes } {
        let mut peak = fma_gflops(threads);
        let times = pool.install(|| forward_and_backward(sizes(b, h, t, d)));
        peak = peak.max(fma_gflops(threads));
        print!("{:>18}  {peak:>7.1}", format!("{b}, {h}, {t}, {d}"));
        for ((best, median), flops) in times.into_iter().zip([4, 10]) {
            let work = (flops * d * b * h * t * (t + 1) / 2) as f64;
            let percent = |seconds: f64| 100.0 * work / seconds * 1e-9 / peak;
            print!(
                "  {:>4.1} / {:>4.1}  {:>7.3} / {:>7.3}",
                percent(best),
                percent(median),
                1e3 * best,
                1e3 * median
            );
        }
        println!();
    }
}
