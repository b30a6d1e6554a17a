//! Prints how fast the row kernels and the optimiser are, beside the bandwidth of the memory their data lies in.
//!
//! `cargo run --release -p weft-tensor --example row_peak -- [NAME …]` for the kernels whose names contain one of the words
#![expect(clippy::print_stdout, reason = "the table is the product")]

use std::time::Instant;

use weft_tensor::kernels::activation::{
    Activation, Unary, activation, activation_backward, activation_backward_with_value, unary,
};
use weft_tensor::kernels::cross_entropy::{cross_entropy, cross_entropy_backward, cross_entropy_in_place};
use weft_tensor::kernels::dropout::dropout;
use weft_tensor::kernels::elementwise::axpy;
use weft_tensor::kernels::embedding::{embedding, embedding_backward};
use weft_tensor::kernels::gradient::sum_of_squares;
use weft_tensor::kernels::norm::{column_sums, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
use weft_tensor::kernels::optimizer::{AdamW, Stretch, adamw};
use weft_tensor::kernels::softmax::{log_softmax, softmax, softmax_backward};
use weft_tensor::peak::{fma_gflops, read_gbps, update_gbps};
use weft_tensor::random::{Key, Purpose};
use weft_tensor::{Buffer, Grad, simd};

/// Bytes that a kernel touches when its data is to stay in the second-level cache.
const CACHE: usize = 512 << 10;
/// Bytes that a kernel touches when its data is to come from the DRAM.
const DRAM: usize = 128 << 20;
/// Seconds that one kernel is measured for, at least.
const SECONDS: f64 = 0.08;

/// A kernel on data of its own; `Run` makes it anew for a number of bytes to touch.
struct Kernel {
    name: &'static str,
    /// Numbers read and written for each number of x.
    touched: usize,
    /// Whether it writes as much as it reads, or next to nothing.
    writes: bool,
    /// Widths of a row to measure.
    cols: &'static [usize],
    make: fn(rows: usize, cols: usize) -> Box<dyn FnMut() + Send>,
}

/// Numbers of order one without a pattern that a kernel could profit from.
fn numbers(len: usize) -> Buffer<f32> {
    let mut buffer = Buffer::zeros(len);
    for (i, x) in buffer.iter_mut().enumerate() {
        *x = (i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 4.0 - 2.0;
    }
    buffer
}

/// `n` ids below `below`, all over the place.
fn ids(n: usize, below: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i.wrapping_mul(2_654_435_761) % below as u32).collect()
}

/// A gradient to overwrite.
fn grad(data: &mut Buffer<f32>) -> Grad<'_, f32> {
    Grad { data, add: false }
}

const ADAMW: AdamW =
    AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, step: 10, grad_scale: 0.5 };

