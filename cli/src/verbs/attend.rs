//! `weft attend`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use weft_autograd::{Pool, Tape};
use weft_model::checkpoint::Checkpoint;
use weft_model::config::ModelConfig;
use weft_model::memory;

use crate::args::ModelArg;
use crate::load;
use crate::output::{colours_on_stdout, stdout};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft attend runs/names maria
  weft attend runs/names maria --json";

/// Texts up to this many tokens are shown as squares, longer ones as their last row.
const SQUARE: usize = 24;
/// Columns of a terminal that a row of squares fills at most.
const COLUMNS: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct AttendArgs {
    #[command(flatten)]
    model: ModelArg,
    /// The text to read
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// One JSON object: tokens, and layers: a weight for every layer, head, from and to
    #[arg(long)]
    json: bool,
}

/// What `--json` prints: `layers[layer][head][from][to]` is how much token `from` attends to token `to`.
#[derive(Serialize)]
struct Report {
    tokens: Vec<String>,
    layers: Vec<Vec<Vec<Vec<f32>>>>,
}

pub(crate) fn run(args: &AttendArgs) -> anyhow::Result<ExitCode> {
    let Checkpoint { description, model, params, .. } = load::model(&args.model.model)?.checkpoint;
    let vocab = &description.vocab;
    let mut ids: Vec<u32> = vocab.boundary().into_iter().collect();
    ids.extend(vocab.encode(&args.text)?);
    let block_size = description.model.block_size;
    if ids.is_empty() {
        anyhow::bail!("the text is empty: name at least one character");
    }
    if ids.len() > block_size {
        anyhow::bail!("the text has {} tokens, and the model reads {block_size} at most", ids.len());
    }
    let ModelConfig { n_layer, n_head, .. } = description.model;
    let weights =
        [n_layer, n_head, ids.len(), ids.len()].iter().fold(1u64, |n, size| n.saturating_mul(*size as u64));
    // Once in the model's own order and once by rows.
    let needed = weights.saturating_mul(2 * size_of::<f32>() as u64);
    memory::check("the picture", needed, "name a shorter text")?;
    let pool = Pool::new();
    let weights = model.attention_weights(&Tape::inference(&params, &pool), &ids.as_slice().into());
    if weights.is_empty() {
        anyhow::bail!("the model has no attention: it is a bigram");
    }
    let len = ids.len();
    let square = |head: &[f32]| head.chunks(len).map(<[f32]>::to_vec).collect();
    let report = Report {
        tokens: ids.iter().map(|id| vocab.label(*id)).collect(),
        layers: weights.iter().map(|layer| layer.chunks(len * len).map(square).collect()).collect(),
    };
    let mut out = stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        out.write_all(picture(&report, colours_on_stdout()).as_bytes())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A token in one column.
fn cell(token: &str) -> char {
    let mut chars = token.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => c,
        _ => '·',
    }
}

/// Every head of every layer.
fn picture(report: &Report, colours: bool) -> String {
    let tokens: Vec<char> = report.tokens.iter().map(|token| cell(token)).collect();
    let len = tokens.len();
    let mut picture = String::new();
    if len > SQUARE {
        picture += "what the last token attends to\n";
        for (l, layer) in report.layers.iter().enumerate() {
            let _ = writeln!(picture, "\nlayer {}", l + 1);
            for (h, head) in layer.iter().enumerate() {
                let _ = write!(picture, "  head {:<2} ", h + 1);
                if colours {
                    tokens
                        .iter()
                        .zip(&head[len - 1])
                        .for_each(|(c, w)| picture += &shade(*w, &c.to_string()));
                    picture.push('\n');
                } else {
                    let _ = writeln!(picture, "{}", tokens.iter().collect::<String>());
                    let ramp: String = head[len - 1].iter().map(|w| ramp(*w)).collect();
                    let _ = writeln!(picture, "          {ramp}");
                }
            }
        }
        picture += &legend(colours);
        return picture;
    }
    picture += "each row: what that token attends to\n";
    // Wide enough for the title too.
    let width = (2 + 2 * len).max("layer 10 head 10".len());
    let rest = " ".repeat(width - 2 - 2 * len);
    let per_row = (COLUMNS / (width + 2)).max(1);
    for (l, layer) in report.layers.iter().enumerate() {
        for (first, heads) in layer.chunks(per_row).enumerate().map(|(i, heads)| (i * per_row, heads)) {
            let titles = (0..heads.len()).map(|i| format!("layer {} head {}", l + 1, first + i + 1));
            let titles: Vec<String> = titles.map(|title| pad(&title, width)).collect();
            let _ = writeln!(picture, "\n{}", titles.join("  ").trim_end());
            let header: String = tokens.iter().map(|c| format!("{c} ")).collect();
            let headers: Vec<String> = heads.iter().map(|_| format!("  {header}{rest}")).collect();
            let _ = writeln!(picture, "{}", headers.join("  ").trim_end());
            for (from, token) in tokens.iter().enumerate() {
                let rows: Vec<String> = heads
                    .iter()
                    .map(|head| {
                        let seen = head[from][..=from]
                            .iter()
                            .map(|w| if colours { shade(*w, "  ") } else { ramp(*w).to_string().repeat(2) });
                        let unseen = "  ".repeat(len - 1 - from);
                        format!("{token} {}{unseen}{rest}", seen.collect::<String>())
                    })
                    .collect();
                let _ = writeln!(picture, "{}", rows.join("  ").trim_end());
            }
        }
    }
    picture += &legend(colours);
    picture
}

fn pad(text: &str, width: usize) -> String {
    let text: String = text.chars().take(width).collect();
    format!("{text:<width$}")
}

/// The ramp from nothing to everything.
fn legend(colours: bool) -> String {
    let steps = (0..=20).map(|i| i as f32 / 20.0);
    let steps: String = steps.map(|w| if colours { shade(w, " ") } else { ramp(w).to_string() }).collect();
    format!("\n0 {steps} 1\n")
}

/// Shades of blue from black to white among the 256 colours of a terminal, by rising lightness.
const BLUES: [u8; 10] = [233, 17, 18, 25, 26, 33, 39, 81, 159, 231];

/// `text` on a background that grows lighter with the weight.
fn shade(weight: f32, text: &str) -> String {
    let step = step(weight, BLUES.len());
    let ink = if step < 6 { 255 } else { 232 };
    format!("\u{1b}[48;5;{}m\u{1b}[38;5;{ink}m{text}\u{1b}[0m", BLUES[step])
}

/// The same in characters.
fn ramp(weight: f32) -> char {
    const RAMP: [char; 10] = ['.', ':', '-', '=', '+', '*', 'o', '#', '%', '@'];
    RAMP[step(weight, RAMP.len())]
}

/// The step of `n` for a weight in [0, 1]. By its root, so that attention spread over many tokens shows too.
fn step(weight: f32, n: usize) -> usize {
    ((weight.sqrt() * n as f32) as usize).min(n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_without_colours_has_no_escapes() {
        let head = vec![vec![1.0, 0.0], vec![0.25, 0.75]];
        let report = Report { tokens: vec!["⏎".into(), "a".into()], layers: vec![vec![head]] };
        let plain = picture(&report, false);
        assert!(plain.contains("⏎ @@\na **%%\n"), "{plain}");
        assert!(!plain.contains('\u{1b}'));
        assert!(picture(&report, true).contains('\u{1b}'));
    }
}
