//! `weft bench`.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use weft_model::bench::{self, Effort, Figure, Machine, Section, shapes};

use crate::failure::usage;
use crate::figures::Look;
use crate::output::{colours_on_stdout, is_quiet, say, stdout, tell};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft bench                                     one or two minutes
  weft bench --quick                             some 20 seconds
  weft bench --json --threads 4 > figures.json

Each speed stands beside the limit it has, measured here and now: arithmetic owes the rate of multiply-adds, what passes over
memory the bandwidth of the level its data lies in. Run it on a quiet machine.

The object of --json: weft (version), quick, machine {processor, simd, roofs: for each number of threads {threads,
fma_gflops, levels: [{level, bytes, read_gbps, update_gbps}]}}, figures: [{section, name, threads, runs, median_s, best_s,
work (operations or bytes), roof (FMA, L1, L2, L3, DRAM), roof_rate (10^9 a second), fraction (of the median run),
best_fraction, and where there is one: aim, tokens_per_s, peak_bytes}]. Times are in seconds.";

/// Seconds after which nothing new is begun.
const FULL_TIME: f64 = 110.0;
const QUICK_TIME: f64 = 18.0;

/// Texts that are sampled in one call, to show what that gains.
const TOGETHER: usize = 1024;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// In some 20 seconds: times are less certain, and the largest model and kernels are left out
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of tables; described below
    #[arg(long)]
    json: bool,
    /// As little of everything as there can be, to see that it works.
    #[arg(long, hide = true)]
    tiny: bool,
    /// Measures one thing in this process and prints its figure: `step NAME`, `sample NAME` or `together NAME`.
    #[arg(long, hide = true, num_args = 2)]
    only: Option<Vec<String>>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    weft: &'static str,
    quick: bool,
    machine: Machine,
    figures: Vec<Figure>,
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let effort = match args {
        BenchArgs { tiny: true, .. } => Effort::TINY,
        BenchArgs { quick: true, .. } => Effort::QUICK,
        _ => Effort::FULL,
    };
    let all = rayon::current_num_threads();
    if let Some(only) = &args.only {
        let mut out = stdout();
        writeln!(out, "{}", serde_json::to_string(&one(&effort, &only[0], &only[1], all)?)?)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut threads = vec![1, all];
    threads.dedup();
    let look = Look { threads, colours: colours_on_stdout() };
    let mut bench =
        Bench { args, look, progress: Progress::new(), began: Instant::now(), figures: Vec::new() };

    bench.progress.say("the machine");
    let machine = Machine::measure(&bench.look.threads);
    bench.print(|look| look.machine(&machine))?;
    bench.whole("step", Section::Step, &effort)?;
    bench.whole("sample", Section::Sample, &effort)?;
    let threads = bench.look.threads.clone();
    bench.kernels(Section::Matmul, |each| bench::matmul(&effort, &threads, each))?;
    bench.kernels(Section::Attention, |each| bench::attention(&effort, &threads, each))?;
    bench.kernels(Section::Rows, |each| bench::rows(&effort, &machine, &threads, each))?;
    bench.progress.finish();
    if args.json {
        let (weft, quick) = (env!("CARGO_PKG_VERSION"), args.quick);
        let report = Report { weft, quick, machine, figures: bench.figures };
        let mut out = stdout();
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One figure of a named shape, whose peak of memory is that of this process.
fn one(effort: &Effort, what: &str, name: &str, threads: usize) -> anyhow::Result<Figure> {
    let shape = shapes::find(name).ok_or_else(|| usage("--only: there is no such shape"))?;
    Ok(match what {
        "step" => bench::train_step(effort, &shape, threads)?,
        "sample" => bench::sample(effort, &shape, threads)?,
        "together" => bench::sample_together(effort, &shape, threads, TOGETHER)?,
        _ => return Err(usage("--only: step, sample or together")),
    })
}

/// The tables so far.
struct Bench<'a> {
    args: &'a BenchArgs,
    look: Look,
    progress: Progress,
    began: Instant,
    figures: Vec<Figure>,
}

/// The time is up.
struct Late;

impl Bench<'_> {
    fn is_late(&self) -> bool {
        let time = if self.args.quick { QUICK_TIME } else { FULL_TIME };
        self.began.elapsed().as_secs_f64() > time
    }

    /// Prints a table, unless the product is JSON.
    fn print(&self, table: impl FnOnce(&Look) -> String) -> anyhow::Result<()> {
        if !self.args.json {
            return self.progress.aside(|| {
                let mut out = stdout();
                writeln!(out, "{}", table(&self.look))?;
                Ok(out.flush()?)
            });
        }
        Ok(())
    }

    /// Figures of whole models, each measured in a process of its own: its memory is then nobody else's.
    fn whole(&mut self, what: &str, section: Section, effort: &Effort) -> anyhow::Result<()> {
        let names: Vec<&str> = shapes::all().iter().take(effort.shapes).map(|shape| shape.name).collect();
        let mut wanted: Vec<(&str, &str)> = names.iter().map(|name| (what, *name)).collect();
        if section == Section::Sample {
            wanted.push(("together", names[0]));
        }
        let first = self.figures.len();
        for (what, name) in wanted {
            // With little time, what people get: all threads.
            let skip = if self.args.quick { self.look.threads.len() - 1 } else { 0 };
            for &threads in &self.look.threads[skip..] {
                if self.is_late() {
                    say!("the time is up: {what} of {name} is left out");
                    continue;
                }
                self.progress.say(&format!("{what} of {name}, threads: {threads}"));
                match self.child(what, name, threads) {
                    Ok(figure) => self.figures.push(figure),
                    Err(error) => say!("{what} of {name} is left out: {error}"),
                }
            }
        }
        self.print_section(section, first)
    }

    /// Runs `weft bench --only` and reads its figure.
    fn child(&self, what: &str, name: &str, threads: usize) -> anyhow::Result<Figure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--only", what, name, "--threads", &threads.to_string()]);
        command.args(self.args.quick.then_some("--quick"));
        command.args(self.args.tiny.then_some("--tiny"));
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        anyhow::ensure!(output.status.success(), "its process ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("its figure is not JSON")
    }

    /// Figures of kernels, until the time is up.
    fn kernels(
        &mut self,
        section: Section,
        measure: impl FnOnce(&mut dyn FnMut(Figure) -> Result<(), Late>) -> Result<(), Late>,
    ) -> anyhow::Result<()> {
        let first = self.figures.len();
        let result = measure(&mut |figure| {
            self.progress.say(&format!("{}, threads: {}", figure.name, figure.threads));
            self.figures.push(figure);
            if self.is_late() { Err(Late) } else { Ok(()) }
        });
        if result.is_err() {
            say!("the time is up: some kernels are left out");
        }
        self.print_section(section, first)
    }

    fn print_section(&self, section: Section, first: usize) -> anyhow::Result<()> {
        match &self.figures[first..] {
            [] => Ok(()),
            figures => self.print(|look| look.section(section, figures)),
        }
    }
}

/// What is being measured, on a terminal.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new() -> Progress {
        let visible = stderr().is_terminal() && !is_quiet();
        if !visible {
            tell!("measuring; this takes a while");
        }
        Progress(visible.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise}  {msg}");
            bar.set_style(style.expect("a template that is always the same"));
            bar
        }))
    }

    /// No thread turns the spinner: it would be measured.
    fn say(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_string());
            bar.tick();
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }

    /// Runs `f` while nothing is shown.
    fn aside<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }
}
