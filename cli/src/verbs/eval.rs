//! `weft eval`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use weft_model::checkpoint::Checkpoint;
use weft_model::config::Precision;
use weft_model::evaluate::evaluate;
use weft_model::ngram::OrderLoss;
use weft_model::text::{Corpus, Dataset, SplitFractions, SplitName};

use crate::args::ModelArg;
use crate::ladder;
use crate::load::{self, Loaded};
use crate::output::{escaped, grouped, stdout, tell};
use crate::values::choice;

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft eval runs/names                           the test split of the run's own data
  weft eval runs/names --split val --json
  weft eval runs/names other.txt                 a whole file";

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelArg,
    /// A text file to evaluate on [default: the data that the model was trained on]
    file: Option<PathBuf>,
    /// Which part of the data [default: test; of a FILE, all of it]
    #[arg(long, value_name = "SPLIT", value_parser = choice::<SplitName>(&["train", "val", "test"]))]
    split: Option<SplitName>,
    /// Read U+FFFD for what is not UTF-8 in FILE
    #[arg(long)]
    lossy: bool,
    /// One JSON object: loss, bits_per_char, perplexity, tokens, ladder
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Nats per token.
    loss: f64,
    bits_per_char: f64,
    perplexity: f64,
    tokens: usize,
    /// From the unigram on, fitted to the training split.
    ladder: Vec<OrderLoss>,
}

pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let Loaded { path, checkpoint } = load::model(&args.model.model)?;
    let Checkpoint { description, model, mut params, .. } = checkpoint;
    let own = &description.data;
    let cut = |corpus: &Corpus, fractions| {
        Dataset::with_vocab(corpus, description.vocab.clone(), own.seed, fractions)
    };
    let whole = SplitFractions { train: 1.0, val: 0.0, test: 0.0 };
    // The data to evaluate on, and those that the ladder is fitted to.
    let (name, split, data, fitted) = match &args.file {
        None => {
            let corpus = load::own_data(&path, own)?;
            let name = args.split.unwrap_or(SplitName::Test);
            (corpus.name().to_string(), name, cut(&corpus, own.split)?, None)
        }
        Some(file) => {
            let corpus = load::corpus(Some(file), Some(own.format), own.lossy || args.lossy)?;
            let (split, data, fitted) = match args.split {
                Some(split) => (split, cut(&corpus, own.split)?, None),
                None => {
                    let fitted = load::own_data(&path, own).and_then(|corpus| Ok(cut(&corpus, own.split)?));
                    (SplitName::Train, cut(&corpus, whole)?, Some(fitted))
                }
            };
            load::say_corpus(&corpus);
            (corpus.name().to_string(), split, data, fitted)
        }
    };
    let part = data.split(split);
    if part.is_empty() {
        anyhow::bail!("there is nothing to evaluate: the {} split is empty", name_of(split));
    }
    let mut rungs = match &fitted {
        None => ladder::losses(&data, part),
        Some(Ok(fitted)) => ladder::losses(fitted, part),
        Some(Err(error)) => {
            tell!("note: no n-gram models beside it, for want of the training data: {error}");
            vec![]
        }
    };
    model.prepare_for_inference(&mut params, Precision::F32);
    let evaluation = evaluate(&model, &params, part);
    if !evaluation.loss.is_finite() {
        anyhow::bail!("the loss is {}: what the model computes is no longer a number", evaluation.loss);
    }
    let mut out = stdout();
    if args.json {
        rungs.retain(|rung| rung.order > 0);
        let report = Report {
            loss: evaluation.loss,
            bits_per_char: evaluation.bits_per_char,
            perplexity: evaluation.perplexity,
            tokens: evaluation.tokens,
            ladder: rungs,
        };
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        let what =
            if fitted.is_some() { "all of it".into() } else { format!("the {} split", name_of(split)) };
        writeln!(out, "{}, {what}: {} tokens", escaped(&name), grouped(evaluation.tokens))?;
        writeln!(
            out,
            "loss {:.4} nats per token, {:.4} bits per character, perplexity {:.3}",
            evaluation.loss, evaluation.bits_per_char, evaluation.perplexity
        )?;
        if !rungs.is_empty() {
            write!(out, "\n{}", ladder::table(&rungs, evaluation.loss))?;
            if fitted.is_none() && split == SplitName::Train {
                writeln!(
                    out,
                    "The n-grams were counted on this very text; the test split tells how normal a loss is."
                )?;
            } else {
                writeln!(out, "{}", ladder::verdict(&rungs, evaluation.loss))?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn name_of(split: SplitName) -> &'static str {
    match split {
        SplitName::Train => "training",
        SplitName::Val => "validation",
        SplitName::Test => "test",
    }
}
