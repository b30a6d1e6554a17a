//! Model files: one that is accepted has the tensors of its configuration, saves to the same file, and can be sampled from.
//!
//! An input is a header, a NUL, and data; length and checksum are made to suit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::{mended, scratch_file};
use weft_model::checkpoint::{Checkpoint, save};
use weft_model::files::Disk;
use weft_model::generate::{SampleConfig, generate};
use weft_model::optim::Optimizer;
use weft_model::safetensors::{Checksum, SafeTensors};

/// Numbers in the caches of a context above which no sample is made here: it would be right, and slow.
const SLOW: usize = 1 << 16;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let bytes = mended(&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(file) = SafeTensors::from_bytes("fuzz", &bytes, Checksum::Required) else { return };
    let Ok(read) = Checkpoint::from_file(&file) else { return };
    let Checkpoint { description, model, params, moments } = &read;
    let layout = params.layout();
    assert_eq!(file.tensors().len(), layout.ids().count() * (1 + moments.len()));
    assert!(params.flat().iter().chain(moments.iter().flatten()).all(|x| x.is_finite()));

    let mut optimizer = Optimizer::new(description.train.optimizer(), params);
    for (to, from) in optimizer.moments_mut().iter_mut().zip(moments) {
        to.copy_from_slice(from);
    }
    let path = scratch_file("checkpoint");
    let write = |read: &Checkpoint| {
        save(&Disk, &path, &read.description, &read.params, (!moments.is_empty()).then_some(&optimizer))
            .expect("there is room");
        std::fs::read(&path).expect("it was written")
    };
    let written = write(&read);
    let again = Checkpoint::read(&path).expect("what was saved is read");
    assert_eq!(&again.description, description);
    assert_eq!(again.params.flat(), params.flat());
    assert_eq!(&again.moments, moments);
    assert_eq!(write(&again), written, "another file from the same");

    let config = model.config();
    if config.n_layer * config.n_embd * config.block_size <= SLOW {
        let settings = SampleConfig { max_new_tokens: 3, ..SampleConfig::default() };
        let samples = generate(model, params, &description.vocab, &[], 0, 1, &settings)
            .expect("the settings are right");
        for sample in samples {
            description.vocab.decode(&sample.tokens).expect("tokens are of the vocabulary");
        }
    }
});
