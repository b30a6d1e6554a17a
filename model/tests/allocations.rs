//! In the steady state of training nothing is asked of the system allocator.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use weft_model::config::{ModelConfig, TrainConfig};
use weft_model::model::Model;
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};
use weft_model::train::{Event, Trainer};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Steps in a row that must not allocate.
const QUIET: usize = 20;
/// Steps within which they must be found. One thread needs as many as bring every length of line; with more, each thread must
/// have met every length, and who works on what is up to the scheduler.
const STEPS: usize = 600;

/// Words of 1 to 12 letters, one a line: batches of many lengths.
fn words(n: usize) -> String {
    let mut state = 1u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    (0..n)
        .map(|_| (0..=next(12)).map(|_| char::from(b'a' + next(26) as u8)).chain(['\n']).collect::<String>())
        .collect()
}

fn trainer(format: Format, model: ModelConfig, batch_size: usize) -> Trainer {
    let corpus = Corpus::from_str("words", &words(2000), Some(format)).unwrap();
    let data = Dataset::new(&corpus, 1, SplitFractions::default()).unwrap();
    let config = ModelConfig { vocab_size: data.vocab().len(), ..model };
    let (model, params) = Model::new(&config, 1).unwrap();
    let config = TrainConfig {
        batch_size,
        grad_accum: 2,
        max_iters: STEPS as u64,
        eval_interval: u64::MAX,
        ..TrainConfig::default()
    };
    Trainer::new(config, model, params, data).unwrap()
}

/// Calls of the allocator in each of the steps until `QUIET` in a row had none.
fn calls(mut trainer: Trainer) -> Vec<usize> {
    let mut calls = Vec::with_capacity(STEPS);
    let mut quiet = 0;
    for _ in 0..STEPS {
        let region = Region::new(ALLOCATOR);
        let event = trainer.next();
        let change = region.change();
        assert!(matches!(event, Some(Ok(Event::Step(_)))), "no step: {event:?}");
        calls.push(change.allocations + change.reallocations + change.deallocations);
        quiet = if calls.last() == Some(&0) { quiet + 1 } else { 0 };
        if quiet == QUIET {
            break;
        }
    }
    calls
}

// One test: another in the same process would allocate meanwhile.
#[test]
fn a_step_does_not_allocate_once_every_shape_has_come_up() {
    let names = ModelConfig { n_embd: 32, n_inner: 64, bias: true, dropout: 0.1, ..ModelConfig::default() };
    let shakes = ModelConfig { block_size: 32, n_kv_head: 2, n_layer: 2, ..names.clone() };
    let llama = ModelConfig {
        norm: weft_model::config::Norm::Rms,
        position: weft_model::config::Position::Rotary,
        attention: weft_model::config::Score::Cosine,
        gated: true,
        tied: false,
        bias: false,
        ..shakes.clone()
    };
    for (name, format, model, batch_size) in [
        ("lines", Format::Lines, names, 32),
        ("text", Format::Text, shakes, 12),
        ("switches", Format::Text, llama, 12),
    ] {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let trainer = trainer(format, model.clone(), batch_size);
            let calls = pool.install(|| calls(trainer));
            let last = calls.iter().rposition(|&calls| calls > 0).unwrap_or(0);
            eprintln!("{name}, {threads} threads: the last call in step {last} of {}", calls.len());
            assert!(
                last + QUIET < calls.len(),
                "{name}, {threads} threads: calls of the allocator in step after step: {:?}",
                &calls[calls.len() - QUIET..]
            );
        }
    }
}
