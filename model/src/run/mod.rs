//! A run directory: one training run, from its configuration to its best weights.
//!
//! - `config.toml`: the settings, every default filled in;
//! - `metrics.jsonl`: how it went, see [`Metrics`];
//! - `last.safetensors`: weights, optimiser, position: enough to go on exactly;
//! - `previous.safetensors`: `last` as it was one save earlier, in case a disk damages it;
//! - `step-N.safetensors`: `last` as it was after N updates, for the newest few if the configuration wants to [`keep`] them;
//!   `kept.json` says which of them are the run's own, so that no other file is ever removed;
//! - `best.safetensors`: the weights with the lowest validation loss, with vocabulary and configuration: enough to use the model.
//!
//! [`keep`]: crate::config::TrainConfig::keep

mod config;
mod metrics;
mod needs;

pub use config::{DataConfig, RunConfig};
pub use metrics::{Metrics, MetricsLog};
pub use needs::{Needs, free_disk};

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::{Checkpoint, DataDescription, Description, save};
use crate::files::{DirLock, Disk, FileSystem, link_atomic, save_atomic};
use crate::text::Corpus;
use crate::train::{Progress, Trainer};

/// The settings of the run.
pub const CONFIG: &str = "config.toml";
/// How it went.
pub const METRICS: &str = "metrics.jsonl";
/// To go on from.
pub const LAST: &str = "last.safetensors";
/// To go on from if `last` is damaged.
pub const PREVIOUS: &str = "previous.safetensors";
/// Which files of earlier steps are kept: their names, oldest first.
pub const KEPT: &str = "kept.json";
/// To use.
pub const BEST: &str = "best.safetensors";

/// A run directory that is ours until this is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    fs: Box<dyn FileSystem>,
    /// `last` was found unusable, and must not take the place of `previous`.
    last_is_unusable: Cell<bool>,
    _lock: DirLock,
}

impl RunDir {
    /// Makes a directory (and those above it) for a new run. With `force` one that holds a run already is emptied of it.
    ///
    /// # Errors
    /// [`Error::HoldsRun`] without `force`; [`Error::Locked`], [`Error::Lock`]; [`Error::Save`] if it cannot be made.
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<RunDir, Error> {
        let path = path.as_ref().to_path_buf();
        let name = || path.to_string_lossy().into_owned();
        fs::create_dir_all(&path).map_err(|source| Error::Save { name: name(), source })?;
        let lock = DirLock::acquire(&path)?;
        if RunDir::holds_run(&path) && !force {
            return Err(Error::HoldsRun { name: name() });
        }
        let dir = RunDir { path, fs: Box::new(Disk), last_is_unusable: Cell::new(false), _lock: lock };
        if RunDir::holds_run(&dir.path) {
            let kept = dir.kept()?;
            for file in kept.iter().map(String::as_str).chain([LAST, PREVIOUS, BEST, METRICS, CONFIG, KEPT]) {
                dir.remove(file)?;
            }
        }
        Ok(dir)
    }

    /// Takes the directory of a run, to go on with it.
    ///
    /// # Errors
    /// [`Error::NoRun`] if it holds none; [`Error::Locked`], [`Error::Lock`].
    pub fn open(path: impl AsRef<Path>) -> Result<RunDir, Error> {
        let path = path.as_ref().to_path_buf();
        if !path.is_dir() {
            let source = if path.exists() { io::ErrorKind::NotADirectory } else { io::ErrorKind::NotFound };
            return Err(Error::Read { name: path.to_string_lossy().into_owned(), source: source.into() });
        }
        if !RunDir::holds_run(&path) {
            return Err(Error::NoRun { name: path.to_string_lossy().into_owned() });
        }
        let lock = DirLock::acquire(&path)?;
        Ok(RunDir { path, fs: Box::new(Disk), last_is_unusable: Cell::new(false), _lock: lock })
    }

    /// The same directory, written to through another file system.
    pub fn on(self, fs: impl FileSystem + 'static) -> RunDir {
        RunDir { fs: Box::new(fs), ..self }
    }

    /// Whether there is a run in a directory: anything that training it afresh would destroy.
    pub fn holds_run(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        [LAST, PREVIOUS, BEST, METRICS, CONFIG].iter().any(|file| path.join(file).exists())
    }

