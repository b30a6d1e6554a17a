//! What a model file holds: weights, what is needed to use them, and in `last` what is needed to go on.
//!
//! A model file is a safetensors file. Its tensors have the names of the parameters; `last` holds the moments of the optimiser
//! too, as `optimizer.m.wte.weight` and so on. Under the metadata key `weft` stands one JSON object, a [`Description`]. Nothing in
//! it depends on when, where or by how many threads the file was made, nor on how long the run is to be or how often it is
//! evaluated: those numbers are in the run's `config.toml`. So the same run leaves the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_autograd::{ParamLayout, Params};

use crate::Error;
use crate::config::{ModelConfig, TrainConfig};
use crate::files::{FileSystem, save_atomic};
use crate::model::Model;
use crate::optim::Optimizer;
use crate::safetensors::xxh64::Xxh64;
use crate::safetensors::{Checksum, Data, Image, SafeTensors, TensorView, clip};
use crate::text::{Format, SplitFractions, Vocab};

/// The version of the description that is written, and the newest that is read.
pub const FORMAT: u64 = 1;
/// The metadata key of the description.
const KEY: &str = "weft";
/// What the names of the moments begin with.
const OPTIMIZER: &str = "optimizer.";

/// Which data a model was trained on, and how they were cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataDescription {
    /// How the file is cut into documents.
    pub format: Format,
    /// Invalid bytes were replaced.
    pub lossy: bool,
    /// The fractions of the splits.
    pub split: SplitFractions,
    /// What the order of lines follows from.
    pub seed: u64,
    /// The fingerprint of the file: [`Corpus::fingerprint`](crate::text::Corpus::fingerprint) in hexadecimal digits.
    pub fingerprint: String,
}

/// Everything about a model but its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The SIMD level at which it was trained.
    pub simd: String,
    /// Sizes and switches.
    pub model: ModelConfig,
    /// The characters.
    pub vocab: Vocab,
    /// The data.
    pub data: DataDescription,
    /// How it was trained, without [`TrainConfig::NOT_STORED`], which have their default here.
    pub train: TrainConfig,
    /// Updates made.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// In `best`: its loss on the validation split.
    pub val_loss: Option<f64>,
}

/// The description as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    format: u64,
    simd: String,
    model: ModelConfig,
    vocab: Vocab,
    data: DataDescription,
    train: serde_json::Value,
    step: u64,
    tokens: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
}

impl Description {
    fn to_json(&self) -> String {
        let mut train = serde_json::to_value(&self.train).expect("finite numbers and strings");
        let fields = train.as_object_mut().expect("a struct");
        TrainConfig::NOT_STORED.iter().for_each(|key| drop(fields.remove(*key)));
        let Description { simd, model, vocab, data, step, tokens, val_loss, .. } = self.clone();
        let json = Json { format: FORMAT, simd, model, vocab, data, train, step, tokens, val_loss };
        serde_json::to_string(&json).expect("finite numbers and strings")
    }

    fn from_json(name: &str, text: &str) -> Result<Description, Error> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let broken =
            |problem: String| Error::BadDescription { name: name.to_string(), problem: clip(&problem) };
        let json_error = |e: serde_json::Error| broken(e.to_string());
        // First of all, because a later version may have other fields.
        let Version { format: version } = serde_json::from_str(text).map_err(json_error)?;
        if version > FORMAT {
            return Err(Error::NewerFormat { name: name.to_string(), version, known: FORMAT });
        }
        let Json { simd, model, vocab, data, train, step, tokens, val_loss, .. } =
            serde_json::from_str(text).map_err(json_error)?;
        let train: TrainConfig = serde_json::from_value(train).map_err(json_error)?;
        model.validate().and_then(|()| train.validate()).map_err(|e| broken(e.to_string()))?;
        if model.vocab_size != vocab.len() {
            let (size, len) = (model.vocab_size, vocab.len());
            return Err(broken(format!("vocab_size is {size}, and the vocabulary has {len} tokens")));
        }
        if vocab.boundary().is_some() != (data.format == Format::Lines) {
            return Err(broken(format!("the vocabulary does not suit data of format {}", data.format)));
        }
        Ok(Description { simd, model, vocab, data, train, step, tokens, val_loss })
    }
}

/// A model file in memory.
pub struct Checkpoint {
    /// Everything but the numbers.
    pub description: Description,
    /// The model.
    pub model: Model,
    /// Its weights.
    pub params: Params,
    /// In `last`: the moments of the optimiser, laid out like the parameters; else empty.
    pub moments: Vec<Vec<f32>>,
}

impl Checkpoint {
    /// Reads a model file.
    ///
    /// # Errors
    /// Those of [`SafeTensors::read`]; [`Error::NotAModel`], [`Error::BadDescription`], [`Error::NewerFormat`] by its
    /// description; [`Error::WrongTensors`] and [`Error::BadTensor`] if its tensors are not those of the configuration, or a weight
    /// is not finite.
    pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, Error> {
        Checkpoint::from_file(&SafeTensors::read(path, Checksum::IfPresent)?)
    }

