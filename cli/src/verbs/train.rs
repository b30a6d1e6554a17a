//! `weft train`.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use weft_model::checkpoint::{Checkpoint, DataDescription, hash_weights};
use weft_model::config::Precision;
use weft_model::evaluate::{Evaluation, evaluate_unless};
use weft_model::generate::{Sample, SampleConfig, generate};
use weft_model::health::{SPIKE, Spikes};
use weft_model::memory::{self, Bytes};
use weft_model::model::Model;
use weft_model::run::{
    BEST, CONFIG, DataConfig, LAST, METRICS, Metrics, MetricsLog, Needs, RunConfig, RunDir, describe_data,
    free_disk,
};
use weft_model::text::{Corpus, Dataset, Format, SharedDocuments, Split, SplitName};
use weft_model::train::{Event, Progress, Step, Trainer};

use crate::bar::{Bar, clock, short};
use crate::failure::usage;
use crate::output::{escaped, grouped, is_quiet, say, shown, stdout, tell};
use crate::settings::{BUILT_IN, Settings};
use crate::signal::Stop;
use crate::{ladder, load, profile};

/// Below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  weft train                                     the built-in names, into runs/names
  weft train poems.txt -o runs/poems --max-time 5m
  weft train names.txt --n-layer 2 --n-embd 32 --lr 3e-3 --max-iters 2_000
  weft train --resume runs/names --max-iters 20k

Values may be written 1e-3, 3_000 or 64k. The 20 samples at the end go to standard output, the rest to standard error.";

/// Samples at the end, of lines; of running text it is one.
const SAMPLES: usize = 20;
/// Samples on the way, and how long they are in running text.
const SAMPLES_ON_THE_WAY: usize = 5;
const CHARS_ON_THE_WAY: usize = 72;

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// A UTF-8 text file: one document a line, or running text [default: 32,000 built-in names]
    file: Option<PathBuf>,
    /// Where the run goes [default: runs/NAME after the file, numbered if taken]
    #[arg(long, short, value_name = "DIR", conflicts_with = "resume")]
    out_dir: Option<PathBuf>,
    /// Go on with the run in DIR; settings that would change it are refused
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Replace the run that is in the directory; with --resume, accept that the data changed
    #[arg(long)]
    force: bool,
    /// A TOML file with the sections model, train and data, such as a run's config.toml; flags go over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say at the end where the time went: by operation, beside what the machine could do
    #[arg(long)]
    profile: bool,
    /// When a step is not finite, end and say which operation it comes from, what that read, and in which text
    #[arg(long)]
    detect_anomaly: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// A run that is about to begin, or to go on.
struct Run {
    dir: RunDir,
    config: RunConfig,
    description: DataDescription,
    trainer: Trainer,
}