    /// Whether the run was stopped before its first checkpoint: there are its settings, and nothing to go on from.
    ///
    /// # Errors
    /// [`Error::Read`] if it cannot be told which files are kept.
    pub fn has_only_begun(&self) -> Result<bool, Error> {
        let kept = self.kept()?;
        let mut checkpoints = kept.iter().map(String::as_str).chain([LAST, PREVIOUS]);
        Ok(self.file(CONFIG).exists() && !checkpoints.any(|file| self.file(file).exists()))
    }

    /// The file to use a model from: `path` itself, or in a directory `best`, else `last`.
    ///
    /// # Errors
    /// [`Error::NoRun`] for a directory with neither.
    pub fn model_file(path: impl AsRef<Path>) -> Result<PathBuf, Error> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Ok(path.to_path_buf());
        }
        let found = [BEST, LAST].into_iter().map(|file| path.join(file)).find(|file| file.exists());
        found.ok_or_else(|| Error::NoRun { name: path.to_string_lossy().into_owned() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `config.toml`.
    ///
    /// # Errors
    /// [`Error::Save`].
    pub fn save_config(&self, toml: &str) -> Result<(), Error> {
        save_atomic(&*self.fs, self.file(CONFIG), |file| file.write_all(toml.as_bytes()))
    }

    /// Writes `last.safetensors`. What was there is from then on `previous.safetensors`, unless [`load`](RunDir::load) could not use it;
    /// and if the configuration wants to keep some, the new one is kept, and those that are too many are removed.
    ///
    /// # Errors
    /// As [`save`]; [`Error::InTheWay`].
    pub fn save_last(&self, trainer: &Trainer, data: &DataDescription) -> Result<(), Error> {
        let description = describe(trainer, data, None);
        // Should this save fail, the one that was fallen back to may be all there is.
        if !self.last_is_unusable.get() {
            // The first has none before it, and where links cannot be made there is just no spare.
            let _ = link_atomic(&*self.fs, &self.file(LAST), &self.file(PREVIOUS));
        }
        save(&*self.fs, self.file(LAST), &description, trainer.params(), Some(trainer.optimizer()))?;
        self.last_is_unusable.set(false);
        match trainer.config().keep {
            0 => Ok(()),
            n => self.keep(description.step, n),
        }
    }

    /// Gives `last` the name of its step, and leaves the newest `n` of such files.
    fn keep(&self, step: u64, n: usize) -> Result<(), Error> {
        let name = format!("step-{step}.safetensors");
        let mut kept = self.kept()?;
        match kept.iter().position(|other| *other == name) {
            // From before a resume.
            Some(at) => drop(kept.remove(at)),
            None if self.file(&name).exists() => {
                return Err(Error::InTheWay { name: self.file(&name).to_string_lossy().into_owned() });
            }
            None => {}
        }
        kept.push(name.clone());
        let too_many: Vec<String> = kept.drain(..kept.len().saturating_sub(n)).collect();
        too_many.iter().try_for_each(|old| self.remove(old))?;
        // Before the file: so there is never one of ours that is not listed.
        let list = serde_json::to_vec(&kept).expect("names are strings");
        save_atomic(&*self.fs, self.file(KEPT), |file| file.write_all(&list))?;
        link_atomic(&*self.fs, &self.file(LAST), &self.file(&name))?;
        let failed = |source| Error::Save { name: self.file(&name).to_string_lossy().into_owned(), source };
        self.fs.sync_directory(&self.path).map_err(failed)
    }

    /// The kept files, oldest first. Only names that [`keep`](RunDir::keep) gives: the list may have been edited.
    ///
    /// A list that cannot be read is an error: taken for an empty one, it would be replaced, and its files never be removed.
    fn kept(&self) -> Result<Vec<String>, Error> {
        let path = self.file(KEPT);
        let failed = |source| Error::Read { name: path.to_string_lossy().into_owned(), source };
        let list = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            // A pipe would be waited for.
            Ok(metadata) if !metadata.is_file() => return Err(failed(io::ErrorKind::InvalidInput.into())),
            _ => fs::read(&path).map_err(failed)?,
        };
        let mut names: Vec<String> = serde_json::from_slice(&list).unwrap_or_default();
        names.retain(|name| {
            let step = name.strip_prefix("step-").and_then(|rest| rest.strip_suffix(".safetensors"));
            step.is_some_and(|step| step.parse::<u64>().is_ok())
        });
        Ok(names)
    }

    /// Bytes of its checkpoints.
    fn size(&self) -> u64 {
        let kept = self.kept().unwrap_or_default();
        let files = [LAST, PREVIOUS, BEST].into_iter().chain(kept.iter().map(String::as_str));
        files.filter_map(|name| Some(fs::metadata(self.file(name)).ok()?.len())).sum()
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        match self.fs.remove(&self.file(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::Save { name: self.file(name).to_string_lossy().into_owned(), source: e })
            }
            _ => Ok(()),
        }
    }

    /// Writes `best.safetensors`; `val_loss` is `None` without a validation split.
    ///
    /// # Errors
    /// As [`save`].
    pub fn save_best(
        &self,
        trainer: &Trainer,
        data: &DataDescription,
        val_loss: Option<f64>,
    ) -> Result<(), Error> {
        save(&*self.fs, self.file(BEST), &describe(trainer, data, val_loss), trainer.params(), None)
    }

    /// Where the run stands: what is in `last` (or, if that is damaged, in `previous`, or in the newest kept file that can be used),
    /// and the validation loss of `best`. With it come the reasons why files could not be used.
    ///
    /// The best loss is not kept in `last` too: so what `last` holds does not depend on how often a run is evaluated.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`Error::NotResumable`]; [`Error::NoCheckpoint`] if neither can be used.
    pub fn load(&self) -> Result<(Checkpoint, Progress, Vec<Error>), Error> {
        let mut problems = Vec::new();
        let kept = self.kept()?;
        let spare = [PREVIOUS].into_iter().chain(kept.iter().rev().map(String::as_str));
        let mut candidates = [LAST].into_iter().chain(spare.filter(|name| self.file(name).exists()));
        let last = loop {
            let Some(name) = candidates.next() else {
                return Err(match problems.len() {
                    1 => problems.remove(0),
                    _ => Error::NoCheckpoint {
                        name: self.path.to_string_lossy().into_owned(),
                        reasons: problems,
                    },
                });
            };
            match self.resumable(name) {
                Ok(last) => break last,
                Err(problem) => problems.push(problem),
            }
        };
        self.last_is_unusable.set(!problems.is_empty());
        let best = self.best().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let Description { step, tokens, .. } = last.description;
        Ok((last, Progress { step, tokens, best }, problems))
    }

    /// The lowest validation loss so far and its step, if there is a `best` that knows them.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn best(&self) -> Result<Option<(f64, u64)>, Error> {
        match Checkpoint::read(self.file(BEST)) {
            Ok(Checkpoint { description: Description { val_loss, step, .. }, .. }) => {
                Ok(val_loss.map(|loss| (loss, step)))
            }
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    fn resumable(&self, name: &str) -> Result<Checkpoint, Error> {
        let file = self.file(name);
        let checkpoint = Checkpoint::read(&file)?;
        if checkpoint.moments.is_empty() {
            return Err(Error::NotResumable { name: file.to_string_lossy().into_owned() });
        }
        Ok(checkpoint)
    }
}

/// What a model file says about the data of a run.
pub fn describe_data(config: &DataConfig, corpus: &Corpus, seed: u64) -> DataDescription {
    let DataConfig { format, lossy, split, .. } = *config;
    DataDescription { format, lossy, split, seed, fingerprint: format!("{:016x}", corpus.fingerprint()) }
}

fn describe(trainer: &Trainer, data: &DataDescription, val_loss: Option<f64>) -> Description {
    let Progress { step, tokens, .. } = trainer.progress();
    Description {
        simd: weft_tensor::simd::level().name().to_string(),
        model: trainer.model().config().clone(),
        vocab: trainer.data().vocab().clone(),
        data: data.clone(),
        train: trainer.config().clone(),
        step,
        tokens,
        val_loss,
    }
}
