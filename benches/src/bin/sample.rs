//! Times sampling from a named shape: `sample --shape names [--batch N] [--threads T] [--seconds S]` prints one JSON line.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the line is the product")]

use std::time::Instant;

use weft_benches::{shapes, trainer};
use weft_model::config::Precision;
use weft_model::generate::{SampleConfig, generate};
use weft_tensor::peak;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        arguments.iter().position(|argument| argument == name).and_then(|i| arguments.get(i + 1)).cloned()
    };
    let name = value("--shape")
        .ok_or("usage: sample --shape names|shakes|baby|gpt2 [--batch N] [--threads N] [--seconds S]")?;
    let shape = shapes::find(&name).ok_or_else(|| format!("there is no shape called {name}"))?;
    let n: usize = value("--batch").map_or(Ok(1), |n| n.parse())?;
    let threads: usize = value("--threads").map_or(Ok(0), |n| n.parse())?;
    let seconds: f64 = value("--seconds").map_or(Ok(2.0), |s| s.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let trainer = trainer(&shape, Precision::F32)?;
    let mut params = trainer.params().clone();
    trainer.model().prepare_for_inference(&mut params, Precision::F32);
    let config = SampleConfig { max_new_tokens: shape.model.block_size, ..SampleConfig::default() };
    let mut rates = Vec::new();
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < seconds || rates.len() < 4 {
        let before = Instant::now();
        let samples = generate(trainer.model(), &params, trainer.data().vocab(), &[], 0, n, &config)?;
        let tokens: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
        rates.push(tokens as f64 / before.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[rates.len() / 2], rates[rates.len() - 1]);
    // What a token owes the machine: its weights read once, where one text is made; two operations for each, where many are.
    let layout = params.layout();
    let weights: usize = trainer.model().weights().iter().map(|&id| layout.shape(id).elements()).sum();
    let threads = rayon::current_num_threads();
    let read = median * (size_of::<f32>() * weights) as f64 * 1e-9
        / peak::read_gbps(threads, size_of::<f32>() * weights / threads);
    let fma = median * (2 * weights) as f64 * 1e-9 / peak::fma_gflops(threads);
    println!(
        r#"{{"shape":"{name}","batch":{n},"threads":{threads},"tokens_per_s":{median:.0},"best":{best:.0},"of_bandwidth":{read:.3},"of_fma_peak":{fma:.3}}}"#
    );
    Ok(())
}
