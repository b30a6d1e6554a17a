//! `weft sample`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use weft_model::checkpoint::Checkpoint;
use weft_model::config::Precision;
use weft_model::generate::{SampleConfig, generate, tokens};

use crate::args::ModelArg;
use crate::load;
use crate::output::{shown, stdout};
use crate::values::{choice, count, number, size};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft sample runs/names
  weft sample runs/names -n 5 --prompt mar --temperature 0.8
  weft sample runs/names --json | head -3";

/// Samples that are made before the first are printed. Then twice as many each time, up to a limit: the more are made
/// together, the better they fill the machine, and the longer one waits for them.
const FIRST: usize = 64;
const MOST: usize = 4096;

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    #[command(flatten)]
    model: ModelArg,
    /// How many samples [default: 20 lines, or 1 of running text]
    #[arg(long, short, visible_alias = "n", value_name = "N", value_parser = size, allow_negative_numbers = true)]
    num_samples: Option<usize>,
    /// What every sample begins with
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    prompt: String,
    /// The most tokens (characters) to add to the prompt; lines end by themselves
    #[arg(long, value_name = "N", default_value = "500", value_parser = size, allow_negative_numbers = true)]
    max_new_tokens: usize,
    /// Below 1 more careful, above 1 more varied; 0 always takes the likeliest token
    #[arg(long, value_name = "X", default_value = "1", value_parser = number, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the K likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value = "0", value_parser = size, allow_negative_numbers = true)]
    top_k: usize,
    /// Draw from the likeliest tokens that together have probability P; 1 for all
    #[arg(long, value_name = "P", default_value = "1", value_parser = number, allow_negative_numbers = true)]
    top_p: f64,
    /// Draw from tokens at least P times as likely as the likeliest; 0 for all
    #[arg(long, value_name = "P", default_value = "0", value_parser = number, allow_negative_numbers = true)]
    min_p: f64,
    /// What the random numbers follow from: the same seed, the same samples
    #[arg(long, value_name = "N", default_value = "1337", value_parser = count, allow_negative_numbers = true)]
    seed: u64,
    /// Round the operands of matrix products: bf16 halves the memory that a token reads
    #[arg(long, value_name = "KIND", default_value = "f32", value_parser = choice::<Precision>(&["f32", "bf16"]))]
    precision: Precision,
    /// One JSON object a line: text and logprob, its log-probability in nats
    #[arg(long)]
    json: bool,
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
    logprob: f64,
}

pub(crate) fn run(args: &SampleArgs) -> anyhow::Result<ExitCode> {
    let SampleArgs { temperature, top_k, top_p, min_p, max_new_tokens, seed, .. } = *args;
    let config = SampleConfig { temperature, top_k, top_p, min_p, max_new_tokens, seed };
    config.validate()?;
    let Checkpoint { description, model, mut params, .. } = load::model(&args.model.model)?.checkpoint;
    model.prepare_for_inference(&mut params, args.precision);
    let vocab = &description.vocab;
    let prompt = vocab.encode(&args.prompt)?;
    let is_lines = vocab.boundary().is_some();
    let n = args.num_samples.unwrap_or(if is_lines { 20 } else { 1 });
    let to_terminal = std::io::stdout().is_terminal();
    let mut out = stdout();
    if n == 1 && !args.json {
        // A single text appears as it is written.
        write!(out, "{}", shown(&args.prompt, to_terminal))?;
        for id in tokens(&model, &params, vocab, &prompt, 0, &config)? {
            write!(out, "{}", shown(&vocab.decode(&[id])?, to_terminal))?;
            if to_terminal {
                out.flush()?;
            }
        }
        writeln!(out)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut first, mut chunk) = (0, FIRST);
    while first < n {
        let samples = generate(&model, &params, vocab, &prompt, first, chunk.min(n - first), &config)?;
        for (i, sample) in samples.iter().enumerate() {
            let text = vocab.decode(&sample.tokens)?;
            if args.json {
                let line = Line { text: &text, logprob: sample.logprob };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
                continue;
            }
            if !is_lines && first + i > 0 {
                writeln!(out, "---------------")?;
            }
            writeln!(out, "{}", shown(&text, to_terminal))?;
        }
        out.flush()?;
        first += samples.len();
        chunk = MOST.min(2 * chunk);
    }
    Ok(ExitCode::SUCCESS)
}
