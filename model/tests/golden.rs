//! The model against an independent implementation: logits, loss, every gradient, ten updates. See `data/golden/README.md`.

use std::path::Path;

use safetensors::SafeTensors;
use weft_autograd::{Grads, Params, Pool, Tape};
use weft_model::config::ModelConfig;
use weft_model::layers::Pass;
use weft_model::model::Model;
use weft_model::optim::{Optimizer, OptimizerConfig, OptimizerKind, clip_scale};
use weft_model::text::{Batch, IGNORE};
use weft_tensor::Real;
use weft_tensor::kernels::gradient::sum_of_squares;
use weft_tensor::simd::at_every_level;

const NAMES: [&str; 3] = ["gpt2", "llama", "cosine"];
const UPDATES: usize = 10;

/// The largest differences, of logits and losses absolute, of a gradient relative to the largest entry of its tensor.
#[derive(Debug, Default)]
struct Figures {
    logits: f64,
    loss: f64,
    grads: f64,
    losses: f64,
}

/// In f32 the recipe itself is off by 5.4e-6 (logits), 2.1e-6 (gradients), 3.8e-7 (losses) for rounding alone: twice that is
/// right. Every mistake that the README lists moves the losses by more than 1e-5, but for the eps of the cosine.
const F32: Figures = Figures { logits: 1.1e-5, loss: 1e-6, grads: 5e-6, losses: 1e-6 };
/// In f64 all that is left is the rounding of the stored values to f32: half a unit in the last place, of logits up to 4 and
/// losses up to 4.
const F64: Figures = Figures { logits: 2.5e-7, loss: 2.5e-7, grads: 6e-8, losses: 2.5e-7 };

/// A file of golden values.
struct Golden {
    config: ModelConfig,
    bytes: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Golden {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/golden");
        let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        Golden { config: serde_json::from_str(&json).unwrap(), bytes }
    }

    fn words(&self, key: &str) -> (Vec<usize>, Vec<[u8; 4]>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = file.tensor(key).unwrap_or_else(|error| panic!("{key}: {error}"));
        let words = tensor.data().as_chunks().0.to_vec();
        (tensor.shape().to_vec(), words)
    }

    fn floats(&self, key: &str) -> (Vec<usize>, Vec<f64>) {
        let (shape, words) = self.words(key);
        (shape, words.into_iter().map(|word| f64::from(f32::from_le_bytes(word))).collect())
    }

    fn ids(&self, key: &str) -> Vec<u32> {
        let id = |word| u32::try_from(i32::from_le_bytes(word)).unwrap_or(IGNORE);
        self.words(key).1.into_iter().map(id).collect()
    }

    /// How many parameters the file holds.
    fn n_params(&self) -> usize {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.names().iter().filter(|name| name.starts_with("param.")).count()
    }

    fn batches(&self, inputs: &str, targets: &str) -> Vec<Batch> {
        let (shape, _) = self.words(inputs);
        let [batch_size, seq_len] = shape[shape.len() - 2..] else { panic!("{inputs} has shape {shape:?}") };
        let (inputs, targets) = (self.ids(inputs), self.ids(targets));
        let batches = inputs.chunks(batch_size * seq_len).zip(targets.chunks(batch_size * seq_len));
        batches
            .map(|(inputs, targets)| Batch::new(inputs.into(), targets.into(), batch_size, seq_len))
            .collect()
    }

    fn model<T: Real>(&self) -> (Model, Params<T>) {
        let (model, mut params) = Model::new::<T>(&self.config, 0).unwrap();
        let layout = params.layout().clone();
        assert_eq!(layout.ids().len(), self.n_params(), "the model has other parameters than the file");
        for id in layout.ids() {
            let (shape, values) = self.floats(&format!("param.{}", layout.name(id)));
            assert_eq!(**layout.shape(id), *shape, "shape of {}", layout.name(id));
            for (param, value) in params.get_mut(id).iter_mut().zip(values) {
                *param = T::from_f64(value);
            }
        }
        (model, params)
    }

    /// Everything the file knows, computed and compared.
    fn compare<T: Real>(&self) -> Figures {
        let (model, mut params) = self.model::<T>();
        let mut figures = Figures::default();
        let pool = Pool::new();
        let mut grads = Grads::new(&params);
        let batch = self.batches("tokens", "targets").remove(0);
        {
            let tape = Tape::new(&params, &pool);
            let logits = model.logits(&tape, &batch.inputs, batch.seq_len, Pass::default());
            figures.logits = worst(&logits.to_vec(), &self.floats("logits").1);
        }
        figures.loss =
            (gradient(&model, &params, &pool, &batch, &mut grads) - self.floats("loss").1[0]).abs();
        let layout = params.layout().clone();
        for id in layout.ids() {
            let name = layout.name(id);
            let (_, expected) = self.floats(&format!("grad.{name}"));
            let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            let grad = grads.get(id).unwrap_or_else(|| panic!("{name} got no gradient"));
            figures.grads = figures.grads.max(worst(grad, &expected) / largest);
        }
        let config = OptimizerConfig {
            optimizer: OptimizerKind::Adamw,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let mut optimizer = Optimizer::new(config, &params);
        let (_, losses) = self.floats("losses");
        let batches = self.batches("step_tokens", "step_targets");
        assert_eq!((losses.len(), batches.len()), (UPDATES, UPDATES));
        for (i, (batch, expected)) in batches.iter().zip(losses).enumerate() {
            grads.reset();
            let loss = gradient(&model, &params, &pool, batch, &mut grads);
            figures.losses = figures.losses.max((loss - expected).abs());
            let grad_norm = sum_of_squares(&[grads.flat()]).sqrt();
            optimizer.step(&mut params, &[grads.flat()], i as u64 + 1, 1e-3, clip_scale(grad_norm, 1.0));
        }
        figures
    }
}

/// The mean loss of a batch, its gradient into `grads`.
fn gradient<T: Real>(
    model: &Model,
    params: &Params<T>,
    pool: &Pool<T>,
    batch: &Batch,
    grads: &mut Grads<T>,
) -> f64 {
    let tape = Tape::new(params, pool);
    let loss = model.loss(&tape, batch, 1.0 / batch.n_targets as f64, Pass::default());
    loss.backward(grads);
    loss.item().to_f64()
}

fn worst<T: Real>(values: &[T], expected: &[f64]) -> f64 {
    assert_eq!(values.len(), expected.len());
    let differences = values.iter().zip(expected).map(|(x, y)| (x.to_f64() - y).abs());
    // A NaN stays.
    differences.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

#[test]
fn the_model_computes_what_the_independent_implementation_computes() {
    fn check(name: &str, what: &str, seen: Figures, bound: &Figures) {
        eprintln!("{name} in {what}: {seen:?}");
        for (figure, seen, bound) in [
            ("logits", seen.logits, bound.logits),
            ("loss", seen.loss, bound.loss),
            ("gradients", seen.grads, bound.grads),
            ("losses of ten updates", seen.losses, bound.losses),
        ] {
            assert!(
                seen <= bound,
                "{name} in {what}: {figure} off by {seen:e}, at most {bound:e} is rounding"
            );
        }
    }
    for name in NAMES {
        let golden = Golden::read(name);
        at_every_level(|level| {
            check(name, &format!("f32 at {}", level.name()), golden.compare::<f32>(), &F32);
            check(name, &format!("f64 at {}", level.name()), golden.compare::<f64>(), &F64);
        });
    }
}
