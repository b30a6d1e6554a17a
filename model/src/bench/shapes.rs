//! The shapes that every bench and every comparison uses, and the speeds that are aimed at.
//!
//! An aim is a part of the machine's limit, for one thread and for two: what was found to be within reach on two cores of an
//! AMD Zen 4 with AVX-512. Where there is none, nobody has looked how far one can get.

use weft_tensor::kernels::attention::Attention;

use crate::config::ModelConfig;

/// A model and the batch it is trained with.
#[derive(Clone, Debug)]
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// Sizes and switches.
    pub model: ModelConfig,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Of a training step: of the multiply-adds.
    pub step_aims: [Option<f64>; 2],
    /// Of sampling one token: of the bandwidth of the memory that holds the weights.
    pub sample_aims: [Option<f64>; 2],
}

impl Named {
    /// Tokens of a batch.
    pub fn tokens(&self) -> usize {
        self.batch_size * self.model.block_size
    }

    /// Numbers in the matrices that a token is multiplied with, the head included.
    pub fn weights(&self) -> usize {
        let ModelConfig { vocab_size, n_layer, n_embd, n_inner, .. } = self.model;
        n_layer * (4 * n_embd * n_embd + 2 * n_embd * n_inner) + vocab_size * n_embd
    }

    /// Floating-point operations of a training step: 6 per token and weight of a matrix, the head included, and 14·D per
    /// visible pair of query and key (4 forward, 10 backward, as the scores are computed again).
    pub fn step_flops(&self) -> u64 {
        let ModelConfig { block_size, n_layer, n_embd, .. } = self.model;
        let pairs = self.batch_size * n_layer * block_size * (block_size + 1) / 2;
        (6 * self.tokens() * self.weights() + 14 * n_embd * pairs) as u64
    }

    /// Floating-point operations of drawing a token, on average over a full context: 2 per weight, 4·D per visible pair.
    pub fn token_flops(&self) -> f64 {
        let ModelConfig { block_size, n_layer, n_embd, .. } = self.model;
        (2 * self.weights() + 2 * n_layer * n_embd * (block_size + 1)) as f64
    }

    /// Bytes that are read to draw a token, on average over a full context: each weight, the keys and the values so far.
    pub fn token_bytes(&self) -> f64 {
        let ModelConfig { block_size, n_layer, n_embd, .. } = self.model;
        (size_of::<f32>() * (self.weights() + n_layer * n_embd * (block_size + 1))) as f64
    }
}

/// `names`, `shakes`, `baby` and `gpt2`, the smallest first.
pub fn all() -> Vec<Named> {
    let named =
        |name, [n_layer, n_head, n_embd]: [usize; 3], block_size, batch_size, vocab_size, step_aims| {
            let model = ModelConfig {
                vocab_size,
                block_size,
                n_layer,
                n_head,
                n_kv_head: n_head,
                n_embd,
                n_inner: 4 * n_embd,
                bias: true,
                ..ModelConfig::default()
            };
            Named { name, batch_size, model, step_aims, sample_aims: [Some(0.7), Some(0.7)] }
        };
    vec![
        named("names", [4, 4, 64], 16, 32, 27, [Some(0.80), Some(0.75)]),
        named("shakes", [4, 4, 128], 64, 12, 65, [Some(0.80), Some(0.77)]),
        named("baby", [6, 6, 384], 256, 16, 65, [Some(0.82), Some(0.80)]),
        named("gpt2", [12, 12, 768], 64, 4, 50257, [None, Some(0.70)]),
    ]
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
    /// Of the multiply-adds.
    pub aims: [Option<f64>; 2],
}

/// Squares, and the products of the named shapes' layers.
pub const PRODUCTS: [Product; 19] = {
    const fn product(m: usize, n: usize, k: usize, one: f64, two: f64) -> Product {
        Product { m, n, k, aims: [Some(one), Some(two)] }
    }
    const fn square(n: usize, one: f64, two: f64) -> Product {
        product(n, n, n, one, two)
    }
    [
        // Not worth waking another thread for.
        Product { m: 32, n: 32, k: 32, aims: [Some(0.95), None] },
        square(64, 0.97, 0.65),
        square(128, 0.97, 0.85),
        square(256, 0.97, 0.92),
        square(384, 0.97, 0.92),
        square(512, 0.94, 0.94),
        square(768, 0.94, 0.94),
        square(1000, 0.92, 0.93),
        // Rows that lie a multiple of 4 KiB apart share cache sets.
        square(1024, 0.91, 0.90),
        square(1536, 0.92, 0.93),
        square(2048, 0.91, 0.90),
        product(768, 128, 512, 0.96, 0.93),
        product(768, 512, 128, 0.96, 0.93),
        product(512, 192, 64, 0.96, 0.88),
        product(512, 64, 256, 0.96, 0.88),
        product(64, 192, 512, 0.96, 0.88),
        product(4096, 384, 1536, 0.93, 0.91),
        product(4096, 1536, 384, 0.93, 0.91),
        product(256, 50257, 768, 0.89, 0.88),
    ]
};

/// Causal attention: sizes and aims.
#[derive(Clone, Debug)]
pub struct AttentionShape {
    /// What it stands for.
    pub name: &'static str,
    /// The sizes.
    pub sizes: Attention,
    /// Forward, of the multiply-adds.
    pub forward_aims: [Option<f64>; 2],
    /// Backward.
    pub backward_aims: [Option<f64>; 2],
}

impl AttentionShape {
    /// Pairs of a query and a key that it may see, in all heads.
    fn pairs(&self) -> usize {
        let Attention { batch, seq_len, n_head, .. } = self.sizes;
        batch * n_head * seq_len * (seq_len + 1) / 2
    }

    /// Useful floating-point operations forward: 4·D per visible pair.
    pub fn forward_flops(&self) -> u64 {
        (4 * self.sizes.head_size * self.pairs()) as u64
    }

    /// Useful floating-point operations backward: 10·D per visible pair, as the scores are computed again.
    pub fn backward_flops(&self) -> u64 {
        (10 * self.sizes.head_size * self.pairs()) as u64
    }
}

/// The attention of the named shapes' training steps (of `baby`, half a batch: a replica's), and of one sequence of a long context.
pub fn attention() -> Vec<AttentionShape> {
    let shape =
        |name, batch, n_head, seq_len, head_size: usize, forward: Option<f64>, backward: Option<f64>| {
            let scale = 1.0 / (head_size as f64).sqrt();
            let sizes = Attention { batch, seq_len, n_head, n_kv_head: n_head, head_size, scale };
            AttentionShape { name, sizes, forward_aims: [forward; 2], backward_aims: [backward; 2] }
        };
    let of_step = |name, replicas: usize, forward, backward| {
        let Named { batch_size, model, .. } = find(name).expect("a named shape");
        let batch = batch_size / replicas;
        shape(name, batch, model.n_head, model.block_size, model.head_size(), forward, backward)
    };
    vec![
        // 0.03 ms on one thread of 110 GFLOP/s.
        AttentionShape { forward_aims: [Some(0.33), None], ..of_step("names", 1, None, None) },
        of_step("shakes", 1, Some(0.55), Some(0.60)),
        of_step("baby", 2, Some(0.70), Some(0.70)),
        of_step("gpt2", 1, None, None),
        shape("long", 1, 12, 1024, 64, Some(0.82), Some(0.82)),
        shape("longer", 1, 8, 4096, 64, Some(0.85), Some(0.85)),
    ]
}
