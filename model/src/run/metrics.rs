//! `metrics.jsonl`: how a run went, one object for each update.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::files::{Disk, save_atomic};

/// A line of `metrics.jsonl`: one update, and the evaluation after it if there was one. No line has a time stamp.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Updates made, this one included.
    pub step: u64,
    /// Mean loss of the batch before the update, in nats per token; `null` if not finite, and then no update was made.
    pub train_loss: Option<f64>,
    /// Mean loss of the validation split after the update, in nats per token: on evaluation lines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradient of all parameters before clipping; `null` if not finite.
    pub grad_norm: Option<f64>,
    /// Tokens predicted per second of the update: the only number that differs from run to run.
    pub tokens_per_s: f64,
}

/// Appends to a `metrics.jsonl`. The last line waits until the next, in case an evaluation belongs to it.
pub struct MetricsLog {
    path: PathBuf,
    file: BufWriter<File>,
    last: Option<Metrics>,
}

impl MetricsLog {
    /// Opens or begins the log of a run that stands at `step`: lines after that step are dropped, since those updates are going to
    /// be made again.
    ///
    /// # Errors
    /// [`Error::Save`] if it cannot be read or written.
    pub fn open(path: impl AsRef<Path>, step: u64) -> Result<MetricsLog, Error> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| Error::Save { name: path.to_string_lossy().into_owned(), source };
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            result => result.map_err(failed)?,
        };
        // A crash may have cut the last line short.
        let mut kept: Vec<Metrics> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .take_while(|metrics: &Metrics| metrics.step <= step)
            .collect();
        let last = kept.pop_if(|metrics| metrics.step == step);
        let kept: String = kept.iter().map(line_of).collect();
        if kept.len() < text.len() || text.is_empty() {
            save_atomic(&Disk, &path, kept.as_bytes())?;
        }
        let file = File::options().append(true).open(&path).map_err(failed)?;
        Ok(MetricsLog { file: BufWriter::new(file), path, last })
    }

    /// Logs an update.
    ///
    /// # Errors
    /// [`Error::Save`].
    pub fn step(&mut self, metrics: Metrics) -> Result<(), Error> {
        let before = self.last.replace(metrics);
        before.map_or(Ok(()), |before| self.write(&before))
    }

    /// Adds the loss of an evaluation to the last update.
    pub fn evaluated(&mut self, val_loss: f64) {
        if let Some(last) = &mut self.last {
            last.val_loss = val_loss.is_finite().then_some(val_loss);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// [`Error::Save`].
    pub fn flush(&mut self) -> Result<(), Error> {
        if let Some(last) = self.last.take() {
            self.write(&last)?;
        }
        self.file.flush().map_err(|source| self.failed(source))
    }

    fn write(&mut self, metrics: &Metrics) -> Result<(), Error> {
        self.file.write_all(line_of(metrics).as_bytes()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Save { name: self.path.to_string_lossy().into_owned(), source }
    }
}

fn line_of(metrics: &Metrics) -> String {
    serde_json::to_string(metrics).expect("finite numbers") + "\n"
}
