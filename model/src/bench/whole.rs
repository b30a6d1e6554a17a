//! Training steps and sampled tokens of the named shapes, through the same code that `weft train` and `weft sample` use.

use weft_tensor::peak::fma_gflops;

use super::machine::Level;
use super::shapes::Named;
use super::{Effort, Figure, Roof, Section, Times, aim_for, on_threads, time};
use crate::Error;
use crate::config::{Precision, TrainConfig};
use crate::generate::{SampleConfig, generate};
use crate::model::Model;
use crate::text::{Corpus, Dataset, Format, SplitFractions, Vocab};
use crate::train::Trainer;

/// As many characters as the shape's vocabulary has: printable ones from "0" on, and beyond the surrogates when it is as
/// large as GPT-2's.
fn characters(shape: &Named) -> Vec<char> {
    (48..).filter_map(char::from_u32).take(shape.model.vocab_size).collect()
}

/// A trainer whose batches are full: running text over as many characters as the shape's vocabulary has.
///
/// # Errors
/// If the shape cannot be built.
pub fn trainer(shape: &Named, precision: Precision) -> Result<Trainer, Error> {
    let chars = characters(shape);
    let mut text: String = chars.iter().collect();
    let mut state = 1u64;
    for _ in 0..100_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.push(chars[((state >> 33) % chars.len() as u64) as usize]);
    }
    let corpus = Corpus::from_str(shape.name, &text, Some(Format::Text))?;
    let data = Dataset::new(&corpus, 1, SplitFractions::default())?;
    let (model, params) = Model::new(&shape.model, 1)?;
    let config = TrainConfig {
        batch_size: shape.batch_size,
        max_iters: u64::MAX,
        eval_interval: u64::MAX,
        lr_decay_iters: u64::MAX,
        precision,
        ..TrainConfig::default()
    };
    Trainer::new(config, model, params, data)
}

/// A training step: batch, forward, backward, clipping, update. `peak_bytes` is right in a process that does nothing else.
///
/// # Errors
/// If the shape cannot be built, or a step fails.
pub fn train_step(effort: &Effort, shape: &Named, threads: usize) -> Result<Figure, Error> {
    let rate = fma_gflops(threads);
    let times = on_threads(threads, || -> Result<Times, Error> {
        let mut trainer = trainer(shape, Precision::F32)?;
        let mut result = Ok(());
        let times = time(effort, || {
            if let Some(Err(error)) = trainer.next() {
                result = Err(error);
            }
        });
        result.map(|()| times)
    })?;
    let peak_bytes = peak_bytes();
    let rate = rate.max(fma_gflops(threads));
    let figure =
        Figure::new(Section::Step, shape.name, threads, times, shape.step_flops() as f64, (Roof::Fma, rate));
    Ok(Figure {
        aim: aim_for(threads, shape.step_aims),
        tokens_per_s: Some(shape.tokens() as f64 / times.median_s),
        peak_bytes,
        ..figure
    })
}

/// A sampled token: the mean over a text of a full context. The weights are those of a beginner: what is drawn does not matter
/// for the time it takes. `peak_bytes` is right in a process that does nothing else.
///
/// # Errors
/// If the shape cannot be built.
pub fn sample(effort: &Effort, shape: &Named, threads: usize) -> Result<Figure, Error> {
    let times = texts(effort, shape, threads, 1)?;
    let peak_bytes = peak_bytes();
    let level = Level::holding(shape.token_bytes(), threads);
    let roof = (level.roof, level.read_gbps(threads));
    let figure = Figure::new(Section::Sample, shape.name, threads, times, shape.token_bytes(), roof);
    Ok(Figure {
        aim: aim_for(threads, shape.sample_aims),
        tokens_per_s: Some(1.0 / times.median_s),
        peak_bytes,
        ..figure
    })
}

/// A token of `n` texts that are sampled in one call: what arithmetic bounds, as a weight is used for many of them at once.
///
/// # Errors
/// If the shape cannot be built.
pub fn sample_together(effort: &Effort, shape: &Named, threads: usize, n: usize) -> Result<Figure, Error> {
    /// Of the multiply-adds.
    const AIM: f64 = 0.4;
    let rate = fma_gflops(threads);
    let times = texts(effort, shape, threads, n)?;
    let peak_bytes = peak_bytes();
    let roof = (Roof::Fma, rate.max(fma_gflops(threads)));
    let name = format!("{} × {n}", shape.name);
    let figure = Figure::new(Section::Sample, name, threads, times, shape.token_flops(), roof);
    Ok(Figure {
        aim: aim_for(threads, [Some(AIM); 2]),
        tokens_per_s: Some(1.0 / times.median_s),
        peak_bytes,
        ..figure
    })
}

/// Times `n` texts of a full context each, made in one call: seconds a token.
fn texts(effort: &Effort, shape: &Named, threads: usize, n: usize) -> Result<Times, Error> {
    let (model, mut params) = Model::new::<f32>(&shape.model, 1)?;
    model.prepare_for_inference(&mut params, Precision::F32);
    let vocab = Vocab::new(characters(shape), false);
    let config = SampleConfig { max_new_tokens: shape.model.block_size, ..SampleConfig::default() };
    config.validate()?;
    let times = on_threads(threads, || {
        time(effort, || {
            let texts = generate(&model, &params, &vocab, &[], 0, n, &config);
            assert!(texts.is_ok_and(|texts| texts.len() == n), "sampling from a named shape cannot fail");
        })
    });
    let tokens = (n * config.max_new_tokens) as f64;
    Ok(Times { median_s: times.median_s / tokens, best_s: times.best_s / tokens, ..times })
}

/// The most memory that this process has had in use at once, where the system tells (Linux).
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
