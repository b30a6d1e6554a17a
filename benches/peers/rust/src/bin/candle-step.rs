//! A training step of a named shape in candle: `candle-step --shape names --seconds 5 --threads 2`.
//!
//! GPT-2 from `candle_nn`'s layers. Two things are not what one would write first: `LayerNorm::forward` and
//! `softmax_last_dim` have no backward pass, so the composed forms stand here, as candle's own training code has them. candle
//! has no clipping by norm; the step goes without it.

use candle_core::{DType, Device, Result, Tensor, D};
use candle_nn::init::{Init, ONE, ZERO};
use candle_nn::ops::{layer_norm_slow, softmax};
use candle_nn::{loss, AdamW, Embedding, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use weft_rust_peers::{Arguments, Shape, BETAS, EPS, INIT_STD, LEARNING_RATE, NORM_EPS, WEIGHT_DECAY};

const NORMAL: Init = Init::Randn { mean: 0.0, stdev: INIT_STD };

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn new(n_embd: usize, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(n_embd, "weight", ONE)?;
        let bias = vb.get_with_hints(n_embd, "bias", ZERO)?;
        Ok(LayerNorm { weight, bias })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm_slow(x, &self.weight, &self.bias, NORM_EPS as f32)
    }
}

fn linear(n_in: usize, n_out: usize, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((n_out, n_in), "weight", NORMAL)?;
    let bias = vb.get_with_hints(n_out, "bias", ZERO)?;
    Ok(Linear::new(weight, Some(bias)))
}

struct Block {
    n_head: usize,
    ln_1: LayerNorm,
    c_attn: Linear,
    attn_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    mlp_proj: Linear,
}

impl Block {
    fn new(shape: Shape, vb: VarBuilder) -> Result<Self> {
        let Shape { n_head, n_embd, .. } = shape;
        Ok(Block {
            n_head,
            ln_1: LayerNorm::new(n_embd, vb.pp("ln_1"))?,
            c_attn: linear(n_embd, 3 * n_embd, vb.pp("attn.c_attn"))?,
            attn_proj: linear(n_embd, n_embd, vb.pp("attn.c_proj"))?,
            ln_2: LayerNorm::new(n_embd, vb.pp("ln_2"))?,
            c_fc: linear(n_embd, 4 * n_embd, vb.pp("mlp.c_fc"))?,
            mlp_proj: linear(4 * n_embd, n_embd, vb.pp("mlp.c_proj"))?,
        })
    }

    /// `mask` (T, T) is 0 where a key may be seen, −∞ elsewhere.
    fn attention(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, seq_len, n_embd) = x.dims3()?;
        let head_size = n_embd / self.n_head;
        let qkv = self.c_attn.forward(x)?;
        let part = |i: usize| {
            let x = qkv.narrow(D::Minus1, i * n_embd, n_embd)?;
            x.reshape((batch, seq_len, self.n_head, head_size))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?); // (B, H, T, D)
        let scores = (q.matmul(&k.t()?)? * (1.0 / (head_size as f64).sqrt()))?;
        let weights = softmax(&scores.broadcast_add(mask)?, D::Minus1)?; // (B, H, T, T)
        let y = weights.matmul(&v)?.transpose(1, 2)?.reshape((batch, seq_len, n_embd))?;
        self.attn_proj.forward(&y)
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.ln_1.forward(x)?, mask)?)?;
        let y = self.c_fc.forward(&self.ln_2.forward(&x)?)?.gelu()?; // the tanh form
        x + self.mlp_proj.forward(&y)?
    }
}

struct Gpt {
    wte: Embedding,
    wpe: Tensor,
    blocks: Vec<Block>,
    ln_f: LayerNorm,
    mask: Tensor,
}

impl Gpt {
    fn new(shape: Shape, vb: VarBuilder) -> Result<Self> {
        let Shape { n_layer, n_embd, block_size, vocab_size, .. } = shape;
        let wte = vb.get_with_hints((vocab_size, n_embd), "wte.weight", NORMAL)?;
        let mask: Vec<f32> = (0..block_size * block_size)
            .map(|i| if i % block_size > i / block_size { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        Ok(Gpt {
            wte: Embedding::new(wte, n_embd),
            wpe: vb.get_with_hints((block_size, n_embd), "wpe.weight", NORMAL)?,
            blocks: (0..n_layer)
                .map(|i| Block::new(shape, vb.pp(format!("h.{i}"))))
                .collect::<Result<_>>()?,
            ln_f: LayerNorm::new(n_embd, vb.pp("ln_f"))?,
            mask: Tensor::from_vec(mask, (block_size, block_size), vb.device())?,
        })
    }

    /// Of tokens (B, T) and targets (B · T).
    fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let mut x = self.wte.forward(tokens)?.broadcast_add(&self.wpe)?; // (B, T, C)
        for block in &self.blocks {
            x = block.forward(&x, &self.mask)?;
        }
        let x = self.ln_f.forward(&x)?.flatten_to(1)?; // (B · T, C)
        let logits = x.matmul(&self.wte.embeddings().t()?)?; // the head is the embedding's table
        loss::cross_entropy(&logits, targets)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    // candle's own threads spin at every operation, against those of rayon: on two cores a step is several times slower with them.
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    let (shape, device) = (arguments.shape, Device::Cpu);
    let vars = VarMap::new();
    let gpt = Gpt::new(shape, VarBuilder::from_varmap(&vars, DType::F32, &device))?;
    let params = vars.all_vars().iter().map(|var| var.elem_count()).sum();
    let mut optimizer = AdamW::new(
        vars.all_vars(),
        ParamsAdamW {
            lr: LEARNING_RATE,
            beta1: BETAS.0,
            beta2: BETAS.1,
            eps: EPS,
            weight_decay: WEIGHT_DECAY,
        },
    )?;
    let batches = arguments
        .batches()
        .into_iter()
        .map(|[tokens, targets]| {
            let tokens = Tensor::from_vec(tokens, (shape.batch_size, shape.block_size), &device)?;
            Ok((tokens, Tensor::from_vec(targets, shape.batch_size * shape.block_size, &device)?))
        })
        .collect::<Result<Vec<_>>>()?;
    arguments.time(concat!("candle ", env!("CANDLE_VERSION")), params, |batch| {
        let (tokens, targets) = &batches[batch];
        let mut step = || {
            let loss = gpt.loss(tokens, targets)?;
            optimizer.backward_step(&loss)?;
            loss.to_scalar::<f32>()
        };
        step().expect("a step of fixed shapes")
    });
    Ok(())
}
