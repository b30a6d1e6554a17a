//! Matrix products of the named shapes' training steps: forward (A·B), for the input (A·Bᵀ) and for the weight (Aᵀ·B); and
//! products of many sizes beside the crates `gemm`, `matrixmultiply` and `faer`.
//!
//! On `RAYON_NUM_THREADS` threads, or else first on one, then on two. `cargo run --release -p weft-benches --example
//! matmul_table` prints the second part as a table.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes::{self, PRODUCTS, Product};
use weft_peers::{Peer, at_each_thread_count};
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, matmul};

/// Roundings of a sum of at most a few thousand products of numbers below 1, in f32.
const TOLERANCE: f64 = 1e-4;

/// Both operands as they lie, one of them transposed.
const FORMS: [&str; 3] = ["A·B", "Aᵀ·B", "A·Bᵀ"];

/// Operations above which a product is left to quiet machines: `WEFT_BENCH_LARGE`.
const LARGE: u64 = 8_000_000_000;

/// Panics unless `c` holds, in three places, sums over p < k of `a(i, p)` · `b(p, j)`.
fn assert_product(
    name: &str,
    (m, n, k): (usize, usize, usize),
    c: &[f32],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) {
    for (i, j) in [(0, 0), (m / 2, n / 3), (m - 1, n - 1)] {
        let wanted = (0..k).map(|p| f64::from(a(i, p)) * f64::from(b(p, j))).sum();
        assert_close(name, c[i * n + j], wanted, TOLERANCE);
    }
}

fn layers(c: &mut Criterion<OfPeak>) {
    let threads = rayon::current_num_threads();
    for shape in shapes::all() {
        let (c_in, m) = (shape.model.n_embd, shape.batch_size * shape.model.block_size);
        let mut group = c.benchmark_group(format!("matmul/{}/threads {threads}", shape.name));
        for (layer, (n, k)) in
            [("c_attn", (3 * c_in, c_in)), ("c_fc", (4 * c_in, c_in)), ("mlp.c_proj", (c_in, 4 * c_in))]
        {
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            let (a_data, b_data, mut y) = (numbers(m * k), numbers(k * n), numbers(m * n));
            for (form, name) in FORMS.into_iter().enumerate() {
                let a = if form == 1 { Mat::new(&a_data, k, m).t() } else { Mat::new(&a_data, m, k) };
                let b = if form == 2 { Mat::new(&b_data, n, k).t() } else { Mat::new(&b_data, k, n) };
                matmul(a, b, MatMut::new(&mut y, m, n), Epilogue::default());
                let a_at = |i, p| a_data[if form == 1 { p * m + i } else { i * k + p }];
                let b_at = |p, j| b_data[if form == 2 { j * k + p } else { p * n + j }];
                assert_product(name, (m, n, k), &y, a_at, b_at);
                group.bench_function(format!("{layer} {m}×{n}×{k} {name}"), |bencher| {
                    bencher.iter(|| matmul(a, b, MatMut::new(&mut y, m, n), Epilogue::default()));
                });
            }
        }
        group.finish();
    }
}

fn beside_peers(c: &mut Criterion<OfPeak>) {
    let threads = rayon::current_num_threads();
    let large = std::env::var_os("WEFT_BENCH_LARGE").is_some();
    for Product { m, n, k, .. } in PRODUCTS {
        let operations = 2 * (m * n * k) as u64;
        if operations > LARGE && !large {
            continue;
        }
        let (a, b, mut y) = (numbers(m * k), numbers(k * n), numbers(m * n));
        let mut group = c.benchmark_group(format!("product/{m}×{n}×{k}/threads {threads}"));
        group.throughput(Throughput::Elements(operations));
        if operations > LARGE / 10 {
            group.sample_size(10);
        }
        for peer in std::iter::once(None).chain(Peer::ALL.map(Some)) {
            let name = peer.map_or("weft", Peer::name);
            let mut multiply = || match peer {
                None => {
                    let y = MatMut::new(&mut y, m, n);
                    matmul(Mat::new(&a, m, k), Mat::new(&b, k, n), y, Epilogue::default());
                }
                Some(peer) => peer.multiply(threads, (m, n, k), &a, &b, &mut y),
            };
            multiply();
            group.bench_function(name, |bencher| bencher.iter(&mut multiply));
            assert_product(name, (m, n, k), &y, |i, p| a[i * k + p], |p, j| b[p * n + j]);
        }
        group.finish();
    }
}

fn main() {
    at_each_thread_count(|_| {
        run(|c| {
            layers(c);
            beside_peers(c);
        });
    });
}
