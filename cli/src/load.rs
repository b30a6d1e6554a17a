//! Models and the data they were trained on, from what the command line names.

use std::path::{Path, PathBuf};

use anyhow::bail;
use weft_model::Error;
use weft_model::checkpoint::{Checkpoint, DataDescription};
use weft_model::run::{CONFIG, RunDir};
use weft_model::text::{Corpus, Format};

use crate::output::{escaped, say, tell};
use crate::settings::{BUILT_IN, Settings};

/// A model and where it came from.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) checkpoint: Checkpoint,
}

/// Reads a model file, or the best model of a run directory.
pub(crate) fn model(path: &Path) -> anyhow::Result<Loaded> {
    let path = RunDir::model_file(path)?;
    Ok(Loaded { checkpoint: Checkpoint::read(&path)?, path })
}

/// Reads a data file. Without one: the names that are built in.
pub(crate) fn corpus(file: Option<&Path>, format: Option<Format>, lossy: bool) -> Result<Corpus, Error> {
    file.map_or_else(|| Ok(Corpus::embedded()), |file| Corpus::read(file, format, lossy))
}

/// Says what a data file was taken for, once nothing can be wrong with it any more.
pub(crate) fn say_corpus(corpus: &Corpus) {
    if let Some(guess) = corpus.guess() {
        tell!("{guess}");
    }
    notes(corpus.notes());
}

/// Prints notes: warnings always, information unless `--quiet`.
pub(crate) fn notes(notes: &[weft_model::text::Note]) {
    for note in notes {
        if note.is_warning() {
            say!("warning: {note}");
        } else {
            tell!("note: {note}");
        }
    }
}

/// The data that a model was trained on: built in, or the file that the `config.toml` beside the model names.
pub(crate) fn own_data(path: &Path, data: &DataDescription) -> anyhow::Result<Corpus> {
    let fingerprint = |corpus: &Corpus| format!("{:016x}", corpus.fingerprint());
    let embedded = Corpus::embedded();
    if fingerprint(&embedded) == data.fingerprint {
        return Ok(embedded);
    }
    let config = path.with_file_name(CONFIG);
    let file = if config.exists() { Settings::read(&config)?.data.file } else { None };
    let Some(file) = file.filter(|file| file != BUILT_IN) else {
        bail!("the data of `{}` are not known\nname the file they are in", escaped(&path.to_string_lossy()));
    };
    let corpus = match Corpus::read(&file, Some(data.format), data.lossy) {
        Err(Error::Read { source, .. }) => {
            bail!("cannot read the training data `{}`: {source}\nname the file they are in", escaped(&file));
        }
        result => result?,
    };
    if fingerprint(&corpus) != data.fingerprint {
        let file = escaped(&file);
        bail!(
            "`{file}` is no longer the file that the model was trained on\nname a file to use that one instead"
        );
    }
    Ok(corpus)
}
