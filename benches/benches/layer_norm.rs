//! Layer norm of the named shapes' activations, forward and backward.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes;
use weft_tensor::Grad;
use weft_tensor::kernels::norm::{layer_norm, layer_norm_backward};

/// Roundings of sums of up to 768 numbers of order one, in f32.
const TOLERANCE: f64 = 1e-4;

fn bench(c: &mut Criterion<OfPeak>) {
    let mut group = c.benchmark_group("layer_norm");
    for shape in shapes::all() {
        let (rows, cols) = (shape.batch_size * shape.model.block_size, shape.model.n_embd);
        let n = rows * cols;
        let (x, dy, mut y, mut dx) = (numbers(n), numbers(n), numbers(n), numbers(n));
        let (weight, bias) = (numbers(cols), numbers(cols));
        let (mut mean, mut rstd) = (numbers(rows), numbers(rows));
        let (mut dweight, mut dbias) = (numbers(cols), numbers(cols));
        let mut forward = || layer_norm(&x, &weight, Some(&bias), 1e-5, &mut y, &mut mean, &mut rstd);
        forward();
        // One read and one write; backward two reads and one write.
        group.throughput(Throughput::Bytes(2 * 4 * n as u64));
        group.bench_function(format!("{} {rows}×{cols} forward", shape.name), |b| b.iter(&mut forward));
        let row = || x[n - cols..].iter().map(|x| f64::from(*x));
        let mu = row().sum::<f64>() / cols as f64;
        let variance = row().map(|x| (x - mu).powi(2)).sum::<f64>() / cols as f64;
        let last = (f64::from(x[n - 1]) - mu) / (variance + 1e-5).sqrt();
        let wanted = last * f64::from(weight[cols - 1]) + f64::from(bias[cols - 1]);
        assert_close("layer_norm", y[n - 1], wanted, TOLERANCE);

        let mut backward = || {
            let [dx, dweight, dbias] =
                [&mut dx, &mut dweight, &mut dbias].map(|data| Some(Grad { data, add: false }));
            layer_norm_backward(&x, &weight, &mean, &rstd, &dy, dx, dweight, dbias);
        };
        backward();
        group.throughput(Throughput::Bytes(3 * 4 * n as u64));
        group.bench_function(format!("{} {rows}×{cols} backward", shape.name), |b| b.iter(&mut backward));
        let wanted = dy.chunks(cols).map(|dy| f64::from(dy[0])).sum();
        assert_close("layer_norm: dbias", dbias[0], wanted, TOLERANCE);
        // What is added to a whole row moves its mean and nothing else.
        let sum: f64 = dx[..cols].iter().map(|dx| f64::from(*dx)).sum();
        assert_close("layer_norm: sum of dx", sum, 0.0, TOLERANCE);
    }
    group.finish();
}

fn main() {
    run(bench);
}
