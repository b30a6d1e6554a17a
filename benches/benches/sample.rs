//! Sampling from the named shapes: the time for a batch of sixteen texts, and for one; the throughput is in bytes, one
//! for each token.
//!
//! `WEFT_BENCH_LARGE=1` adds the large shapes.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::{shapes, trainer};
use weft_model::config::Precision;
use weft_model::generate::{SampleConfig, generate};

fn bench(c: &mut Criterion<OfPeak>) {
    let mut group = c.benchmark_group("sample");
    group.sample_size(20);
    for shape in shapes::all_or_small() {
        // The weights of a beginner: what is drawn does not matter for the time it takes.
        let trainer = trainer(&shape, Precision::F32).expect("a named shape can be built");
        let vocab = trainer.data().vocab();
        let config = SampleConfig { max_new_tokens: shape.model.block_size, ..SampleConfig::default() };
        for texts in [16, 1] {
            let sample = || {
                let samples = generate(trainer.model(), trainer.params(), vocab, &[], 0, texts, &config);
                samples.expect("the settings are valid")
            };
            let (samples, again) = (sample(), sample());
            assert!(samples == again, "{}: the same seed gives other samples", shape.name);
            let tokens: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
            assert_eq!(tokens, texts * config.max_new_tokens, "{}: running text has no end", shape.name);
            group.throughput(Throughput::Bytes(tokens as u64));
            group.bench_function(format!("{} {texts}×{}", shape.name, config.max_new_tokens), |bencher| {
                bencher.iter(sample);
            });
        }
    }
    group.finish();
}

fn main() {
    run(bench);
}
