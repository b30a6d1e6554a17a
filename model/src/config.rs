//! Every size and switch of a model and of a run, validated once and kept in the checkpoint.

use serde::{Deserialize, Serialize};
use weft_autograd::ops::{Activation, Heads};

use crate::Error;
use crate::optim::{OptimizerConfig, OptimizerKind, Schedule, ScheduleKind};

/// What turns characters into predictions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// The transformer.
    #[default]
    Transformer,
    /// A table of logits for each character: the neural bigram, the first step of the ladder that learns by gradient.
    Bigram,
}

/// How activations are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Layer normalisation.
    #[default]
    Layer,
    /// Root-mean-square normalisation.
    Rms,
}

/// How a token knows its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// A learned vector for each place.
    #[default]
    Learned,
    /// Queries and keys turn by angles that grow with the place.
    Rotary,
    /// Only by what the causal mask lets it see.
    None,
}

/// The activation function of the feed-forward layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationName {
    /// GELU, tanh approximation.
    #[default]
    GeluTanh,
    /// GELU by the error function.
    GeluErf,
    /// x σ(x).
    Silu,
    /// max(x, 0)².
    Relu2,
}

impl From<ActivationName> for Activation {
    fn from(name: ActivationName) -> Activation {
        match name {
            ActivationName::GeluTanh => Activation::GeluTanh,
            ActivationName::GeluErf => Activation::GeluErf,
            ActivationName::Silu => Activation::Silu,
            ActivationName::Relu2 => Activation::Relu2,
        }
    }
}

/// What the operands of matrix products are rounded to while training or sampling. Parameters, moments and all sums stay `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Nothing.
    #[default]
    F32,
    /// bf16: seven bits of the fraction instead of 23, twice as fast where the processor multiplies such numbers.
    Bf16,
}

impl Precision {
    /// Whether this processor has instructions for it.
    pub fn is_native(self) -> bool {
        self == Precision::F32 || weft_tensor::kernels::gemm::has_bf16()
    }
}

impl From<Precision> for weft_autograd::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => weft_autograd::Precision::F32,
            Precision::Bf16 => weft_autograd::Precision::Bf16,
        }
    }
}

/// How a query scores a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// q · k / √D.
    #[default]
    Dot,
    /// Their cosine similarity times a learned scale for each head.
    Cosine,
}

/// The sizes and switches of a model: with the weights, all that is needed to compute it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Which model.
    pub model: ModelKind,
    /// Tokens in the vocabulary, V.
    pub vocab_size: usize,
    /// The longest context, in tokens.
    pub block_size: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Query heads, H.
    pub n_head: usize,
    /// Key and value heads: a divisor of `n_head`.
    pub n_kv_head: usize,
    /// Width of the residual stream, C.
    pub n_embd: usize,
    /// Width of the feed-forward layer.
    pub n_inner: usize,
    /// Normalisation.
    pub norm: Norm,
    /// Position.
    pub position: Position,
    /// Activation function.
    pub activation: ActivationName,
    /// The activation is the gate of a second product (GEGLU, SwiGLU).
    pub gated: bool,
    /// Attention score.
    pub attention: Score,
    /// Linear layers and layer norms have biases.
    pub bias: bool,
    /// The output head is the token embedding.
    pub tied: bool,
    /// Probability of dropping an activation while training.
    pub dropout: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            model: ModelKind::Transformer,
            vocab_size: 27,
            block_size: 16,
            n_layer: 4,
            n_head: 4,
            n_kv_head: 4,
            n_embd: 64,
            n_inner: 256,
            norm: Norm::Layer,
            position: Position::Learned,
            activation: ActivationName::GeluTanh,
            gated: false,
            attention: Score::Dot,
            bias: false,
            tied: true,
            dropout: 0.0,
        }
    }
}

