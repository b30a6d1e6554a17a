//! Prints how much of the FMA peak, measured beside it, matrix products of typical shapes reach: best and median.
//!
//! `cargo run --release -p weft-tensor --example gemm_peak -- [THREADS] [packed] [m,n,k …]`
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::time::Instant;

use weft_tensor::Buffer;
use weft_tensor::kernels::gemm::{
    Epilogue, Mat, MatMut, Packed, matmul, matmul_packed, pack_into, packed_len,
};
use weft_tensor::peak::fma_gflops;
use weft_tensor::simd;

/// Sizes of a small transformer's products and of square ones.
const SHAPES: [(usize, usize, usize); 22] = [
    (16, 16, 16),
    (32, 32, 32),
    (64, 64, 64),
    (128, 128, 128),
    (256, 256, 256),
    (384, 384, 384),
    (512, 512, 512),
    (768, 768, 768),
    (1000, 1000, 1000),
    (1024, 1024, 1024),
    (1536, 1536, 1536),
    (2048, 2048, 2048),
    (768, 128, 512),
    (768, 512, 128),
    (512, 192, 64),
    (512, 64, 256),
    (64, 192, 512),
    (4096, 384, 1536),
    (4096, 1536, 384),
    (256, 50257, 768),
    (1, 1024, 1024),
    (1, 8192, 4096),
];

/// Seconds that one shape is measured for, at least.
const SECONDS: f64 = 0.3;

/// How the operands lie.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    Packed,
    ATransposed,
    BTransposed,
}

/// GFLOP/s of the best and the median run.
fn measure(form: Form, (m, n, k): (usize, usize, usize)) -> (f64, f64) {
    let numbers = |len: usize| {
        let mut buffer = Buffer::<f32>::zeros(len);
        buffer.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 17) as f32 * 0.1 - 0.8);
        buffer
    };
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
    let a = if let Form::ATransposed = form { Mat::new(&a, k, m).t() } else { Mat::new(&a, m, k) };
    let b = if let Form::BTransposed = form { Mat::new(&b, n, k).t() } else { Mat::new(&b, k, n) };
    let mut packed = Buffer::zeros(packed_len(k, n));
    pack_into(b, &mut packed);
    let flops = 2.0 * (m * n * k) as f64;
    // Short products are measured several at a time.
    let runs = (2e6 / flops).ceil() as usize;
    let mut rates = Vec::new();
    let begin = Instant::now();
    while rates.len() < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        for _ in 0..runs {
            let c = MatMut::new(&mut c, m, n);
            match form {
                Form::Packed => matmul_packed(a, Packed::new(&packed, k, n), c, Epilogue::default()),
                _ => matmul(a, b, c, Epilogue::default()),
            }
        }
        rates.push(runs as f64 * flops / start.elapsed().as_secs_f64() * 1e-9);
    }
    rates.sort_by(f64::total_cmp);
    (rates[rates.len() - 1], rates[rates.len() / 2])
}

fn main() {
    let mut threads = 1;
    let (mut packed, mut shapes) = (false, Vec::new());
    for arg in std::env::args().skip(1) {
        let numbers: Vec<usize> = arg.split(',').filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [n] => threads = n,
            [m, n, k] => shapes.push((m, n, k)),
            _ => packed = arg == "packed",
        }
    }
    if shapes.is_empty() {
        shapes.extend(SHAPES);
    }
    let forms: &[(&str, Form)] = if packed {
        &[("B packed once", Form::Packed)]
    } else {
        &[("A·B", Form::Plain), ("Aᵀ·B", Form::ATransposed), ("A·Bᵀ", Form::BTransposed)]
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    println!("{} on {threads} threads: % of peak, best / median", simd::level().name());
    print!("{:>18}  {:>8}", "m × n × k", "GFLOP/s");
    forms.iter().for_each(|(name, _)| print!("  {name:>13}"));
    println!();
    for shape in shapes {
        let mut peak = fma_gflops(threads);
        let rates: Vec<_> = forms.iter().map(|(_, form)| pool.install(|| measure(*form, shape))).collect();
        peak = peak.max(fma_gflops(threads));
        let (m, n, k) = shape;
        print!("{:>18}  {peak:>8.1}", format!("{m}×{n}×{k}"));
        for (best, median) in rates {
            print!("  {:>5.0} / {:>5.0}", 100.0 * best / peak, 100.0 * median / peak);
        }
        println!();
    }
}
