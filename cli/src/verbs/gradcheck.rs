//! `weft gradcheck`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weft_autograd::gradcheck::suite;
use weft_model::config::ModelConfig;
use weft_model::directional::directional;
use weft_model::model::Model;
use weft_model::run::{DataConfig, RunConfig};
use weft_model::text::{BatchShape, Corpus, Dataset, Format, SplitFractions, TrainBatches, Trim};

use crate::load;
use crate::output::{stdout, tell};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft gradcheck                                 every operation, and a fresh model
  weft gradcheck runs/names                      and the trained one";

/// Random directions along which the loss of a whole model is checked.
const DIRECTIONS: u32 = 3;
/// Rows of the batch for that.
const ROWS: usize = 4;

#[derive(Debug, Args)]
pub(crate) struct GradcheckArgs {
    /// A model file or run directory: check the gradient of its loss [default: a fresh model of default size]
    #[arg(value_name = "MODEL|DIR")]
    model: Option<PathBuf>,
}

pub(crate) fn run(args: &GradcheckArgs) -> anyhow::Result<ExitCode> {
    // First what can fail for want of a file.
    let (config, params, data) = match &args.model {
        None => {
            let data = Dataset::new(&Corpus::embedded(), 0, SplitFractions::default())?;
            let source = DataConfig {
                file: None,
                format: Format::Lines,
                lossy: false,
                split: SplitFractions::default(),
            };
            let config = RunConfig::for_data(source, data.vocab().len(), data.longest()).model;
            (config.clone(), Model::new::<f32>(&config, 0)?.1, data)
        }
        Some(path) => {
            let loaded = load::model(path)?;
            let description = loaded.checkpoint.description;
            let corpus = load::own_data(&loaded.path, &description.data)?;
            let data = Dataset::with_vocab(
                &corpus,
                description.vocab,
                description.data.seed,
                description.data.split,
            )?;
            (description.model, loaded.checkpoint.params, data)
        }
    };
    let mut out = stdout();
    writeln!(out, "{:<16} {:>6} {:>11} {:>8}  ", "operation", "checks", "derivatives", "worst")?;
    tell!(
        "(worst: the largest difference from the central difference, in units of what is accepted; 1 is a miss)"
    );
    let mut misses = 0;
    for report in suite() {
        let verdict = match &report.failure {
            None => "ok".to_string(),
            Some(failure) => {
                misses += 1;
                format!("MISS: {failure}")
            }
        };
        let (checked, name) = (report.checked, report.name);
        let (checks, n) = (report.checks, checked.comparisons);
        writeln!(out, "{name:<16} {checks:>6} {n:>11} {:>8.5}  {verdict}", checked.worst)?;
    }
    misses += whole_model(&mut out, &config, &params.cast(), &data)?;
    out.flush()?;
    if misses > 0 {
        anyhow::bail!("{misses} gradients are wrong");
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the gradient of the loss of a whole model along random directions, and returns how many are missed.
fn whole_model(
    out: &mut impl std::io::Write,
    config: &ModelConfig,
    params: &weft_autograd::Params<f64>,
    data: &Dataset,
) -> anyhow::Result<usize> {
    let (model, _) = Model::new::<f64>(config, 0)?;
    let shape = BatchShape { batch_size: ROWS, block_size: config.block_size, trim: Trim::Off };
    let batch = TrainBatches::new(data.train(), 0, shape, 1).batch(0, 0);
    let mut misses = 0;
    writeln!(
        out,
        "\n{:<16} {:>18} {:>18} {:>8}",
        "loss of the model", "central difference", "gradient", "worst"
    )?;
    for index in 0..DIRECTIONS {
        let found = directional(&model, params, &batch, index);
        let verdict = if found.agrees() { "ok" } else { "MISS" };
        misses += usize::from(!found.agrees());
        let name = format!("direction {}", index + 1);
        writeln!(
            out,
            "{name:<17} {:>18.12} {:>18.12} {:>8.5}  {verdict}",
            found.numeric,
            found.analytic,
            found.excess()
        )?;
    }
    Ok(misses)
}
