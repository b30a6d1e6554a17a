//! `weft verify`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::Value;
use weft_model::checkpoint::{Checkpoint, hash_weights};

use crate::load::{self, Loaded};
use crate::output::{escaped, grouped, stdout, tell};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft verify runs/names runs/names-2
  weft verify runs/a/last.safetensors runs/b/last.safetensors

Ends with 0 if configuration, vocabulary and every bit of every tensor are the same, else with 1 and the first difference.
Evaluation lines of metrics.jsonl hold the same hash of the weights as is printed here.";

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A model file (.safetensors), or a run directory for its best model
    #[arg(value_name = "MODEL|DIR")]
    a: PathBuf,
    /// What to compare it with
    #[arg(value_name = "MODEL|DIR")]
    b: PathBuf,
}

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (a, b) = (load::model(&args.a)?, load::model(&args.b)?);
    let name = |loaded: &Loaded| format!("`{}`", escaped(&loaded.path.to_string_lossy()));
    let (name_a, name_b) = (name(&a), name(&b));
    let (a, b) = (a.checkpoint, b.checkpoint);
    if let Some((key, a, b)) = other_setting(&a, &b)? {
        bail!("{name_a} and {name_b} are different models\n{key} is {a} and {b}");
    }
    if a.description.vocab != b.description.vocab {
        bail!("{name_a} and {name_b} have different vocabularies");
    }
    match (a.moments.len(), b.moments.len()) {
        (0, 0) => {}
        (_, 0) => tell!("note: only {name_a} holds the state of the optimiser: the weights are compared"),
        (0, _) => tell!("note: only {name_b} holds the state of the optimiser: the weights are compared"),
        _ => {}
    }
    let (a_step, b_step) = (a.description.step, b.description.step);
    if a_step != b_step {
        tell!("note: {name_a} is of step {a_step}, {name_b} of step {b_step}");
    }
    let (tensors_a, tensors_b) = (tensors(&a), tensors(&b));
    let pairs: Vec<_> = tensors_a.iter().zip(&tensors_b).collect();
    let mut different = pairs.iter().filter_map(|(a, b)| Some((a, b, first_difference(a.values, b.values)?)));
    if let Some((a, b, at)) = different.next() {
        let n = 1 + different.count();
        let place = position(at, &a.shape);
        bail!(
            "{name_a} and {name_b} differ in {n} of {} tensors\nfirst in {} at {place}: {:?} and {:?}",
            pairs.len(),
            escaped(&a.name),
            a.values[at],
            b.values[at]
        );
    }
    let n_numbers = pairs.iter().map(|(a, _)| a.values.len()).sum();
    let (n_tensors, hash) = (grouped(pairs.len()), hash_weights(&a.params));
    let mut out = stdout();
    writeln!(out, "the same: {n_tensors} tensors, {} numbers, weights {hash:016x}", grouped(n_numbers))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The first key of the configuration in which two models differ, with both values.
fn other_setting(a: &Checkpoint, b: &Checkpoint) -> anyhow::Result<Option<(String, Value, Value)>> {
    let table = |checkpoint: &Checkpoint| serde_json::to_value(&checkpoint.description.model);
    let (a, b) = (table(a)?, table(b)?);
    let keys = a.as_object().into_iter().flatten();
    let other = keys.map(|(key, value)| (key, value, &b[key])).find(|(_, a, b)| a != b);
    Ok(other.map(|(key, a, b)| (key.clone(), a.clone(), b.clone())))
}

struct Named<'a> {
    name: String,
    shape: Vec<usize>,
    values: &'a [f32],
}

/// Weights, then what there is of moments: of two models with the same weights and with moments in one only, the shorter list is the
/// beginning of the other.
fn tensors(checkpoint: &Checkpoint) -> Vec<Named<'_>> {
    let layout = checkpoint.params.layout();
    let of = |kind: Option<usize>| {
        layout.ids().map(move |id| {
            let (name, shape) = (layout.name(id), layout.shape(id).to_vec());
            match kind {
                None => Named { name: format!("`{name}`"), shape, values: checkpoint.params.get(id) },
                Some(k) => {
                    let values = &checkpoint.moments[k][layout.range(id)];
                    Named { name: format!("moment {} of `{name}`", k + 1), shape, values }
                }
            }
        })
    };
    of(None).chain((0..checkpoint.moments.len()).flat_map(|k| of(Some(k)))).collect()
}

/// The index of the first number whose bits differ.
fn first_difference(a: &[f32], b: &[f32]) -> Option<usize> {
    a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits())
}

/// The place of element `at` of a tensor of this shape, as `[2, 5]`.
fn position(mut at: usize, shape: &[usize]) -> String {
    let mut place: Vec<String> = shape
        .iter()
        .rev()
        .map(|&n| {
            let index = at % n;
            at /= n;
            index.to_string()
        })
        .collect();
    place.reverse();
    format!("[{}]", place.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_row_major() {
        assert_eq!(position(17, &[3, 4, 2]), "[2, 0, 1]");
        assert_eq!(position(2, &[5]), "[2]");
    }

    #[test]
    fn zeros_of_both_signs_differ() {
        assert_eq!(first_difference(&[1.0, 0.0], &[1.0, -0.0]), Some(1));
        assert_eq!(first_difference(&[1.0, 0.0], &[1.0, 0.0]), None);
    }
}
