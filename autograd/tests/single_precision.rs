//! The ops with kernels of their own in `f32`, at every SIMD level and every length up to 67, against `f64`.

use std::collections::BTreeMap;

use weft_autograd::ops::{Activation, Heads, ROTARY_BASE, rotary_table};
use weft_autograd::{Grads, Params, Pool, Tape, Var};
use weft_tensor::random::{Key, Purpose};
use weft_tensor::simd::at_every_level;
use weft_tensor::{Real, Tensor};

/// Rows of every input.
const ROWS: usize = 3;
/// Four vectors and a bit.
const LONGEST: usize = 67;

/// What is accepted, relative to the largest number of the tensor or 1: roundings (ε/2 each) of the n terms of the longest sum add
/// like the steps of a random walk, twice its width, and the function around it has eight.
fn bound(n: usize) -> f64 {
    f64::from(f32::EPSILON) / 2.0 * (8.0 + 2.0 * (n as f64).sqrt())
}

/// A function of x (3, n), w (n), b (n) and a matrix (n, n); nothing where the function has no such length.
fn function<'t, T: Real>(name: &str, n: usize, [x, w, b, m]: [Var<'t, T>; 4]) -> Option<Var<'t, T>> {
    let heads = Heads { n_head: 1, n_kv_head: 1, head_size: n / 3 };
    let rows = || x.reshape([1, ROWS, n]);
    Some(match name {
        "gelu" => x.gelu(),
        "gelu_erf" => x.gelu_erf(),
        "silu" => x.silu(),
        "relu_squared" => x.relu_squared(),
        "fused_relu" => x.activation(Activation::Relu),
        "gated" if n.is_multiple_of(2) => x.gated(Activation::GeluTanh),
        "dropout" => x.dropout(0.3, Key::new(1, Purpose::Dropout, 2, 3)),
        "layer_norm" if n > 0 => x.layer_norm(w, Some(b), 1e-5),
        "rms_norm" if n > 0 => x.rms_norm(w, 1e-5),
        "softmax" if n > 0 => x.softmax(),
        "linear" => x.linear(m, None),
        "linear with all" => x.linear_with(m, Some(b), Some(Activation::Silu), Some(x)),
        "embedding" if n >= ROWS => m.embedding([0, n as u32 - 1, n as u32 / 2], ROWS, Some((m, 0))),
        "cross_entropy" if n > 0 => x.cross_entropy([0, n as u32 - 1, n as u32 / 2], 1.0 / 3.0),
        "attention" if n > 0 && n.is_multiple_of(3) => rows().attention(heads, 1.0 / ((n / 3) as f64).sqrt()),
        "cosine_heads" if n > 0 && n.is_multiple_of(3) => rows().cosine_heads(w.slice(0, 0..1), heads),
        "rotary" if n > 0 && n.is_multiple_of(6) => {
            let table = rotary_table(ROWS, n / 3, ROTARY_BASE);
            rows().rotary(x.tape().constant_from_f64(&table, [2, ROWS, n / 6]), heads, 0)
        }
        _ => return None,
    })
}

const NAMES: [&str; 17] = [
    "gelu",
    "gelu_erf",
    "silu",
    "relu_squared",
    "fused_relu",
    "gated",
    "dropout",
    "layer_norm",
    "rms_norm",
    "softmax",
    "linear",
    "linear with all",
    "embedding",
    "cross_entropy",
    "attention",
    "cosine_heads",
    "rotary",
];

/// The value and the gradients by all inputs, of Σ c ∘ y with fixed c.
fn results<T: Real>(name: &str, n: usize, inputs: &Params<f32>) -> Option<Vec<Vec<f64>>> {
    let params = inputs.cast::<T>();
    let pool = Pool::new();
    let mut grads = Grads::new(&params);
    let tape = Tape::new(&params, &pool);
    let vars: Vec<_> = params.layout().ids().map(|id| tape.param(id)).collect();
    let y = function(name, n, vars.try_into().ok().expect("four inputs"))?;
    let c: Vec<f64> = (0..y.shape().elements()).map(|i| if i % 3 == 0 { -0.75 } else { 1.25 }).collect();
    let mut results = vec![y.to_vec()];
    (y * tape.constant_from_f64(&c, y.shape())).sum_all().backward(&mut grads);
    results.extend(params.layout().ids().filter_map(|id| Some(grads.get(id)?.to_vec())));
    Some(results.into_iter().map(|values| values.into_iter().map(T::to_f64).collect()).collect())
}

#[test]
fn fused_ops_in_single_precision_are_as_near_as_rounding_allows_at_every_level() {
    let mut worst = BTreeMap::new();
    let mut compared = 0;
    for n in 0..=LONGEST {
        let tensor = |shape: &[usize], seed: u64| Tensor::<f32>::normal(shape, seed);
        let tensors = [tensor(&[ROWS, n], 1), tensor(&[n], 2), tensor(&[n], 3), tensor(&[n, n], 4)];
        let inputs = Params::from_views(&tensors.each_ref().map(Tensor::view));
        for name in NAMES {
            let Some(exact) = results::<f64>(name, n, &inputs) else { continue };
            let mut first: Option<Vec<Vec<f64>>> = None;
            at_every_level(|level| {
                let single = results::<f32>(name, n, &inputs).expect("as in f64");
                if let Some(first) = &first {
                    assert!(single == *first, "{name}, n {n}: other bits at {}", level.name());
                }
                assert_eq!(single.len(), exact.len());
                for (i, (single, exact)) in single.iter().zip(&exact).enumerate() {
                    let largest = exact.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
                    for (a, b) in single.iter().zip(exact) {
                        let error = (a - b).abs() / largest.max(1.0);
                        let what = if i == 0 { "value".into() } else { format!("gradient {}", i - 1) };
                        let close = error <= bound(n);
                        assert!(
                            close,
                            "{name}, n {n}, {what}: {a} at {}, {b} in f64, {error:e} off",
                            level.name()
                        );
                        let worst = worst.entry(name).or_insert(0.0);
                        *worst = f64::max(*worst, error / bound(n));
                        compared += 1;
                    }
                }
                first = Some(single);
            });
        }
    }
    assert_eq!(worst.len(), NAMES.len(), "a function was never compared");
    for (name, worst) in worst {
        eprintln!("{name}: {worst:.3} of what is accepted");
    }
    eprintln!("{compared} numbers compared");
}
