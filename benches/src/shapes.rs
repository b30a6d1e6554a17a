//! The named shapes that every bench and every comparison uses.

use weft_model::config::ModelConfig;

/// A model and the batch it is trained with.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// Sizes and switches.
    pub model: ModelConfig,
    /// Rows of a batch.
    pub batch_size: usize,
}

impl Named {
    /// Floating-point operations of a training step: 6 per token and weight of a matrix, the head included, and 14·D per
    /// visible pair of query and key (4 forward, 10 backward, as the scores are computed again).
    pub fn step_flops(&self) -> u64 {
        let ModelConfig { vocab_size, block_size, n_layer, n_embd, n_inner, .. } = self.model;
        let weights = n_layer * (4 * n_embd * n_embd + 2 * n_embd * n_inner) + vocab_size * n_embd;
        let pairs = self.batch_size * n_layer * block_size * (block_size + 1) / 2;
        (6 * self.batch_size * block_size * weights + 14 * n_embd * pairs) as u64
    }
}

/// `names`, `shakes`, `baby` and `gpt2`, the smallest first.
pub fn all() -> Vec<Named> {
    let named = |name, n_layer, n_head, n_embd: usize, block_size, batch_size, vocab_size| Named {
        name,
        batch_size,
        model: ModelConfig {
            vocab_size,
            block_size,
            n_layer,
            n_head,
            n_kv_head: n_head,
            n_embd,
            n_inner: 4 * n_embd,
            bias: true,
            ..ModelConfig::default()
        },
    };
    vec![
        named("names", 4, 4, 64, 16, 32, 27),
        named("shakes", 4, 4, 128, 64, 12, 65),
        named("baby", 6, 6, 384, 256, 16, 65),
        named("gpt2", 12, 12, 768, 64, 4, 50257),
    ]
}

/// `names` and `shakes`, and the others too where `WEFT_BENCH_LARGE` is set: for benches of whole models.
pub fn all_or_small() -> Vec<Named> {
    let mut shapes = all();
    if std::env::var_os("WEFT_BENCH_LARGE").is_none() {
        shapes.truncate(2);
    }
    shapes
}

/// The shape of this name.
pub fn find(name: &str) -> Option<Named> {
    all().into_iter().find(|shape| shape.name == name)
}

/// A matrix product: (m × k) · (k × n).
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
}

/// Squares, and the products of the named shapes' layers.
pub const PRODUCTS: [Product; 19] = {
    const fn product(m: usize, n: usize, k: usize) -> Product {
        Product { m, n, k }
    }
    const fn square(n: usize) -> Product {
        product(n, n, n)
    }
    [
        square(32),
        square(64),
        square(128),
        square(256),
        square(384),
        square(512),
        square(768),
        square(1000),
        square(1024),
        square(1536),
        square(2048),
        product(768, 128, 512),
        product(768, 512, 128),
        product(512, 192, 64),
        product(512, 64, 256),
        product(64, 192, 512),
        product(4096, 384, 1536),
        product(4096, 1536, 384),
        product(256, 50257, 768),
    ]
};
