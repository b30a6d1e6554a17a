//! Times training steps of a named shape: `step --shape names --seconds 5 [--threads 2] [--precision bf16]` prints one JSON line.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the line is the product")]

use std::time::{Duration, Instant};

use weft_benches::arguments::Arguments;
use weft_benches::trainer;
use weft_model::config::Precision;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::of_process();
    let shape = arguments.shape(
        "usage: step --shape names|shakes|baby|gpt2 [--seconds S] [--threads N] [--precision f32|bf16]",
    )?;
    let seconds: f64 = arguments.number("--seconds", 5.0)?;
    let threads: usize = arguments.number("--threads", 0)?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let precision = match arguments.text("--precision") {
        None | Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        Some(other) => return Err(format!("there is no precision called {other}").into()),
    };
    let mut trainer = trainer(&shape, precision)?;
    let params = trainer.params().layout().elements();
    let threads = rayon::current_num_threads();
    let times = rayon::scope(|_| -> Result<Vec<Duration>, weft_model::Error> {
        let mut times = Vec::new();
        let began = Instant::now();
        while began.elapsed().as_secs_f64() < seconds || times.len() < 4 {
            let before = Instant::now();
            trainer.next().expect("the run has no end")?;
            times.push(before.elapsed());
        }
        Ok(times)
    })?;
    // The first steps fill the pools.
    let mut times: Vec<f64> = times.iter().skip(2).map(|time| time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let name = shape.name;
    let (median, min, steps) = (times[times.len() / 2], times[0], times.len());
    println!(
        r#"{{"shape":"{name}","median_ms":{median:.4},"min_ms":{min:.4},"steps":{steps},"threads":{threads},"params":{params}}}"#
    );
    Ok(())
}