pub(crate) fn run(mut args: TrainArgs) -> anyhow::Result<ExitCode> {
    let mut settings = std::mem::take(&mut args.settings).over(Settings::default());
    if let Some(config) = &args.config {
        settings = settings.over(Settings::read(config)?);
    }
    let mut run = match &args.resume {
        None => begin(&args, &settings, None)?,
        Some(dir) => resume(&args, &settings, dir)?,
    };
    // From here on a signal stops after a step, with a checkpoint; before, it just ends the process.
    let stop = Stop::on_signals()?;
    load::notes(run.trainer.notes());
    if !run.config.train.precision.is_native() {
        tell!(
            "note: this processor has no instruction for bf16: the rounded numbers are multiplied as f32, which is slower"
        );
    }
    let asked = stop.clone();
    run.trainer.stop_when(move || asked.code().is_some());
    if args.profile {
        run.trainer.start_profile();
    }
    if args.detect_anomaly {
        run.trainer.detect_anomalies();
    }
    if train(&mut run, &stop)?.is_none() {
        conclude(run, &stop)?;
    }
    Ok(stop.code().map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// A new run, in a directory that is ours already or in one to be made.
fn begin(args: &TrainArgs, settings: &Settings, dir: Option<RunDir>) -> anyhow::Result<Run> {
    let in_config = settings.data.file.as_ref().filter(|file| *file != BUILT_IN).map(PathBuf::from);
    let file = args.file.clone().or(in_config);
    let lossy = settings.data.lossy.unwrap_or(false);
    if file.is_none() && settings.data.format == Some(Format::Text) {
        return Err(usage("--format text is for a file of yours: the built-in names are lines"));
    }
    // What does not depend on the data is found before they are read.
    let nothing = DataConfig { file: None, format: Format::Lines, lossy, split: Default::default() };
    settings.resolve(nothing, 1, 1).validate()?;
    let corpus = load::corpus(file.as_deref(), settings.data.format, lossy)?;
    let data = DataConfig {
        file: file.as_ref().map(|file| file.to_string_lossy().into_owned()),
        format: corpus.format(),
        lossy,
        split: settings.data.split.unwrap_or_default(),
    };
    let seed = settings.resolve(data.clone(), 1, 1).train.seed;
    let dataset = Dataset::new(&corpus, seed, data.split)?;
    let config = settings.resolve(data, dataset.vocab().len(), dataset.longest());
    config.validate()?;
    let needs = Needs::new(&config, &dataset);
    needs.check_memory()?;
    let dir = match (dir, &args.out_dir) {
        (Some(dir), _) => dir,
        (None, Some(path)) => RunDir::create(path, args.force)?,
        (None, None) => RunDir::create(free_directory(file.as_deref()), args.force)?,
    };
    needs.check_disk(&dir)?;
    dir.save_config(&Settings::of(&config).to_toml())?;
    load::say_corpus(&corpus);
    load::notes(dataset.notes());
    announce(&corpus, &dataset, &config, &needs, dir.path());
    tell!("run in {}", escaped(&dir.path().to_string_lossy()));
    let description = describe_data(&config.data, &corpus, seed);
    let (model, params) = Model::new(&config.model, seed)?;
    let mut trainer = Trainer::new(config.train.clone(), model, params, dataset)?;
    // The first `best` is there a moment before the first `last`, and a run that was stopped between the two begins again.
    trainer.resume(Progress { best: dir.best()?, ..Progress::default() }, &[[]; 0]);
    Ok(Run { dir, config, description, trainer })
}

/// The first of runs/NAME, runs/NAME-2, runs/NAME-3 … that holds no run.
fn free_directory(file: Option<&Path>) -> PathBuf {
    let stem = file.map_or("names".into(), |file| file.file_stem().unwrap_or_default().to_string_lossy());
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = stem.chars().map(safe).take(100).collect();
    // `..` and `.` are names of files without their ending, too.
    let name = match name.trim_start_matches('.') {
        "" => "data",
        name => name,
    };
    let numbered = |n: usize| match n {
        1 => Path::new("runs").join(name),
        n => Path::new("runs").join(format!("{name}-{n}")),
    };
    (1..).map(numbered).find(|path| !RunDir::holds_run(path)).expect("numbers do not end")
}

/// The plan, before anything is computed.
fn announce(corpus: &Corpus, data: &Dataset, config: &RunConfig, needs: &Needs, directory: &Path) {
    if is_quiet() {
        return;
    }
    let count = |split: &Split| match corpus.format() {
        Format::Lines => split.n_documents(),
        Format::Text => split.n_targets() + 1,
    };
    let [train, val, test] = [data.train(), data.val(), data.test()].map(|split| grouped(count(split)));
    let unit = match corpus.format() {
        Format::Lines => "lines",
        Format::Text => "characters",
    };
    let (vocab, name) = (data.vocab().len(), escaped(corpus.name()));
    say!("data  {name}: {train} {unit} to train on, {val} to validate, {test} to test; {vocab} tokens");
    let SharedDocuments { repeated, val_in_train, test_in_train } = data.shared_documents();
    if repeated > 0 {
        let [repeated, val, test] = [repeated, val_in_train, test_in_train].map(grouped);
        say!(
            "      {repeated} lines repeat an earlier one; {val} that validate and {test} that test are also trained on"
        );
    }
    let model = &config.model;
    let layout = Model::layout(model).map_or(0, |layout| layout.elements());
    say!(
        "model {} parameters: n_layer {}, n_head {}, n_embd {}, block_size {}",
        grouped(layout),
        model.n_layer,
        model.n_head,
        model.n_embd,
        model.block_size
    );
    let train = &config.train;
    say!(
        "train {} updates of {} × {}, learning rate {}, seed {}",
        grouped(train.max_iters as usize),
        train.batch_size * train.grad_accum,
        if corpus.format() == Format::Lines {
            "lines".into()
        } else {
            format!("{} tokens", model.block_size)
        },
        train.learning_rate,
        train.seed
    );
    let of = |free: Option<u64>| free.map_or_else(String::new, |free| format!(" of {} free", Bytes(free)));
    say!(
        "needs {} of memory{} (weights {}, optimiser {}, activations {}, data {}); {} of disk{}",
        Bytes(needs.memory()),
        of(memory::free()),
        Bytes(needs.weights),
        Bytes(needs.optimizer),
        Bytes(needs.activations),
        Bytes(needs.data),
        Bytes(needs.disk),
        of(free_disk(directory))
    );
}

/// A run to go on with.
fn resume(args: &TrainArgs, settings: &Settings, path: &Path) -> anyhow::Result<Run> {
    let dir = RunDir::open(path)?;
    if dir.has_only_begun()? {
        let stored = Settings::read(&dir.file(CONFIG))?;
        say!("warning: {} has no checkpoint yet: the run begins again", escaped(&path.to_string_lossy()));
        return begin(args, &settings.clone().over(stored), Some(dir));
    }
    let (last, progress, problems) = dir.load()?;
    for problem in problems {
        let problem = problem.to_string();
        say!("warning: {}", problem.lines().next().unwrap_or_default());
    }
    let Checkpoint { description, model, params, moments } = last;
    let level = weft_tensor::simd::level().name();
    if description.simd != level {
        say!(
            "warning: the run was trained with {} and goes on with {level}: bits may differ",
            escaped(&description.simd)
        );
    }
    let config_file = dir.file(CONFIG);
    let mut stored = if config_file.exists() {
        Settings::read(&config_file)?
    } else {
        say!("warning: {CONFIG} is missing: max_iters and eval_interval have their defaults");
        Settings::default()
    };
    let named = stored.data.file.clone().filter(|file| file != BUILT_IN);
    let file = args.file.clone().or(named.map(PathBuf::from));
    let data = DataConfig {
        file: file.as_ref().map(|file| file.to_string_lossy().into_owned()),
        format: description.data.format,
        lossy: description.data.lossy,
        split: description.data.split,
    };
    let mut config = RunConfig { model: description.model.clone(), train: description.train.clone(), data };
    let train = &mut config.train;
    let mut given = settings.clone();
    // These may change: they do not change what a step computes.
    train.max_iters =
        given.train.max_iters.take().or(stored.train.max_iters.take()).unwrap_or(train.lr_decay_iters);
    train.max_time = given.train.max_time.take().or(stored.train.max_time.take()).unwrap_or(0.0);
    train.keep = given.train.keep.take().or(stored.train.keep.take()).unwrap_or(0);
    let often = given.train.eval_interval.take().or(stored.train.eval_interval.take());
    train.eval_interval = often.unwrap_or((train.max_iters / 10).max(1));
    (given.data.file, stored.data.file) = (None, None);
    let trained = Settings::of(&config);
    agree(&given, &trained, "here", "leave it out to go on with the run, or begin another with -o DIR")?;
    let config_name = escaped(&config_file.to_string_lossy());
    agree(&stored, &trained, &format!("in {config_name}"), "put it back to go on with the run")?;
    config.validate()?;

    let corpus = load::corpus(file.as_deref(), Some(description.data.format), description.data.lossy)?;
    if file.is_none() && !config_file.exists() && !is_trained_on(&description.data, &corpus) {
        let path = escaped(&path.to_string_lossy());
        anyhow::bail!(
            "{CONFIG} is missing, which names the data of the run\nname them: weft train FILE --resume {path}"
        );
    }
    let found = describe_data(&config.data, &corpus, description.data.seed);
    if found.fingerprint != description.data.fingerprint {
        let name = escaped(corpus.name());
        if !args.force {
            anyhow::bail!(
                "`{name}` is not the file that the run was trained on: its fingerprint is {}, not {}\n\
                 name the old file, or go on with this one by --force",
                found.fingerprint,
                escaped(&description.data.fingerprint)
            );
        }
        say!("warning: `{name}` is not the file that the run was trained on");
    }
    let dataset =
        Dataset::with_vocab(&corpus, description.vocab, description.data.seed, description.data.split)?;
    let needs = Needs::new(&config, &dataset);
    needs.check_memory()?;
    needs.check_disk(&dir)?;
    load::say_corpus(&corpus);
    load::notes(dataset.notes());
    dir.save_config(&Settings::of(&config).to_toml())?;
    tell!(
        "going on with {} at step {} of {}",
        escaped(&path.to_string_lossy()),
        progress.step,
        config.train.max_iters
    );
    let mut trainer = Trainer::new(config.train.clone(), model, params, dataset)?;
    trainer.resume(progress, &moments);
    Ok(Run { dir, config, description: found, trainer })
}

/// Refuses settings that are not those that a run was trained with.
fn agree(settings: &Settings, trained: &Settings, place: &str, advice: &str) -> anyhow::Result<()> {
    let differences = settings.differences(trained);
    let Some((key, here, there)) = differences.first() else { return Ok(()) };
    let more = match differences.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Err(usage(format!("{key} is {here} {place} and {there} in the run{more}\n{advice}")))
}

/// Whether a run's data are these.
fn is_trained_on(data: &DataDescription, corpus: &Corpus) -> bool {
    data.fingerprint == format!("{:016x}", corpus.fingerprint())
}

/// Trains until the end, or until a signal: then with its exit code.
fn train(run: &mut Run, stop: &Stop) -> anyhow::Result<Option<u8>> {
    let Run { dir, config, description, trainer } = run;
    let first = trainer.progress().step;
    let mut log = MetricsLog::open(dir.file(METRICS), first)?;
    let mut bar = Bar::new(first, config.train.max_iters, config.train.max_time);
    let (mut spikes, mut warned) = (Spikes::default(), false);
    let stopped = loop {
        if let Some(code) = stop.code() {
            break Some(code);
        }
        let event = match trainer.next() {
            None => break stop.code(),
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                bar.finish();
                log.flush()?;
                return Err(error.into());
            }
        };
        match event {
            Event::Step(step) => {
                bar.step(&step);
                if let Some(forecast) = bar.forecast(&step) {
                    bar.line(&forecast);
                }
                let z = spikes.z(step.train_loss).filter(|z| *z > SPIKE && !warned);
                if let Some(z) = z {
                    bar.warn(&format!(
                        "warning: step {}: loss {:.3} is {z:.0} standard deviations above the last 128; more are not told",
                        step.step, step.train_loss
                    ));
                    warned = true;
                }
                log.step(metrics(&step))?;
            }
            Event::Skipped { step, parameter } => {
                let place = parameter.map(|name| format!(" in `{name}`")).unwrap_or_default();
                bar.warn(&format!(
                    "warning: step {}: loss {}, gradient norm {}{place}: the update is left out",
                    step.step, step.train_loss, step.grad_norm
                ));
                log.step(metrics(&step))?;
            }
            Event::Evaluated { step, val, best } => {
                log.evaluated(val.map(|val| val.loss), hash_weights(trainer.params()));
                if let Some(val) = val {
                    let mark = if best { "  best so far" } else { "" };
                    bar.line(&format!("step {step}  validation loss {:.4}{mark}", val.loss));
                }
                // In this order: were it stopped between the two, the steps up to here would be made again and find the same.
                if best {
                    dir.save_best(trainer, description, val.map(|val| val.loss))?;
                }
                log.flush()?;
                dir.save_last(trainer, description)?;
                if !is_quiet() && step < config.train.max_iters {
                    bar.line(&format!("  {}", samples_on_the_way(trainer)?));
                }
            }
        }
    };
    bar.finish();
    log.flush()?;
    let step = trainer.progress().step;
    if stopped.is_some() {
        dir.save_last(trainer, description)?;
        let path = escaped(&dir.path().to_string_lossy());
        tell!("stopped after step {step}, all saved: weft train --resume {path} goes on");
    } else if step > first {
        tell!(
            "{} updates in {}, {} tokens/s",
            grouped((step - first) as usize),
            clock(bar.elapsed()),
            short(bar.tokens_per_s())
        );
    }
    if let Some(profile) = trainer.profile().filter(|profile| profile.steps > 0) {
        say!("\n{}", profile::table(&profile));
    }
    Ok(stopped)
}

fn metrics(step: &Step) -> Metrics {
    let finite = |x: f64| x.is_finite().then_some(x);
    Metrics {
        step: step.step,
        train_loss: finite(step.train_loss),
        val_loss: None,
        weights: None,
        lr: step.lr,
        grad_norm: finite(step.grad_norm),
        tokens_per_s: (step.tokens as f64 / step.time.as_secs_f64().max(1e-9)).round(),
    }
}

/// A few samples on one line.
fn samples_on_the_way(trainer: &Trainer) -> anyhow::Result<String> {
    let data = trainer.data();
    let lines = data.vocab().boundary().is_some();
    let n = if lines { SAMPLES_ON_THE_WAY } else { 1 };
    let config = SampleConfig {
        max_new_tokens: CHARS_ON_THE_WAY,
        seed: trainer.config().seed,
        ..SampleConfig::default()
    };
    let samples = generate(trainer.model(), trainer.params(), data.vocab(), &[], 0, n, &config)?;
    let texts: Vec<String> = samples
        .iter()
        .map(|sample| Ok(escaped(&data.vocab().decode(&sample.tokens)?)))
        .collect::<Result<_, weft_model::Error>>()?;
    Ok(texts.join(" · "))
}

/// What a finished run shows: where the best model stands on the ladder, and what it writes.
///
/// A signal ends it early.
fn conclude(run: Run, stop: &Stop) -> anyhow::Result<()> {
    let Run { dir, config, trainer, .. } = run;
    if trainer.progress().step == 0 {
        anyhow::bail!("the time was up before the first update\nmake --max-time longer, or leave it out");
    }
    // The best model takes the place of the one that was trained, not another one.
    let data = trainer.into_data();
    let best = dir.file(BEST);
    let Checkpoint { description, model, mut params, .. } =
        Checkpoint::read(if best.exists() { best } else { dir.file(LAST) })?;
    model.prepare_for_inference(&mut params, Precision::F32);
    if !is_quiet() {
        let name = if data.test().is_empty() { SplitName::Train } else { SplitName::Test };
        let split = data.split(name);
        let asked = || stop.code().is_some();
        let Some(Evaluation { loss, tokens, .. }) = evaluate_unless(&model, &params, split, &asked) else {
            return Ok(());
        };
        let rungs = ladder::losses(&data, split);
        let name = if name == SplitName::Test { "test" } else { "training" };
        say!(
            "\nthe model of step {} on the {name} split ({} tokens), in nats per token:",
            description.step,
            grouped(tokens)
        );
        say!("{}{}\n", ladder::table(&rungs, loss), ladder::verdict(&rungs, loss));
    }
    let config = SampleConfig { seed: config.train.seed, ..SampleConfig::default() };
    let n = if data.vocab().boundary().is_some() { SAMPLES } else { 1 };
    let samples = generate(&model, &params, data.vocab(), &[], 0, n, &config)?;
    let to_terminal = std::io::stdout().is_terminal();
    let mut out = stdout();
    for sample in &samples {
        writeln!(out, "{}", shown(&data.vocab().decode(&sample.tokens)?, to_terminal))?;
    }
    out.flush()?;
    drop(out);
    if to_terminal {
        tell!("");
    }
    if data.vocab().boundary().is_some() {
        let n_new = new_samples(&samples, data.train());
        tell!("{n_new} of {n} are not in the training data.");
    }
    let path = escaped(&dir.path().to_string_lossy());
    tell!("More: weft sample {path}");
    Ok(())
}

/// How many samples are no line of the training split.
fn new_samples(samples: &[Sample], train: &Split) -> usize {
    let wanted: BTreeSet<&[u32]> = samples.iter().map(|sample| sample.tokens.as_slice()).collect();
    let line =
        |d| train.document(d).get(1..).and_then(|rest| rest.split_last()).map_or(&[][..], |(_, line)| line);
    let known: BTreeSet<&[u32]> =
        (0..train.n_documents()).map(line).filter(|line| wanted.contains(line)).collect();
    samples.iter().filter(|sample| !known.contains(sample.tokens.as_slice())).count()
}