impl ModelConfig {
    /// Numbers in a head, D.
    pub fn head_size(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// How rows of fused queries, keys and values divide.
    pub fn heads(&self) -> Heads {
        Heads { n_head: self.n_head, n_kv_head: self.n_kv_head, head_size: self.head_size() }
    }

    /// Refuses what cannot be built, naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |what: String| Err(Error::Config(what));
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("block_size", self.block_size),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
            ("n_embd", self.n_embd),
            ("n_inner", self.n_inner),
        ];
        for (name, size) in sizes {
            if size == 0 || size > MAX_SIZE {
                return fail(format!("{name} is {size}: it must be between 1 and {MAX_SIZE}"));
            }
        }
        if self.n_layer > MAX_LAYERS {
            return fail(format!("n_layer is {}: it must be at most {MAX_LAYERS}", self.n_layer));
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return fail(format!("n_head {} does not divide n_embd {}", self.n_head, self.n_embd));
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            return fail(format!("n_kv_head {} does not divide n_head {}", self.n_kv_head, self.n_head));
        }
        if self.position == Position::Rotary && !self.head_size().is_multiple_of(2) {
            let size = self.head_size();
            return fail(format!(
                "position = \"rotary\" turns pairs: n_embd / n_head is {size}, which is odd"
            ));
        }
        if self.position == Position::Rotary && self.block_size * self.head_size() > MAX_ANGLES {
            let (block_size, size) = (self.block_size, self.head_size());
            return fail(format!(
                "position = \"rotary\" keeps block_size × n_embd / n_head angles: {block_size} × {size} is above {MAX_ANGLES}"
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return fail(format!("dropout is {}: it must be at least 0 and below 1", self.dropout));
        }
        Ok(())
    }
}

/// The largest size: products of four stay far below 2⁶⁴.
const MAX_SIZE: usize = 1 << 20;
/// The most blocks.
const MAX_LAYERS: usize = 1 << 10;
/// The most cosines and sines of rotary positions, which no length of a file bounds: 256 MiB, and twice what a context of 131,072
/// with heads of 128 takes.
const MAX_ANGLES: usize = 1 << 25;
/// The most rows of an update: twice the lines of the built-in names. A step of more is a typing mistake, and would not end.
const MAX_ROWS: usize = 1 << 16;

/// The numbers of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Rows of a batch.
    pub batch_size: usize,
    /// Batches whose gradients make one update: their mean over all targets.
    pub grad_accum: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The learning rate at the end of its fall.
    pub min_lr: f64,
    /// Updates until the highest learning rate.
    pub warmup_iters: u64,
    /// The update at which `min_lr` is reached.
    pub lr_decay_iters: u64,
    /// How the learning rate falls.
    pub schedule: ScheduleKind,
    /// Updates in all.
    pub max_iters: u64,
    /// Seconds after which to stop early; 0 for no limit.
    pub max_time: f64,
    /// Updates between two evaluations.
    pub eval_interval: u64,
    /// How many checkpoints of earlier steps to keep.
    pub keep: usize,
    /// Which rule turns gradients into updates.
    pub optimizer: OptimizerKind,
    /// Decay of the first moment (AdamW), momentum (SGD).
    pub beta1: f64,
    /// Decay of the second moment (AdamW).
    pub beta2: f64,
    /// Keeps the divisor of AdamW away from zero.
    pub eps: f64,
    /// Decay of matrices per unit of learning rate.
    pub weight_decay: f64,
    /// The largest norm of the gradient of all parameters; 0 for no limit.
    pub grad_clip: f64,
    /// What the operands of matrix products are rounded to.
    pub precision: Precision,
    /// What every random number of the run follows from.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            batch_size: 32,
            grad_accum: 1,
            learning_rate: 4e-3,
            min_lr: 4e-4,
            warmup_iters: 100,
            lr_decay_iters: 14_000,
            schedule: ScheduleKind::Cosine,
            max_iters: 14_000,
            max_time: 0.0,
            eval_interval: 1000,
            keep: 0,
            optimizer: OptimizerKind::Adamw,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            grad_clip: 1.0,
            precision: Precision::F32,
            seed: 1337,
        }
    }
}

impl TrainConfig {
    /// Settings that do not change what a step computes: they may change in a resumed run, and are not part of a model file.
    pub const NOT_STORED: [&str; 4] = ["max_iters", "max_time", "eval_interval", "keep"];

    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            kind: self.schedule,
            learning_rate: self.learning_rate,
            min_lr: self.min_lr,
            warmup_iters: self.warmup_iters,
            lr_decay_iters: self.lr_decay_iters,
        }
    }

    /// The numbers of the optimiser.
    pub fn optimizer(&self) -> OptimizerConfig {
        OptimizerConfig {
            optimizer: self.optimizer,
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
        }
    }

    /// Refuses what cannot be run, naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |what: String| Err(Error::Config(what));
        for (name, size) in [("batch_size", self.batch_size), ("grad_accum", self.grad_accum)] {
            if size == 0 || size > MAX_SIZE {
                return fail(format!("{name} is {size}: it must be between 1 and {MAX_SIZE}"));
            }
        }
        let rows = self.batch_size * self.grad_accum;
        if rows > MAX_ROWS {
            let (batch_size, grad_accum) = (self.batch_size, self.grad_accum);
            return fail(format!(
                "batch_size {batch_size} × grad_accum {grad_accum} is {rows} rows for one update: it must be at most {MAX_ROWS}"
            ));
        }
        if self.max_iters == 0 || self.eval_interval == 0 {
            let name = if self.max_iters == 0 { "max_iters" } else { "eval_interval" };
            return fail(format!("{name} is 0: it must be at least 1"));
        }
        let not_negative = [
            ("learning_rate", self.learning_rate),
            ("min_lr", self.min_lr),
            ("max_time", self.max_time),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("grad_clip", self.grad_clip),
        ];
        for (name, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return fail(format!("{name} is {value}: it must be a number of at least 0"));
            }
        }
        if self.optimizer == OptimizerKind::Adamw && self.eps == 0.0 {
            return fail("eps is 0: adamw would divide 0 by 0 where a gradient is 0; 1e-8 is usual".into());
        }
        if self.min_lr > self.learning_rate {
            let (min_lr, learning_rate) = (self.min_lr, self.learning_rate);
            return fail(format!("min_lr {min_lr} is above learning_rate {learning_rate}"));
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return fail(format!("{name} is {value}: it must be at least 0 and below 1"));
            }
        }
        Ok(())
    }
}
