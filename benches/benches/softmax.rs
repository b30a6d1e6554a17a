//! Softmax over rows, forward and backward: of as many columns as the named shapes have positions and tokens.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes;
use weft_tensor::Grad;
use weft_tensor::kernels::softmax::{softmax, softmax_backward};

/// Roundings of a sum of up to fifty thousand probabilities in sixteen lanes, in f32.
const TOLERANCE: f64 = 1e-5;

/// Numbers in a tensor: as many rows as that makes.
const ELEMENTS: usize = 1 << 18;

fn bench(c: &mut Criterion<OfPeak>) {
    let shapes = shapes::all();
    let positions = shapes.iter().map(|shape| (format!("{} scores", shape.name), shape.model.block_size));
    let tokens = shapes.iter().map(|shape| (format!("{} logits", shape.name), shape.model.vocab_size));
    let mut group = c.benchmark_group("softmax");
    for (name, cols) in positions.chain(tokens) {
        let rows = ELEMENTS / cols;
        let n = rows * cols;
        let (x, dy, mut y, mut dx) = (numbers(n), numbers(n), numbers(n), numbers(n));
        softmax(&x, &mut y, cols);
        softmax_backward(&y, &dy, Grad { data: &mut dx, add: false }, cols);
        for (y, dx) in y.chunks(cols).zip(dx.chunks(cols)) {
            assert_close("sum of a row", y.iter().map(|y| f64::from(*y)).sum::<f64>(), 1.0, TOLERANCE);
            // The derivative of a constant sum.
            assert_close(
                "sum of a gradient",
                dx.iter().map(|dx| f64::from(*dx)).sum::<f64>(),
                0.0,
                TOLERANCE,
            );
        }
        // One read and one write; backward two reads and one write.
        group.throughput(Throughput::Bytes(2 * 4 * n as u64));
        group.bench_function(format!("{name} {rows}×{cols} forward"), |bencher| {
            bencher.iter(|| softmax(&x, &mut y, cols));
        });
        group.throughput(Throughput::Bytes(3 * 4 * n as u64));
        group.bench_function(format!("{name} {rows}×{cols} backward"), |bencher| {
            bencher.iter(|| softmax_backward(&y, &dy, Grad { data: &mut dx, add: false }, cols));
        });
    }
    group.finish();
}

fn main() {
    run(bench);
}
