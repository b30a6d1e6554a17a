//! A run directory: one training run, from its configuration to its best weights.
//!
//! - `config.toml`: the settings, every default filled in;
//! - `metrics.jsonl`: how it went, see [`Metrics`];
//! - `last.safetensors`: weights, optimiser, position: enough to go on exactly;
//! - `best.safetensors`: the weights with the lowest validation loss, with vocabulary and configuration: enough to use the model.

mod config;
mod metrics;

pub use config::{DataConfig, RunConfig};
pub use metrics::{Metrics, MetricsLog};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::checkpoint::{Checkpoint, DataDescription, Description, save};
use crate::files::{DirLock, Disk, save_atomic};
use crate::text::Corpus;
use crate::train::{Progress, Trainer};

/// The settings of the run.
pub const CONFIG: &str = "config.toml";
/// How it went.
pub const METRICS: &str = "metrics.jsonl";
/// To go on from.
pub const LAST: &str = "last.safetensors";
/// To use.
pub const BEST: &str = "best.safetensors";

/// A run directory that is ours until this is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
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
        if RunDir::holds_run(&path) {
            if !force {
                return Err(Error::HoldsRun { name: name() });
            }
            for file in [LAST, BEST, METRICS, CONFIG] {
                let file = path.join(file);
                match fs::remove_file(&file) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::Save { name: file.to_string_lossy().into_owned(), source: e });
                    }
                    _ => {}
                }
            }
        }
        Ok(RunDir { path, _lock: lock })
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
        Ok(RunDir { path, _lock: lock })
    }

    /// Whether there is a run in a directory: anything that training it afresh would destroy.
    pub fn holds_run(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        [LAST, BEST, METRICS, CONFIG].iter().any(|file| path.join(file).exists())
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
        save_atomic(&Disk, self.file(CONFIG), toml.as_bytes())
    }

    /// Writes `last.safetensors`.
    ///
    /// # Errors
    /// As [`save`].
    pub fn save_last(&self, trainer: &Trainer, data: &DataDescription) -> Result<(), Error> {
        let description = describe(trainer, data, None);
        save(self.file(LAST), &description, trainer.params(), Some(trainer.optimizer()))
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
        save(self.file(BEST), &describe(trainer, data, val_loss), trainer.params(), None)
    }

    /// Where the run stands: what is in `last`, and the validation loss of `best`, if that can be read.
    ///
    /// The best loss is not kept in `last` too: so what `last` holds does not depend on how often a run is evaluated.
    ///
    /// # Errors
    /// As [`Checkpoint::read`]; [`Error::NotResumable`].
    pub fn load(&self) -> Result<(Checkpoint, Progress, Option<Error>), Error> {
        let file = self.file(LAST);
        let last = Checkpoint::read(&file)?;
        if last.moments.is_empty() {
            return Err(Error::NotResumable { name: file.to_string_lossy().into_owned() });
        }
        let (best, problem) = match Checkpoint::read(self.file(BEST)) {
            Ok(best) => {
                let Description { val_loss, step, .. } = best.description;
                (val_loss.map(|loss| (loss, step)), None)
            }
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(error)),
        };
        let Description { step, tokens, .. } = last.description;
        Ok((last, Progress { step, tokens, best }, problem))
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
