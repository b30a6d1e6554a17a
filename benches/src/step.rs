//! Training steps of the named shapes, through the same trainer that `weft train` uses.

use weft_model::Error;
use weft_model::config::TrainConfig;
use weft_model::model::Model;
use weft_model::text::{Corpus, Dataset, Format, SplitFractions};
use weft_model::train::Trainer;

use crate::shapes::Named;

/// A trainer whose batches are full: running text over as many characters as the shape's vocabulary has.
///
/// # Errors
/// If the shape cannot be built.
pub fn trainer(shape: &Named) -> Result<Trainer, Error> {
    let vocab_size = shape.model.vocab_size as u32;
    // Printable characters from "0" on, and beyond the surrogates when a vocabulary is as large as GPT-2's.
    let chars: Vec<char> = (48..).filter_map(char::from_u32).take(vocab_size as usize).collect();
    let mut text: String = chars.iter().collect();
    let mut state = 1u64;
    for _ in 0..100_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.push(chars[((state >> 33) % u64::from(vocab_size)) as usize]);
    }
    let corpus = Corpus::from_str(shape.name, &text, Some(Format::Text))?;
    let data = Dataset::new(&corpus, 1, SplitFractions::default())?;
    let (model, params) = Model::new(&shape.model, 1)?;
    let config = TrainConfig {
        batch_size: shape.batch_size,
        max_iters: u64::MAX,
        eval_interval: u64::MAX,
        lr_decay_iters: u64::MAX,
        ..TrainConfig::default()
    };
    Trainer::new(config, model, params, data)
}