    /// Takes a model file that is in memory already.
    ///
    /// # Errors
    /// As [`read`](Checkpoint::read), except those of the file system.
    pub fn from_file(file: &SafeTensors<'_>) -> Result<Checkpoint, Error> {
        let name = file.name();
        let Some(text) = file.metadata().get(KEY) else {
            return Err(Error::NotAModel { name: name.to_string() });
        };
        // One flipped bit can make another program's checksum of ours.
        if !file.has_checksum() {
            return Err(Error::NoChecksum { name: name.to_string() });
        }
        let description = Description::from_json(name, text)?;
        let layout = Model::layout(&description.model)?;
        let has_moments = file.tensors().iter().any(|tensor| tensor.name.starts_with(OPTIMIZER));
        let kinds = if has_moments { description.train.optimizer.moments() } else { &[] };
        check_tensors(file, &layout, kinds)?;
        // Only now, when the file is known to be as large as the model, is anything of that size allocated.
        let (model, mut params) = Model::new(&description.model, 0)?;
        let mut moments = vec![vec![0.0; layout.flat_len()]; kinds.len()];
        for id in layout.ids() {
            let (key, range) = (layout.name(id), layout.range(id));
            read_finite(file, key, params.get_mut(id))?;
            for (kind, moment) in kinds.iter().zip(&mut moments) {
                read_finite(file, &moment_name(kind, key), &mut moment[range.clone()])?;
            }
        }
        Ok(Checkpoint { description, model, params, moments })
    }
}

fn moment_name(kind: &str, param: &str) -> String {
    format!("{OPTIMIZER}{kind}.{param}")
}

/// Exactly the tensors of the layout, and its moments of these kinds, in these shapes.
fn check_tensors(file: &SafeTensors<'_>, layout: &ParamLayout, kinds: &[&str]) -> Result<(), Error> {
    let mut expected = BTreeMap::new();
    for id in layout.ids() {
        let key = layout.name(id);
        expected.insert(key.to_string(), layout.shape(id));
        expected.extend(kinds.iter().map(|kind| (moment_name(kind, key), layout.shape(id))));
    }
    let found: BTreeSet<&str> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    let missing: Vec<String> = expected.keys().filter(|key| !found.contains(key.as_str())).cloned().collect();
    let extra: Vec<String> =
        found.iter().filter(|key| !expected.contains_key(**key)).map(|key| key.to_string()).collect();
    for (names, missing) in [(missing, true), (extra, false)] {
        if !names.is_empty() {
            return Err(Error::WrongTensors { name: file.name().to_string(), missing, names });
        }
    }
    for tensor in file.tensors() {
        let shape = expected[&tensor.name];
        if tensor.shape[..] != shape[..] {
            let problem = format!("has shape {:?}, the configuration wants {:?}", tensor.shape, &shape[..]);
            return Err(Error::BadTensor {
                name: file.name().to_string(),
                tensor: tensor.name.clone(),
                problem,
            });
        }
    }
    Ok(())
}

fn read_finite(file: &SafeTensors<'_>, key: &str, y: &mut [f32]) -> Result<(), Error> {
    let tensor = file.get(key).expect("check_tensors found it");
    file.copy_f32(tensor, y)?;
    match y.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::BadTensor {
            name: file.name().to_string(),
            tensor: key.to_string(),
            problem: format!("is {} at element {at}: every number must be finite", y[at]),
        }),
    }
}

/// Writes a model file in one step: with `optimizer`, one that a run can go on from.
///
/// # Errors
/// [`Error::Save`], and then the file is as it was; [`Error::NotFiniteTensor`], which would be refused when read;
/// [`Error::HeaderTooLarge`] for a vocabulary of millions.
pub fn save(
    fs: &dyn FileSystem,
    path: impl AsRef<Path>,
    description: &Description,
    params: &Params,
    optimizer: Option<&Optimizer>,
) -> Result<(), Error> {
    let layout = params.layout();
    let moments = optimizer.map_or(&[][..], |optimizer| optimizer.moments());
    let kinds = description.train.optimizer.moments();
    let mut tensors = Vec::new();
    for id in layout.ids() {
        tensors.push((layout.name(id).to_string(), layout.shape(id), params.get(id)));
    }
    for (kind, moment) in kinds.iter().zip(moments) {
        for id in layout.ids() {
            tensors.push((moment_name(kind, layout.name(id)), layout.shape(id), &moment[layout.range(id)]));
        }
    }
    for (tensor, _, data) in &tensors {
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            let (step, tensor) = (description.step, tensor.clone());
            return Err(Error::NotFiniteTensor { step, tensor, value: data[at], at });
        }
    }
    let views: Vec<TensorView<'_>> = tensors
        .iter()
        .map(|(name, shape, data)| TensorView { name, shape: &shape[..], data: Data::F32(data) })
        .collect();
    let metadata = BTreeMap::from([(KEY.to_string(), description.to_json())]);
    let image = Image::new(&views, &metadata)?;
    save_atomic(fs, path, |file| image.write_to(file))
}

/// XXH64 of the weights, tensor by tensor, as little-endian bytes: two models with the same one have the same bits.
pub fn hash_weights(params: &Params) -> u64 {
    let mut hash = Xxh64::new();
    for id in params.layout().ids() {
        let hashed = Data::F32(params.get(id)).for_each_run(&mut |bytes| {
            hash.update(bytes);
            Ok(())
        });
        hashed.expect("a hash takes everything");
    }
    hash.finish()
}
