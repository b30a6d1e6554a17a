//! Matrix products of the named shapes' training steps: forward (A·B), for the input (A·Bᵀ) and for the weight (Aᵀ·B).
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes;
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, matmul};

/// Roundings of a sum of at most a few thousand products of numbers below 1, in f32.
const TOLERANCE: f64 = 1e-4;

/// Both operands as they lie, one of them transposed.
const FORMS: [&str; 3] = ["A·B", "Aᵀ·B", "A·Bᵀ"];

fn bench(c: &mut Criterion<OfPeak>) {
    for shape in shapes::all() {
        let (c_in, tokens) = (shape.model.n_embd, shape.batch_size * shape.model.block_size);
        let mut group = c.benchmark_group(format!("matmul/{}", shape.name));
        for (layer, (n, k)) in
            [("c_attn", (3 * c_in, c_in)), ("c_fc", (4 * c_in, c_in)), ("mlp.c_proj", (c_in, 4 * c_in))]
        {
            let m = tokens;
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            let (a_data, b_data, mut y) = (numbers(m * k), numbers(k * n), numbers(m * n));
            for (form, name) in FORMS.into_iter().enumerate() {
                let a = if form == 1 { Mat::new(&a_data, k, m).t() } else { Mat::new(&a_data, m, k) };
                let b = if form == 2 { Mat::new(&b_data, n, k).t() } else { Mat::new(&b_data, k, n) };
                matmul(a, b, MatMut::new(&mut y, m, n), Epilogue::default());
                for (i, j) in [(0, 0), (m / 2, n / 3), (m - 1, n - 1)] {
                    let product = |p: usize| {
                        let a = a_data[if form == 1 { p * m + i } else { i * k + p }];
                        let b = b_data[if form == 2 { j * k + p } else { p * n + j }];
                        f64::from(a) * f64::from(b)
                    };
                    assert_close(name, y[i * n + j], (0..k).map(product).sum(), TOLERANCE);
                }
                group.bench_function(format!("{layer} {m}×{n}×{k} {name}"), |bencher| {
                    bencher.iter(|| matmul(a, b, MatMut::new(&mut y, m, n), Epilogue::default()));
                });
            }
        }
        group.finish();
    }
}

fn main() {
    run(bench);
}
