//! `weft inspect`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use weft_model::checkpoint::{Checkpoint, DataDescription};
use weft_model::config::{ModelConfig, TrainConfig};
use weft_tensor::Tensor;

use crate::args::ModelArg;
use crate::load;
use crate::output::{escaped, grouped, stdout};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft inspect runs/names
  weft inspect runs/names/best.safetensors --json";

/// Neighbours shown for a character.
const NEIGHBOURS: usize = 4;
/// Characters that they are shown for: each is compared with all.
const WITH_NEIGHBOURS: usize = 512;
/// Characters on a line of the vocabulary.
const PER_LINE: usize = 32;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    model: ModelArg,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a ModelConfig,
    train: &'a TrainConfig,
    data: &'a DataDescription,
    simd: &'a str,
    step: u64,
    tokens_seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
    parameters: usize,
    tensors: Vec<TensorReport>,
    vocab: Vec<String>,
    neighbours: Vec<Neighbours>,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
    parameters: usize,
    /// Root of the mean square.
    rms: f64,
}

/// The tokens whose embeddings point most nearly the same way as that of `token`.
#[derive(Serialize)]
struct Neighbours {
    token: String,
    nearest: Vec<Neighbour>,
}

#[derive(Serialize)]
struct Neighbour {
    token: String,
    cosine: f32,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let loaded = load::model(&args.model.model)?;
    let checkpoint = &loaded.checkpoint;
    let description = &checkpoint.description;
    let layout = checkpoint.params.layout();
    let tensors: Vec<TensorReport> = layout
        .ids()
        .map(|id| {
            let values = checkpoint.params.get(id);
            let squares: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
            TensorReport {
                name: layout.name(id).to_string(),
                shape: layout.shape(id).to_vec(),
                parameters: values.len(),
                rms: (squares / values.len().max(1) as f64).sqrt(),
            }
        })
        .collect();
    let report = Report {
        model: &description.model,
        train: &description.train,
        data: &description.data,
        simd: &description.simd,
        step: description.step,
        tokens_seen: description.tokens,
        val_loss: description.val_loss,
        parameters: layout.elements(),
        tensors,
        vocab: (0..description.vocab.len() as u32).map(|id| description.vocab.label(id)).collect(),
        neighbours: neighbours(checkpoint),
    };
    let mut out = stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        print(&mut out, &escaped(&loaded.path.to_string_lossy()), &report)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// For each token, up to a number of them, the nearest others by cosine similarity of their embeddings.
fn neighbours(checkpoint: &Checkpoint) -> Vec<Neighbours> {
    let vocab = &checkpoint.description.vocab;
    let id = checkpoint.model.token_embedding();
    let table = Tensor::from_slice(checkpoint.params.get(id), *checkpoint.params.layout().shape(id)); // (V, C)
    let of = |token: usize| {
        let row = table.slice(0, token..token + 1); // (1, C)
        let mut others: Vec<(usize, f32)> = table
            .cosine_similarity(&row, 1)
            .to_vec()
            .into_iter()
            .enumerate()
            .filter(|(i, _)| *i != token)
            .collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        let nearest = others.into_iter().take(NEIGHBOURS);
        let nearest = nearest.map(|(i, cosine)| Neighbour { token: vocab.label(i as u32), cosine });
        Neighbours { token: vocab.label(token as u32), nearest: nearest.collect() }
    };
    (0..vocab.len().min(WITH_NEIGHBOURS)).map(of).collect()
}

fn print(out: &mut impl std::io::Write, path: &str, report: &Report<'_>) -> anyhow::Result<()> {
    writeln!(out, "{path}: step {}, {} tokens seen", report.step, grouped(report.tokens_seen as usize))?;
    if let Some(loss) = report.val_loss {
        writeln!(out, "validation loss {loss:.4} nats per token")?;
    }
    for (title, value) in [
        ("model", toml::to_string(report.model)?),
        ("train", toml::to_string(report.train)?),
        ("data", toml::to_string(report.data)?),
    ] {
        writeln!(out, "\n[{title}]")?;
        for line in
            value.lines().filter(|line| !TrainConfig::NOT_STORED.iter().any(|key| line.starts_with(key)))
        {
            writeln!(out, "{}", escaped(line))?;
        }
    }
    writeln!(out, "\n{:<28} {:>14} {:>12} {:>9}", "tensor", "shape", "parameters", "rms")?;
    for tensor in &report.tensors {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        writeln!(
            out,
            "{:<28} {shape:>14} {:>12} {:>9.4}",
            tensor.name,
            grouped(tensor.parameters),
            tensor.rms
        )?;
    }
    writeln!(out, "{:<28} {:>14} {:>12}", "all", "", grouped(report.parameters))?;
    writeln!(out, "\nvocabulary: {} tokens", report.vocab.len())?;
    for line in report.vocab.chunks(PER_LINE) {
        writeln!(out, "  {}", line.join(" "))?;
    }
    let first = match report.neighbours.len() {
        n if n < report.vocab.len() => format!(", of the first {n}"),
        _ => String::new(),
    };
    writeln!(out, "\nnearest by the cosine of their embeddings{first}:")?;
    for Neighbours { token, nearest } in &report.neighbours {
        let nearest: Vec<String> =
            nearest.iter().map(|near| format!("{} {:+.2}", near.token, near.cosine)).collect();
        writeln!(out, "  {token:<3} {}", nearest.join("   "))?;
    }
    Ok(())
}