fn kernels() -> Vec<Kernel> {
    let kernel = |name, touched, writes, cols, make| Kernel { name, touched, writes, cols, make };
    vec![
        kernel("layer norm", 2, true, &[64, 128, 384, 768], |rows, cols| {
            let (x, w, b) = (numbers(rows * cols), numbers(cols), numbers(cols));
            let (mut y, mut mean, mut rstd) = (numbers(rows * cols), numbers(rows), numbers(rows));
            Box::new(move || layer_norm(&x, &w, Some(&b), 1e-5, &mut y, &mut mean, &mut rstd))
        }),
        kernel("layer norm backward", 3, true, &[64, 128, 384, 768], |rows, cols| {
            let (x, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            let (w, mean, rstd) = (numbers(cols), numbers(rows), numbers(rows));
            let (mut dw, mut db) = (numbers(cols), numbers(cols));
            Box::new(move || {
                let [dx, dw, db] = [&mut dx, &mut dw, &mut db].map(|data| Some(grad(data)));
                layer_norm_backward(&x, &w, &mean, &rstd, &dy, dx, dw, db);
            })
        }),
        kernel("rms norm", 2, true, &[384], |rows, cols| {
            let (x, w, mut y, mut rstd) =
                (numbers(rows * cols), numbers(cols), numbers(rows * cols), numbers(rows));
            Box::new(move || rms_norm(&x, &w, 1e-5, &mut y, &mut rstd))
        }),
        kernel("rms norm backward", 3, true, &[384], |rows, cols| {
            let (x, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            let (w, rstd, mut dw) = (numbers(cols), numbers(rows), numbers(cols));
            Box::new(move || rms_norm_backward(&x, &w, &rstd, &dy, Some(grad(&mut dx)), Some(grad(&mut dw))))
        }),
        kernel("column sums", 1, false, &[64, 512, 3072], |rows, cols| {
            let (x, mut sums) = (numbers(rows * cols), numbers(cols));
            Box::new(move || column_sums(&x, cols, grad(&mut sums)))
        }),
        kernel("cross-entropy in place", 2, true, &[27, 65, 512, 4096, 50257], |rows, cols| {
            let (targets, mut x) = (ids(rows, cols), numbers(rows * cols));
            Box::new(move || {
                cross_entropy_in_place(&mut x, &targets, u32::MAX, 1.0);
            })
        }),
        kernel("cross-entropy", 1, false, &[27, 65, 512, 50257], |rows, cols| {
            let (targets, x, mut lse) = (ids(rows, cols), numbers(rows * cols), numbers(rows));
            Box::new(move || {
                cross_entropy(&x, &targets, u32::MAX, &mut lse);
            })
        }),
        kernel("cross-entropy backward", 2, true, &[27, 65, 512, 50257], |rows, cols| {
            let (targets, x, lse) = (ids(rows, cols), numbers(rows * cols), numbers(rows));
            let mut dx = numbers(rows * cols);
            Box::new(move || cross_entropy_backward(&x, &targets, u32::MAX, &lse, 1.0, grad(&mut dx)))
        }),
        kernel("softmax", 2, true, &[64, 512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || softmax(&x, &mut y, cols))
        }),
        kernel("softmax backward", 3, true, &[512], |rows, cols| {
            let (y, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            Box::new(move || softmax_backward(&y, &dy, grad(&mut dx), cols))
        }),
        kernel("log softmax", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || log_softmax(&x, &mut y, cols))
        }),
        kernel("gelu", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || activation(Activation::GeluTanh, &x, &mut y))
        }),
        kernel("gelu backward", 3, true, &[512], |rows, cols| {
            let (x, dy, mut dx) = (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            Box::new(move || activation_backward(Activation::GeluTanh, &x, &dy, grad(&mut dx)))
        }),
        kernel("gelu backward with value", 4, true, &[512], |rows, cols| {
            let (x, dy, mut dx, mut y) =
                (numbers(rows * cols), numbers(rows * cols), numbers(rows * cols), numbers(rows * cols));
            Box::new(move || {
                activation_backward_with_value(Activation::GeluTanh, &x, &dy, grad(&mut dx), &mut y)
            })
        }),
        kernel("silu", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || activation(Activation::Silu, &x, &mut y))
        }),
        kernel("exp", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Exp, &x, &mut y))
        }),
        kernel("exp2", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Exp2, &x, &mut y))
        }),
        kernel("ln", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Ln, &x, &mut y))
        }),
        kernel("tanh", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Tanh, &x, &mut y))
        }),
        kernel("sigmoid", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Sigmoid, &x, &mut y))
        }),
        kernel("erf", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || unary(Unary::Erf, &x, &mut y))
        }),
        kernel("dropout", 2, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            let key = Key::new(1, Purpose::Dropout, 0, 0);
            Box::new(move || dropout(key, 0.1, &x, grad(&mut y)))
        }),
        kernel("axpy", 3, true, &[512], |rows, cols| {
            let (x, mut y) = (numbers(rows * cols), numbers(rows * cols));
            Box::new(move || axpy(0.5, &x, &mut y))
        }),
        kernel("embedding", 2, true, &[64, 384], |rows, cols| {
            let (ids, table, mut y) = (ids(rows, 65), numbers(65 * cols), numbers(rows * cols));
            Box::new(move || embedding(&ids, &table, cols, None, &mut y))
        }),
        kernel("embedding backward", 1, false, &[64, 384], |rows, cols| {
            let (ids, dy, mut dtable) = (ids(rows, 65), numbers(rows * cols), numbers(65 * cols));
            Box::new(move || embedding_backward(&ids, &dy, cols, grad(&mut dtable)))
        }),
        kernel("norm of 1 part", 1, false, &[512], |rows, cols| {
            let x = numbers(rows * cols);
            Box::new(move || {
                sum_of_squares(&[&*x]);
            })
        }),
        kernel("norm of 4 parts", 4, false, &[512], |rows, cols| {
            let parts = [0; 4].map(|_| numbers(rows * cols));
            Box::new(move || {
                sum_of_squares(&parts.each_ref().map(|part| &**part));
            })
        }),
        kernel("adamw of 1 part", 7, true, &[512], |rows, cols| adamw_of::<1>(rows * cols)),
        kernel("adamw of 2 parts", 8, true, &[512], |rows, cols| adamw_of::<2>(rows * cols)),
        kernel("adamw of 4 parts", 10, true, &[512], |rows, cols| adamw_of::<4>(rows * cols)),
    ]
}

