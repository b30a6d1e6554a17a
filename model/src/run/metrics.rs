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
    /// [`hash_weights`](crate::checkpoint::hash_weights) after the update, in hexadecimal digits: on evaluation lines only. Runs that
    /// agree here have the same weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
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
    /// `last` is in the file already, from this byte on.
    replaces: Option<u64>,
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
        let text = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            // Opening a pipe would wait.
            Ok(metadata) if !metadata.is_file() => return Err(failed(io::Error::other("it is not a file"))),
            _ => String::from_utf8_lossy(&fs::read(&path).map_err(failed)?).into_owned(),
        };
        // A crash may have cut the last line short, and what is damaged is no reason not to go on.
        let mut kept: Vec<Metrics> = text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
            .take_while(|metrics: &Metrics| metrics.step <= step)
            .collect();
        let lines: String = kept.iter().map(line_of).collect();
        if lines.len() < text.len() || text.is_empty() {
            save_atomic(&Disk, &path, |file| file.write_all(lines.as_bytes()))?;
        }
        // Its evaluation may still be to come. Until then the line stays as it is.
        let last = kept.pop_if(|metrics| metrics.step == step && metrics.weights.is_none());
        let replaces = last.as_ref().map(|last| (lines.len() - line_of(last).len()) as u64);
        let file = File::options().append(true).open(&path).map_err(failed)?;
        Ok(MetricsLog { file: BufWriter::new(file), path, last, replaces })
    }

    /// Logs an update.
    ///
    /// # Errors
    /// [`Error::Save`].
    pub fn step(&mut self, metrics: Metrics) -> Result<(), Error> {
        let before = self.last.replace(metrics);
        before.map_or(Ok(()), |before| self.write(&before))
    }

    /// Adds an evaluation to the last update: its loss if there is a validation split, and the hash of the weights.
    pub fn evaluated(&mut self, val_loss: Option<f64>, weights: u64) {
        if let Some(last) = &mut self.last {
            last.val_loss = val_loss.filter(|loss| loss.is_finite());
            last.weights = Some(format!("{weights:016x}"));
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
        if let Some(at) = self.replaces.take() {
            self.file.get_ref().set_len(at).map_err(|source| self.failed(source))?;
        }
        self.file.write_all(line_of(metrics).as_bytes()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Save { name: self.path.to_string_lossy().into_owned(), source }
    }
}

fn line_of(metrics: &Metrics) -> String {
    serde_json::to_string(metrics).expect("finite numbers") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64, val_loss: Option<f64>) -> Metrics {
        let number = 1.0 / 3.0;
        let weights = val_loss.map(|_| "00000000000000ab".into());
        Metrics {
            step,
            train_loss: Some(number),
            val_loss,
            weights,
            lr: number,
            grad_norm: None,
            tokens_per_s: 5.0,
        }
    }

    #[test]
    fn a_log_goes_on_at_the_step_of_the_checkpoint() {
        let path = std::env::temp_dir().join(format!("weft-metrics-{}.jsonl", std::process::id()));
        let _ = fs::remove_file(&path);
        let read = || -> Vec<Metrics> {
            let text = fs::read_to_string(&path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in 1..=4 {
            log.step(metrics(step, None)).unwrap();
        }
        log.flush().unwrap();
        assert_eq!(read(), [1, 2, 3, 4].map(|step| metrics(step, None)));

        // Stopped before the evaluation of step 3, which is made now; once killed before that.
        drop(MetricsLog::open(&path, 3).unwrap());
        let mut log = MetricsLog::open(&path, 3).unwrap();
        log.evaluated(Some(2.0), 0xab);
        log.step(metrics(4, None)).unwrap();
        log.flush().unwrap();
        let expected = [metrics(1, None), metrics(2, None), metrics(3, Some(2.0)), metrics(4, None)];
        assert_eq!(read(), expected);

        // A line cut short by a crash, with damage behind it, is written again.
        fs::write(&path, [&fs::read(&path).unwrap()[..300], b"\xff\n"].concat()).unwrap();
        let mut log = MetricsLog::open(&path, 2).unwrap();
        log.step(metrics(3, Some(2.0))).unwrap();
        log.step(metrics(4, None)).unwrap();
        log.flush().unwrap();
        assert_eq!(read(), expected);
        fs::remove_file(&path).unwrap();
    }
}
