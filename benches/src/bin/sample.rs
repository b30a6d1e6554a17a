//! Times sampling from a named shape: `sample --shape names [--batch N] [--threads T] [--seconds S]` prints one JSON line.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "the line is the product")]

use weft_benches::arguments::Arguments;
use weft_model::bench::{Effort, sample, sample_together};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::of_process();
    let usage = "usage: sample --shape names|shakes|baby|gpt2 [--batch N] [--threads N] [--seconds S]";
    let shape = arguments.shape(usage)?;
    let n: usize = arguments.number("--batch", 1)?;
    let threads: usize = arguments.number("--threads", 0)?;
    let effort = Effort { seconds: arguments.number("--seconds", 2.0)?, ..Effort::FULL };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let threads = rayon::current_num_threads();
    let figure = match n {
        1 => sample(&effort, &shape, threads)?,
        _ => sample_together(&effort, &shape, threads, n)?,
    };
    let (name, roof, fraction) = (shape.name, figure.roof.name(), figure.fraction);
    let (median, best) = (1.0 / figure.median_s, 1.0 / figure.best_s);
    println!(
        r#"{{"shape":"{name}","batch":{n},"threads":{threads},"tokens_per_s":{median:.0},"best":{best:.0},"roof":"{roof}","fraction":{fraction:.3}}}"#
    );
    Ok(())
}
