//! Layers: a struct of parameter ids with a `forward` each. Field names are the keys of the checkpoint, as in GPT-2.

mod attention;
mod block;
mod cache;
mod embedding;
mod linear;
mod mlp;
mod norm;

pub use attention::{Angles, Attention};
pub use block::Block;
pub use cache::{Cache, Memory};
pub use embedding::Embedding;
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::NormLayer;

use weft_tensor::random::{Key, Purpose};

/// What the layers need to know of the pass they run in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Where dropout masks come from; `None` outside of training.
    pub dropout: Option<DropoutKey>,
}

/// Names the dropout masks of one training step and one part of its batch.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKey {
    /// The seed of the run.
    pub seed: u64,
    /// The step.
    pub step: u64,
    /// Which part of the step's batch: masks of different parts differ.
    pub part: u32,
}

impl DropoutKey {
    /// Layers that drop, at most: a part's masks are numbered below it.
    const LAYERS: u32 = 1 << 12;

    /// The mask of the `layer`-th place that drops.
    pub fn mask(&self, layer: u32) -> Key {
        Key::new(self.seed, Purpose::Dropout, self.step, self.part * Self::LAYERS + layer)
    }
}