fn adamw_of<const PARTS: usize>(len: usize) -> Box<dyn FnMut() + Send> {
    let (mut p, mut m, mut v) = (numbers(len), numbers(len), numbers(len));
    let parts = [0; PARTS].map(|_| numbers(len));
    let all = [Stretch { range: 0..len, decays: true }];
    Box::new(move || adamw(&ADAMW, &all, &mut p, &parts.each_ref().map(|part| &**part), &mut m, &mut v))
}

/// Seconds of the best and the median call.
fn measure(call: &mut (dyn FnMut() + Send)) -> (f64, f64) {
    call();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    // A vector of sixteen lanes is 32 operations, one a cycle on machines that have a 512-bit multiplier or two of 256.
    let gigahertz = fma_gflops(1) / 32.0;
    println!("{}, one FMA of sixteen lanes at {gigahertz:.2} GHz", simd::level().name());
    let places = [("cache, 1 thread", CACHE, 1), ("DRAM, 1 thread", DRAM, 1), ("DRAM, 2 threads", DRAM, 2)];
    let limits = places.map(|(_, bytes, threads)| (read_gbps(threads, bytes), update_gbps(threads, bytes)));
    println!(
        "{:>31}  GB/s (% of the bandwidth), best / median;  ns per row, cycles per 16 numbers in cache",
        ""
    );
    print!("{:>31}", "read, update in place");
    for ((name, ..), (read, update)) in places.iter().zip(&limits) {
        print!("  {:>22}", format!("{read:.0}, {update:.0} {name}"));
    }
    println!();
    let pools = [1, 2]
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool"));
    for kernel in kernels().iter().filter(|kernel| chosen(kernel.name)) {
        for &cols in kernel.cols {
            let name = format!("{}, {cols}", kernel.name);
            print!("{:>31}", if kernel.cols.len() > 1 { &name } else { kernel.name });
            let mut in_cache = String::new();
            for ((_, bytes, threads), (read, update)) in places.iter().zip(&limits) {
                let rows = (bytes / (4 * kernel.touched * cols)).max(1);
                let mut call = (kernel.make)(rows, cols);
                let (best, median) = pools[threads - 1].install(|| measure(&mut *call));
                let touched = (4 * kernel.touched * rows * cols) as f64 * 1e-9;
                let limit = if kernel.writes { update } else { read };
                let percent = 100.0 * touched / best / limit;
                print!("  {:>22}", format!("{:.1} / {:.1} ({percent:.0})", touched / best, touched / median));
                if in_cache.is_empty() {
                    let (per_row, vectors) = (best * 1e9 / rows as f64, cols as f64 / 16.0);
                    in_cache = format!("{per_row:>9.1} ns {:>6.1} cycles", per_row * gigahertz / vectors);
                }
            }
            println!("  {in_cache}");
        }
    }
}
