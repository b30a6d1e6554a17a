//! A training step of a named shape in burn, on its Flex backend: `burn-step --shape names --seconds 5 --threads 2`.
//!
//! GPT-2 from `burn::nn`'s layers and `burn::tensor::module::attention`. burn clips each parameter's gradient by its own norm;
//! that is what it offers, and about the work of clipping them together.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{
    Embedding, EmbeddingConfig, Gelu, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig,
};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};
use weft_rust_peers::{Arguments, Shape, BETAS, EPS, INIT_STD, LEARNING_RATE, NORM_EPS, WEIGHT_DECAY};

const NORMAL: Initializer = Initializer::Normal { mean: 0.0, std: INIT_STD };

fn norm(n_embd: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(n_embd).with_epsilon(NORM_EPS).init(device)
}

fn linear(n_in: usize, n_out: usize, device: &Device) -> Linear {
    LinearConfig::new(n_in, n_out).with_initializer(NORMAL).init(device)
}

#[derive(Module, Debug)]
struct Block {
    n_head: usize,
    ln_1: LayerNorm,
    c_attn: Linear,
    attn_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    gelu: Gelu,
    mlp_proj: Linear,
}

impl Block {
    fn new(shape: Shape, device: &Device) -> Self {
        let Shape { n_head, n_embd, .. } = shape;
        Block {
            n_head,
            ln_1: norm(n_embd, device),
            c_attn: linear(n_embd, 3 * n_embd, device),
            attn_proj: linear(n_embd, n_embd, device),
            ln_2: norm(n_embd, device),
            c_fc: linear(n_embd, 4 * n_embd, device),
            gelu: Gelu::new_approximate(),
            mlp_proj: linear(4 * n_embd, n_embd, device),
        }
    }

    fn attention(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq_len, n_embd] = x.dims();
        let [q, k, v] = self
            .c_attn
            .forward(x)
            .chunk(3, 2)
            .try_into()
            .map(|parts: [Tensor<3>; 3]| {
                parts.map(|x| x.reshape([batch, seq_len, self.n_head, n_embd / self.n_head]).swap_dims(1, 2))
            })
            .expect("three chunks"); // (B, H, T, D)
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let y = attention(q, k, v, None, None, options);
        self.attn_proj.forward(y.swap_dims(1, 2).reshape([batch, seq_len, n_embd]))
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attention(self.ln_1.forward(x));
        let y = self.gelu.forward(self.c_fc.forward(self.ln_2.forward(x.clone())));
        x + self.mlp_proj.forward(y)
    }
}

#[derive(Module, Debug)]
struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<Block>,
    ln_f: LayerNorm,
}

impl Gpt {
    fn new(shape: Shape, device: &Device) -> Self {
        let embedding = |rows| EmbeddingConfig::new(rows, shape.n_embd).with_initializer(NORMAL).init(device);
        Gpt {
            wte: embedding(shape.vocab_size),
            wpe: embedding(shape.block_size),
            blocks: (0..shape.n_layer).map(|_| Block::new(shape, device)).collect(),
            ln_f: norm(shape.n_embd, device),
        }
    }

    /// Of tokens (B, T) and targets (B · T).
    fn loss(
        &self,
        cross_entropy: &CrossEntropyLoss,
        tokens: Tensor<2, Int>,
        targets: Tensor<1, Int>,
    ) -> Tensor<1> {
        let positions = Tensor::arange(0..tokens.dims()[1] as i64, &tokens.device()).unsqueeze();
        let mut x = self.wte.forward(tokens) + self.wpe.forward(positions); // (B, T, C)
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x: Tensor<2> = self.ln_f.forward(x).flatten(0, 1); // (B · T, C)
        let logits = x.matmul(self.wte.weight.val().transpose()); // the head is the embedding's table
        cross_entropy.forward(logits, targets)
    }
}

fn main() {
    let arguments = Arguments::read();
    let (shape, device) = (arguments.shape, Device::flex().autodiff());
    let mut gpt = Gpt::new(shape, &device);
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let mut optimizer = AdamWConfig::new()
        .with_beta_1(BETAS.0 as f32)
        .with_beta_2(BETAS.1 as f32)
        .with_epsilon(EPS as f32)
        .with_weight_decay(WEIGHT_DECAY as f32)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    let batches: Vec<_> = arguments
        .batches()
        .into_iter()
        .map(|[tokens, targets]| {
            let [tokens, targets] =
                [tokens, targets].map(|ids| ids.into_iter().map(i64::from).collect::<Vec<_>>());
            let tokens = TensorData::new(tokens, [shape.batch_size, shape.block_size]);
            let targets = TensorData::new(targets, [shape.batch_size * shape.block_size]);
            (Tensor::<2, Int>::from_data(tokens, &device), Tensor::<1, Int>::from_data(targets, &device))
        })
        .collect();
    let params = gpt.num_params();
    arguments.time(concat!("burn ", env!("BURN_VERSION"), " (flex)"), params, |batch| {
        let (tokens, targets) = batches[batch].clone();
        let loss = gpt.loss(&cross_entropy, tokens, targets);
        let grads = GradientsParams::from_grads(loss.backward(), &gpt);
        gpt = optimizer.step(LEARNING_RATE, gpt.clone(), grads);
        loss.into_scalar::<f32>()
    });
}
