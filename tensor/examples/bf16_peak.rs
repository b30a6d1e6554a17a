//! Prints how fast products rounded to bf16 are beside those of `f32`, for the shapes of training steps.
//!
//! `cargo run --release -p weft-tensor --example bf16_peak -- [THREADS]`
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::time::Instant;

use weft_tensor::Buffer;
use weft_tensor::kernels::gemm::*;
use weft_tensor::peak::fma_gflops;

/// Products of `baby` and `gpt2`: forward (B transposed), the input's gradient, the weight's gradient (A transposed).
const SHAPES: [(usize, usize, usize, [bool; 2]); 10] = [
    (512, 1536, 384, [false, true]),
    (512, 384, 1536, [false, true]),
    (512, 384, 1536, [false, false]),
    (512, 1536, 384, [false, false]),
    (1536, 384, 512, [true, false]),
    (384, 1536, 512, [true, false]),
    (256, 3072, 768, [false, true]),
    (256, 50257, 768, [false, true]),
    (256, 768, 50257, [false, false]),
    (50257, 768, 256, [true, false]),
];

/// Seconds that one product is measured for, at least.
const SECONDS: f64 = 0.4;

/// GFLOP/s of the median run.
fn rate(flops: f64, mut run: impl FnMut()) -> f64 {
    let mut rates = Vec::new();
    let begin = Instant::now();
    while rates.len() < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        run();
        rates.push(flops / start.elapsed().as_secs_f64() * 1e-9);
    }
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    println!("{threads} threads, in % of the FMA peak of f32; the instruction: {}", has_bf16());
    println!("{:>20}  {:>8} {:>6} {:>6} {:>6}  bf16 / f32", "m × n × k", "GFLOP/s", "f32", "bf16", "packed");
    for (m, n, k, [a_t, b_t]) in SHAPES {
        let numbers = |len: usize| {
            let mut buffer = Buffer::<f32>::zeros(len);
            buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 * 0.1 - 0.8);
            buffer
        };
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
        let a = if a_t { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
        let b = if b_t { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
        let mut packed = Buffer::zeros(packed_bf16_len(k, n));
        pack_bf16_into(b, &mut packed);
        let packed = PackedBf16::new(&packed, k, n);
        let flops = 2.0 * (m * n * k) as f64;
        let end = Epilogue::default;
        let rates = pool.install(|| {
            [
                rate(flops, || matmul(a, b, MatMut::new(&mut c, m, n), end())),
                rate(flops, || matmul_bf16(a, b, MatMut::new(&mut c, m, n), end())),
                rate(flops, || matmul_packed_bf16(a, packed, MatMut::new(&mut c, m, n), end())),
            ]
        });
        let peak = fma_gflops(threads);
        let [f32, bf16, packed] = rates.map(|rate| 100.0 * rate / peak);
        let name = format!("{m}×{n}×{k}");
        println!(
            "{name:>20}  {peak:>8.1} {f32:>6.0} {bf16:>6.0} {packed:>6.0}  {:.2}, {:.2}",
            bf16 / f32,
            packed / f32
        );
    }
}
