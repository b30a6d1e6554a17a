//! Cross-entropy of the named shapes' logits: the loss, and the loss with its gradient in place of the logits.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{BatchSize, Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers, targets};
use weft_benches::shapes;
use weft_tensor::kernels::cross_entropy::{cross_entropy, cross_entropy_in_place};

/// Roundings of an exponential and of sums of up to fifty thousand of them, in f32.
const TOLERANCE: f64 = 1e-5;

/// No target is ignored.
const IGNORE: u32 = u32::MAX;

fn bench(c: &mut Criterion<OfPeak>) {
    let mut group = c.benchmark_group("cross_entropy");
    for shape in shapes::all() {
        let (rows, cols) = (shape.batch_size * shape.model.block_size, shape.model.vocab_size);
        let n = rows * cols;
        let (logits, targets, mut lse) = (numbers(n), targets(rows, cols), numbers(rows));
        let wanted: f64 = logits
            .chunks(cols)
            .zip(&targets)
            .map(|(row, target)| {
                let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
                sum.ln() - f64::from(row[*target as usize])
            })
            .sum();
        let mut dlogits = numbers(n);
        dlogits.copy_from_slice(&logits);
        let loss = cross_entropy_in_place(&mut dlogits, &targets, IGNORE, 1.0);
        assert_close("cross_entropy", cross_entropy(&logits, &targets, IGNORE, &mut lse), wanted, TOLERANCE);
        assert_close("cross_entropy in place", loss, wanted, TOLERANCE);

        let name = format!("{} {rows}×{cols}", shape.name);
        group.throughput(Throughput::Bytes(4 * n as u64));
        group.bench_function(format!("{name} loss"), |bencher| {
            bencher.iter(|| cross_entropy(&logits, &targets, IGNORE, &mut lse));
        });
        group.throughput(Throughput::Bytes(2 * 4 * n as u64));
        group.bench_function(format!("{name} loss and gradient"), |bencher| {
            // The gradients of one call would be poor logits for the next.
            bencher.iter_batched_ref(
                || logits.to_vec(),
                |logits| cross_entropy_in_place(logits, &targets, IGNORE, 1.0),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn main() {
    run(bench);
}
