//! A whole training step of the named shapes: batch, forward, backward, gradient norm, AdamW.
//!
//! `WEFT_BENCH_LARGE=1` adds the shapes whose step takes a second.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::{shapes, trainer};
use weft_model::config::Precision;
use weft_model::train::{Event, Trainer};

fn next(trainer: &mut Trainer) -> f64 {
    match trainer.next().expect("the run has no end") {
        Ok(Event::Step(step)) => step.train_loss,
        other => panic!("not a step: {other:?}"),
    }
}

fn bench(c: &mut Criterion<OfPeak>) {
    let mut group = c.benchmark_group("train_step");
    group.sample_size(20);
    for shape in shapes::all_or_small() {
        let mut trainer = trainer(&shape, Precision::F32).expect("a named shape can be trained");
        let loss = next(&mut trainer);
        let uniform = (shape.model.vocab_size as f64).ln();
        assert!((loss - uniform).abs() < 0.5, "{}: first loss {loss}, uniform {uniform}", shape.name);
        group.throughput(Throughput::Elements(shape.step_flops()));
        group.bench_function(shape.name, |bencher| bencher.iter(|| next(&mut trainer)));
    }
    group.finish();
}

fn main() {
    run(bench);
}
