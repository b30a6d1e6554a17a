//! What tests of files share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use weft_model::checkpoint::DataDescription;
use weft_model::config::{ModelConfig, TrainConfig};
use weft_model::model::Model;
use weft_model::run::{DataConfig, LAST, RunDir, describe_data};
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};
use weft_model::train::{Event, Trainer};

/// A fresh directory for a test.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A trainer of a tiny model on a few words, and what a model file says about these.
pub(crate) fn tiny_trainer(config: TrainConfig) -> (Trainer, DataDescription) {
    let corpus =
        Corpus::from_str("verse", &"warp\nweft\nloom\nyarn\n".repeat(8), Some(Format::Lines)).unwrap();
    let data =
        DataConfig { file: None, format: Format::Lines, lossy: false, split: SplitFractions::default() };
    let description = describe_data(&data, &corpus, 1);
    let dataset = Dataset::new(&corpus, 1, data.split).unwrap();
    let model = ModelConfig {
        vocab_size: dataset.vocab().len(),
        n_layer: 1,
        n_head: 2,
        n_kv_head: 2,
        n_embd: 8,
        n_inner: 16,
        block_size: 4,
        ..ModelConfig::default()
    };
    let (model, params) = Model::new(&model, 1).unwrap();
    let config = TrainConfig { batch_size: 2, ..config };
    (Trainer::new(config, model, params, dataset).unwrap(), description)
}

/// `last.safetensors` of a run of so many steps in `path`: weights and moments.
pub(crate) fn trained(path: &Path, steps: u64) -> Vec<u8> {
    let config = TrainConfig { max_iters: steps, eval_interval: steps, ..TrainConfig::default() };
    let (mut trainer, description) = tiny_trainer(config);
    let dir = RunDir::create(path, true).unwrap();
    while let Some(event) = trainer.next() {
        if let Event::Evaluated { .. } = event.unwrap() {
            dir.save_last(&trainer, &description).unwrap();
        }
    }
    fs::read(dir.file(LAST)).unwrap()
}
