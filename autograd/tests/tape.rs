//! The walk back: where gradients go, what memory does, and what misuse is told.

use std::time::Duration;

use weft_autograd::gradcheck::{gradcheck, randn, try_gradcheck};
use weft_autograd::ops::{Activation, Heads};
use weft_autograd::{
    Entry, Grads, Packing, ParamId, ParamLayout, Params, Pool, Precision, Profile, Tape, Var,
};
use weft_tensor::random::{Key, Purpose};
use weft_tensor::{Tensor, View};

/// A function of one value.
type Function = for<'t> fn(Var<'t, f64>) -> Var<'t, f64>;

/// Parameters of these shapes, normal random numbers.
fn params<const N: usize>(shapes: [&[usize]; N]) -> (Params<f64>, [ParamId; N]) {
    let tensors = shapes.map(randn);
    let params = Params::from_views(&tensors.each_ref().map(Tensor::view));
    let ids: Vec<ParamId> = params.layout().ids().collect();
    (params, ids.try_into().unwrap())
}

/// The loss and the gradient of each parameter, zeros where there is none.
fn gradients(
    params: &Params<f64>,
    pool: &Pool<f64>,
    f: impl for<'t> FnOnce(&'t Tape<'t, f64>) -> Var<'t, f64>,
) -> (f64, Vec<Vec<f64>>) {
    let mut grads = Grads::new(params);
    let tape = Tape::new(params, pool);
    let loss = f(&tape);
    loss.backward(&mut grads);
    let ids = params.layout().ids();
    let grads = ids.map(|id| grads.get(id).map_or_else(|| vec![0.0; params.get(id).len()], <[f64]>::to_vec));
    (loss.item(), grads.collect())
}

#[test]
fn a_variable_used_twice_gets_the_sum_of_both_gradients() {
    gradcheck(|[x]| x * x, [randn([3, 4])]);
    gradcheck(|[x]| x + x.transpose(0, 1), [randn([3, 3])]);
    gradcheck(|[x]| x.matmul(x.transpose(0, 1)), [randn([3, 4])]);
    gradcheck(|[x]| x.matmul_transposed(x, true, false), [randn([3, 4])]);
    gradcheck(|[x]| x.linear_with(x, None, Some(Activation::GeluTanh), Some(x)), [randn([3, 3])]);
    gradcheck(|[x]| x.layer_norm(x, Some(x), 1e-2), [randn([5])]);
    // As values on the way, not parameters: their gradients meet elsewhere.
    gradcheck(|[x]| (x * 2.0).linear_with(x * 2.0, None, None, Some(x)), [randn([3, 3])]);
    gradcheck(
        |[x]| {
            let y = x.tanh();
            y.linear_with(y, None, Some(Activation::Silu), Some(y))
        },
        [randn([3, 3])],
    );
    let (params, [x]) = params([&[4]]);
    let (_, grads) = gradients(&params, &Pool::new(), |tape| (tape.param(x) * tape.param(x)).sum_all());
    assert!(grads[0].iter().zip(params.get(x)).all(|(dx, x)| *dx == 2.0 * x), "d(x·x) = {:?}", grads[0]);
}

#[test]
fn a_parameter_that_is_the_loss_has_the_gradient_one() {
    let (params, [id]) = params([&[1]]);
    let (pool, mut grads) = (Pool::new(), Grads::new(&params));
    for sum in [1.0, 2.0] {
        let tape = Tape::new(&params, &pool);
        tape.param(id).backward(&mut grads);
        assert_eq!(grads.flat()[..1], [sum]);
    }
}

#[test]
fn diamonds_add_up() {
    let (params, [x]) = params([&[3]]);
    let (_, grads) =
        gradients(&params, &Pool::new(), |tape| (0..20).fold(tape.param(x), |x, _| x + x).sum_all());
    assert_eq!(grads[0], [f64::from(1 << 20); 3]);
    gradcheck(
        |[x, w]| {
            let (a, b) = (x.gelu(), x.linear(w, None));
            let c = a * b;
            (c + a).softmax() * (c - b) + x
        },
        [randn([2, 3]), randn([3, 3])],
    );
}

#[test]
fn a_chain_of_ten_thousand_needs_no_stack() {
    const DEPTH: usize = 10_000;
    // Frames of any recursion over the chain would not fit.
    const STACK: usize = 256 << 10;
    let work = || {
        let (params, [x]) = params([&[2, 3]]);
        let pool = Pool::new();
        type Link = for<'t> fn(Var<'t, f64>, usize) -> Var<'t, f64>;
        let chains: [Link; 4] = [
            |x, _| x * 1.0 + 0.0,
            |x, _| x + x * 0.0,
            |x, i| x.reshape(if i % 2 == 0 { [3, 2] } else { [2, 3] }),
            |x, _| x.activation(Activation::Relu) - (-x).activation(Activation::Relu),
        ];
        for (i, link) in chains.into_iter().enumerate() {
            let (_, grads) = gradients(&params, &pool, |tape| (0..DEPTH).fold(tape.param(x), link).sum_all());
            assert_eq!(grads[0], [1.0; 6], "chain {i}");
            let tape = Tape::new(&params, &pool);
            let x = tape.param(x);
            let [dx] = (0..DEPTH).fold(x, link).sum_all().grad(&[x])[..] else { panic!("one gradient") };
            assert_eq!(dx.to_vec(), [1.0; 6], "chain {i}, by `grad`");
        }
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_parameter_that_the_loss_does_not_reach_is_named() {
    let mut layout = ParamLayout::new();
    let names = ["wte.weight", "h.0.attn.scale", "ln_f.weight"];
    let ids = names.map(|name| layout.add(name, [3]));
    let params = Params::<f64>::zeros(layout);
    let pool = Pool::new();
    let mut grads = Grads::new(&params);
    assert!(grads.missing().eq(names), "nothing has a gradient yet");
    {
        let tape = Tape::new(&params, &pool);
        // Used, but not by the loss.
        let _ = tape.param(ids[1]).exp();
        let loss = (tape.param(ids[0]) * tape.param(ids[2])).sum_all();
        loss.backward(&mut grads);
    }
    assert!(grads.missing().eq(["h.0.attn.scale"]));
    assert_eq!(grads.get(ids[1]), None);
    assert_eq!(grads.get(ids[0]), Some(&[0.0; 3][..]), "a gradient of zero is a gradient");
}

#[test]
fn gradients_of_two_tapes_add_up() {
    let (params, [x, w]) = params([&[2, 3], &[3]]);
    let pool = Pool::new();
    fn first<'t>(x: Var<'t, f64>, w: Var<'t, f64>) -> Var<'t, f64> {
        x.layer_norm(w, None, 1e-5).gelu().sum_all()
    }
    fn second<'t>(x: Var<'t, f64>, w: Var<'t, f64>) -> Var<'t, f64> {
        (x * w).softmax().select(x, w).square().sum_all()
    }
    let mut grads = Grads::new(&params);
    for f in [first, second] {
        let tape = Tape::new(&params, &pool);
        f(tape.param(x), tape.param(w)).backward(&mut grads);
    }
    let (_, sum) = gradients(&params, &pool, |tape| {
        let (x, w) = (tape.param(x), tape.param(w));
        second(x, w) + first(x, w)
    });
    for (id, sum) in [x, w].into_iter().zip(sum) {
        for (a, b) in grads.get(id).unwrap().iter().zip(sum) {
            assert!((a - b).abs() < 1e-14, "{a} on two tapes, {b} on one");
        }
    }
}

#[test]
fn the_first_write_after_a_reset_overwrites() {
    let (params, [x, w, b]) = params([&[2, 3], &[3, 3], &[3]]);
    let pool = Pool::new();
    let step = |grads: &mut Grads<f64>| {
        let tape = Tape::new(&params, &pool);
        let (x, w, b) = (tape.param(x), tape.param(w), tape.param(b));
        let y = x.linear_with(w, Some(b), Some(Activation::GeluErf), Some(x)).layer_norm(b, Some(b), 1e-5);
        (y * b).cross_entropy([0, 2], 0.5).backward(grads);
    };
    let mut fresh = Grads::new(&params);
    step(&mut fresh);
    let mut garbage = Grads::new(&params);
    step(&mut garbage);
    garbage.reset();
    garbage.flat_mut().fill(f64::NAN);
    step(&mut garbage);
    for id in params.layout().ids() {
        assert_eq!(garbage.get(id), fresh.get(id), "{}", params.layout().name(id));
        assert!(fresh.get(id).unwrap().iter().all(|x| x.is_finite()));
    }
}

#[test]
fn packed_weights_change_no_bits_and_are_never_stale() {
    let (mut params, [x, w]) = params([&[5, 7], &[33, 7]]);
    let pool = Pool::new();
    let step = |params: &Params<f64>| {
        gradients(params, &pool, |tape| {
            let y = tape.param(x).linear_with(tape.param(w), None, Some(Activation::Silu), None);
            (y * y).sum_all()
        })
    };
    let plain = step(&params);
    params.prepare(&[w], Precision::F32, Packing::Both);
    assert_eq!(step(&params), plain, "packing the weight changed the step");
    params.get_mut(w)[3] = 2.0;
    let changed = step(&params);
    assert_ne!(changed, plain, "the step read the packed weight of before the change");
    params.prepare(&[w], Precision::F32, Packing::Both);
    assert_eq!(step(&params), changed, "packing the changed weight changed the step");
}

#[test]
fn bf16_weights_round_all_three_products_packed_or_not() {
    // Of the products and of their sums, no more than the rounding of either operand may come out: 2⁻⁸ each, and their product.
    const TOLERANCE: f64 = 2.0 / 256.0 + 1e-4;
    let (mut params, [x, w]) = params([&[5, 7], &[33, 7]]);
    let pool = Pool::new();
    let step = |params: &Params<f64>| {
        gradients(params, &pool, |tape| tape.param(x).linear(tape.param(w), None).sum_all())
    };
    let (loss, exact) = step(&params);
    params.prepare(&[w], Precision::Bf16, Packing::None);
    let plain = step(&params);
    params.prepare(&[w], Precision::Bf16, Packing::Both);
    assert_eq!(step(&params), plain, "packing changed the step");
    assert_ne!(plain.0, loss, "the forward product is not rounded");
    // With dy = 1, dx and dW are sums of weights and of inputs.
    for (exact, rounded) in exact.iter().zip(&plain.1) {
        assert_ne!(rounded, exact, "a gradient is not rounded");
        for (exact, rounded) in exact.iter().zip(rounded) {
            let error = (exact - rounded).abs();
            assert!(error <= TOLERANCE * 33.0, "{rounded} is far from {exact}");
        }
    }
}

#[test]
fn a_tied_parameter_gets_the_gradients_of_both_uses() {
    gradcheck(
        |[table]| {
            table
                .embedding([2, 0, 2, 1], 2, None)
                .gelu()
                .linear(table, None)
                .cross_entropy([1, 2, 0, 2], 0.25)
        },
        [randn([3, 4])],
    );
}

#[test]
fn leaves_are_copied_from_any_layout() {
    let (params, []) = params([]);
    let pool = Pool::new();
    let tape = Tape::new(&params, &pool);
    let values: Vec<f64> = (0..6).map(f64::from).collect();
    let view = View::new(&values, [2, 3].into());
    let turned = tape.constant(view.transpose(0, 1));
    assert_eq!((turned.shape(), turned.to_vec()), ([3, 2].into(), vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    let row = tape.constant(view.slice(0, 1..2).slice(1, 1..3).broadcast_to([2, 2]));
    assert_eq!(row.to_vec(), [4.0, 5.0, 4.0, 5.0]);
    let number = tape.variable(View::new(&values[3..4], [].into()).broadcast_to([2, 2]));
    assert_eq!(number.to_vec(), [3.0; 4]);
    // Every element of a repeated variable is a variable of its own.
    let [by_number, by_constant] = (number * row).sum_all().grad(&[number, row])[..] else {
        panic!("two gradients")
    };
    assert_eq!(by_number.to_vec(), row.to_vec());
    assert_eq!(by_constant.to_vec(), [0.0; 4], "nothing is differentiated by a constant");
}

/// Ops with a kernel of their own, as functions of rows (2, 2, 6).
fn fused() -> Vec<(&'static str, Function)> {
    const HEADS: Heads = Heads { n_head: 1, n_kv_head: 1, head_size: 2 };
    fn ones(x: Var<'_, f64>, n: usize) -> Var<'_, f64> {
        x.tape().full([n], 1.5)
    }
    vec![
        ("gelu", |x| x.gelu()),
        ("gated", |x| x.gated(Activation::Silu)),
        ("layer_norm", |x| x.layer_norm(ones(x, 6), None, 1e-2)),
        ("rms_norm", |x| x.rms_norm(ones(x, 6), 1e-2)),
        ("softmax", |x| x.softmax()),
        ("linear", |x| x.linear(x.reshape([4, 6]), None)),
        ("linear with all", |x| {
            x.linear_with(
                x.reshape([4, 6]).slice(0, 0..3),
                Some(ones(x, 3)),
                Some(Activation::GeluTanh),
                Some(x.slice(2, 0..3)),
            )
        }),
        ("attention", |x| x.attention(HEADS, 0.7)),
        ("cosine_heads", |x| x.cosine_heads(ones(x, 1), HEADS)),
        ("rotary", |x| x.rotary(x.tape().full([2, 2, 1], 0.8), HEADS, 0)),
        ("dropout", |x| x.dropout(0.4, Key::new(1, Purpose::Test, 0, 0))),
        ("embedding", |x| x.reshape([4, 6]).embedding([3, 0, 0, 1], 2, None)),
        ("cross_entropy", |x| x.cross_entropy([0, 5, 2, 2], 0.25)),
    ]
}

#[test]
fn upstream_gradients_arrive_in_any_layout() {
    for (name, f) in fused() {
        let check = |what: &str, result: Result<_, _>| {
            result.unwrap_or_else(|mismatch| panic!("{name}, {what}: {mismatch}"));
        };
        let x = || [randn([2, 2, 6])];
        // A gradient of stride 0, of ones; a row repeated; one that comes back transposed.
        check("sum", try_gradcheck(|[x]| f(x).sum_all(), x()));
        check("rows", try_gradcheck(|[x]| f(x).reshape_rows().sum(&[0], false), x()));
        check("transposed", try_gradcheck(|[x]| f(x).reshape_rows().transpose(0, 1).exp(), x()));
        check("broadcast", try_gradcheck(|[x]| f(x).reshape_rows().broadcast_to_front(3).square(), x()));
        check("sliced", try_gradcheck(|[x]| f(x).reshape_rows().slice(0, 0..1), x()));
    }
}

/// Short forms for the tests.
trait Rows {
    fn reshape_rows(self) -> Self;
    fn broadcast_to_front(self, n: usize) -> Self;
}

impl Rows for Var<'_, f64> {
    fn reshape_rows(self) -> Self {
        let shape = self.shape();
        if shape.rank() == 0 { self.reshape([1, 1]) } else { self.reshape([shape.rows(), shape.last()]) }
    }

    fn broadcast_to_front(self, n: usize) -> Self {
        let shape = self.shape();
        self.broadcast_to([n, shape[0], shape[1]])
    }
}

#[test]
fn a_gradient_of_zero_stays_zero() {
    let (params, [x]) = params([&[2, 2, 6]]);
    for (name, f) in fused() {
        let (_, grads) = gradients(&params, &Pool::new(), |tape| (f(tape.param(x)) * 0.0).sum_all());
        assert!(grads[0].iter().all(|dx| *dx == 0.0), "{name}: {:?}", grads[0]);
    }
}

/// A way to run a part of a model.
type How = for<'t> fn(&'t Tape<'t, f64>, &dyn Fn() -> Var<'t, f64>) -> Var<'t, f64>;

/// A model of three layers that sees every kind of op: also a view, a constant made inside, and dropout.
fn layers<'t>(tape: &'t Tape<'t, f64>, ids: &[ParamId], how: How) -> Var<'t, f64> {
    let [x, w, b] = [0, 1, 2].map(|i| tape.param(ids[i]));
    let mut x = x;
    for layer in 0..3 {
        x = how(tape, &|| {
            let y = x.layer_norm(b, None, 1e-5).linear_with(w, Some(b), Some(Activation::GeluTanh), None);
            let y = y.dropout(0.2, Key::new(3, Purpose::Dropout, layer, 0));
            let y = how(tape, &|| (y * tape.full([8], 0.5)).softmax() * y.exp());
            (x + y.tanh()).reshape([4, 4, 8]).reshape([16, 8])
        });
    }
    (x * x).sum_all()
}

#[test]
fn a_checkpoint_changes_memory_and_nothing_else() {
    let (params, ids) = params([&[16, 8], &[8, 8], &[8]]);
    let run = |how: How| {
        let pool = Pool::new();
        let result = gradients(&params, &pool, |tape| layers(tape, &ids, how));
        (result, pool.made())
    };
    let (plain, kept) = run(|_, f| f());
    let (checkpointed, less) = run(|tape, f| tape.checkpoint(f));
    assert!(plain.0.is_finite());
    assert_eq!(checkpointed, plain, "other bits");
    assert!(less < kept, "{less} numbers with checkpoints, {kept} without");
    eprintln!("{less} numbers with checkpoints, {kept} without");
}

#[test]
fn a_checkpoint_that_the_loss_does_not_use_is_no_obstacle() {
    let (params, [x]) = params([&[4]]);
    let pool = Pool::new();
    let (_, grads) = gradients(&params, &pool, |tape| {
        let x = tape.param(x);
        let used = tape.checkpoint(|| x.exp().tanh().square());
        let _unused = tape.checkpoint(|| x.tanh().exp());
        let nested = tape.checkpoint(|| {
            let _ = tape.checkpoint(|| x.exp().exp());
            used.exp().tanh()
        });
        nested.sum_all()
    });
    let (_, expected) = gradients(&params, &pool, |tape| {
        let x = tape.param(x);
        x.exp().tanh().square().exp().tanh().sum_all()
    });
    assert_eq!(grads, expected);
}

#[test]
fn the_walk_back_takes_no_buffer_that_it_can_do_without() {
    let (params, [a, b, w]) = params([&[4, 8], &[4, 8], &[8, 8]]);
    let mut grads = Grads::new(&params);
    // Numbers in all buffers: the values on the tape, then what the walk back takes beside them.
    let mut made = |f: &dyn for<'t> Fn(&'t Tape<'_, f64>) -> Var<'t, f64>| {
        let pool = Pool::new();
        let tape = Tape::new(&params, &pool);
        let loss = f(&tape);
        let values = pool.made();
        loss.backward(&mut grads);
        (values, pool.made() - values)
    };
    let (x, one) = (4 * 8, 1);
    let product = made(&|tape| tape.param(a).linear(tape.param(w), None).sum_all());
    assert_eq!(
        product,
        (x + one, one + x),
        "a product saves nothing; gradients of parameters go where they belong"
    );
    let sum = made(&|tape| (tape.param(a).exp() + tape.param(b).exp()).sum_all());
    assert_eq!(sum, (3 * x + one, one + 2 * x), "the second summand takes the gradient of the sum");
}

#[test]
fn a_loss_without_parameters_has_no_gradient() {
    let (params, _) = params([&[4]]);
    // The last op is one of each kind: an alias, a primitive, a fused one that saves something, and none at all.
    let losses: [Function; 5] = [
        |x| x.sum_all().reshape([1]),
        |x| x.sum_all(),
        |x| x.cross_entropy([0, 2], 1.0),
        |x| x.sum_all().reshape([1, 1]).layer_norm(x.tape().full([1], 1.0), None, 1e-5),
        |x| x.tape().full([1], 1.0),
    ];
    for loss in losses {
        let (_, grads) = gradients(&params, &Pool::new(), |tape| loss(tape.full([2, 3], 0.5)));
        assert_eq!(grads, [[0.0; 4]]);
    }
}

#[test]
fn a_tape_for_inference_computes_the_same_and_keeps_less() {
    let (params, ids) = params([&[16, 8], &[8, 8], &[8]]);
    let (recording, inferring) = (Pool::new(), Pool::new());
    let recorded = layers(&Tape::new(&params, &recording), &ids, |tape, f| tape.frugally(f)).item();
    let tape = Tape::inference(&params, &inferring);
    let inferred = layers(&tape, &ids, |tape, f| tape.frugally(f));
    assert_eq!(inferred.item(), recorded);
    assert!(!tape.is_recording());
    assert!(inferring.made() < recording.made(), "{} and {} numbers", inferring.made(), recording.made());
}

#[test]
fn gradients_can_be_differentiated_again() {
    /// Sums and products of a few numbers of order one.
    const CLOSE: f64 = 1e-12;
    let (params, [x]) = params([&[5]]);
    let pool = Pool::new();
    let nth = |f: Function, n: usize| {
        let tape = Tape::new(&params, &pool);
        let x = tape.param(x);
        // Each element by itself, so the derivative of the sum is that of the function.
        (0..n).fold(f(x), |y, _| y.sum_all().grad(&[x])[0]).to_vec()
    };
    type Formula = fn(f64) -> f64;
    let table: [(&str, Function, [Formula; 4]); 4] = [
        ("x⁴", |x| x * x * x * x, [|x| x.powi(4), |x| 4.0 * x.powi(3), |x| 12.0 * x * x, |x| 24.0 * x]),
        (
            "e²ˣ",
            |x| (x * 2.0).exp(),
            [
                |x| (2.0 * x).exp(),
                |x| 2.0 * (2.0 * x).exp(),
                |x| 4.0 * (2.0 * x).exp(),
                |x| 8.0 * (2.0 * x).exp(),
            ],
        ),
        (
            "tanh",
            |x| x.tanh(),
            [
                |x| x.tanh(),
                |x| 1.0 - x.tanh().powi(2),
                |x| -2.0 * x.tanh() * (1.0 - x.tanh().powi(2)),
                |x| (6.0 * x.tanh().powi(2) - 2.0) * (1.0 - x.tanh().powi(2)),
            ],
        ),
        // A fused op goes through its reference: σ is the logistic function, s′ = s (1 − s).
        (
            "silu",
            |x| x.silu(),
            [
                |x| x / (1.0 + (-x).exp()),
                |x| {
                    let s = 1.0 / (1.0 + (-x).exp());
                    s + x * s * (1.0 - s)
                },
                |x| {
                    let s = 1.0 / (1.0 + (-x).exp());
                    s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))
                },
                |x| {
                    let s = 1.0 / (1.0 + (-x).exp());
                    let d = s * (1.0 - s);
                    d * (3.0 * (1.0 - 2.0 * s) + x * ((1.0 - 2.0 * s).powi(2) - 2.0 * d))
                },
            ],
        ),
    ];
    for (name, f, formulas) in table {
        for (n, formula) in formulas.into_iter().enumerate() {
            for (x, y) in params.get(x).iter().zip(nth(f, n)) {
                let expected = formula(*x);
                assert!(
                    (y - expected).abs() <= CLOSE * (1.0 + expected.abs()),
                    "derivative {n} of {name} at {x}: {y}, the formula says {expected}"
                );
            }
        }
    }
}

#[test]
fn the_derivative_by_two_variables_is_symmetric() {
    let (params, [x, y, u, v]) = params([&[3], &[3], &[3], &[3]]);
    let pool = Pool::new();
    let tape = Tape::new(&params, &pool);
    let [x, y, u, v] = [x, y, u, v].map(|id| tape.param(id));
    let f = ((x * x * y * 0.3).exp() + x.softmax() * y + x.layer_norm(y, None, 0.1).gelu()).sum_all();
    // uᵀ (∂²f/∂x∂y) v by both ways.
    let by_x = (f.grad(&[x])[0] * u).sum_all().grad(&[y])[0];
    let by_y = (f.grad(&[y])[0] * v).sum_all().grad(&[x])[0];
    let (a, b) = ((by_x * v).sum_all().item(), (by_y * u).sum_all().item());
    assert!((a - b).abs() < 1e-12 * a.abs(), "{a} and {b}");
}

#[test]
fn a_profiled_pool_counts_calls_and_work_and_changes_no_bit() {
    let mut layout = ParamLayout::new();
    let w = layout.add("w", [3, 4]);
    let mut params = Params::<f32>::zeros(layout);
    params.flat_mut().iter_mut().zip(0..).for_each(|(x, i)| *x = (i as f32 * 0.7).sin());
    let run = |pool: &Pool| {
        let mut grads = Grads::new(&params);
        let tape = Tape::new(&params, pool);
        let x = tape.full([2, 4], 0.5);
        // 2 · 2 · 3 · 4 operations, and as a primitive the square of 6 numbers.
        let y = x.linear(tape.param(w), None);
        (y * y).sum(&[0, 1], false).backward(&mut grads);
        grads.flat().to_vec()
    };
    let (plain, profiled) = (Pool::new(), Pool::new().profiled());
    assert_eq!(run(&plain), run(&profiled));
    run(&profiled);
    assert!(plain.profile().is_none());
    let mut profile = profiled.profile().expect("it is a profiled one");
    let linear = |profile: &Profile, backward: bool| {
        let found = |entry: &&Entry| entry.name == "linear" && entry.backward == backward;
        *profile.entries().iter().find(found).expect("it was called")
    };
    let (forward, backward) = (linear(&profile, false), linear(&profile, true));
    assert_eq!((forward.calls, forward.flops, forward.bytes), (2, 2 * 48, 0));
    assert_eq!((backward.calls, backward.flops), (2, 2 * 96));
    assert!(forward.time > Duration::ZERO);
    let of_primitives = |backward| {
        let others =
            profile.entries().iter().filter(|entry| entry.backward == backward && entry.name != "linear");
        others.map(|entry| entry.bytes).sum::<u64>()
    };
    // Forward, the product reads 6 numbers twice and writes 6, their sum reads 6 and writes 1.
    assert_eq!(of_primitives(false), 2 * 4 * (18 + 7));
    assert!(of_primitives(true) > 0, "what the walk back computes is its expense");
    profile.merge(&profiled.profile().unwrap());
    assert_eq!((linear(&profile, false).calls, linear(&profile, true).flops), (4, 4 * 96));
}

#[test]
fn a_watched_pool_names_the_first_op_that_is_not_finite() {
    let mut layout = ParamLayout::new();
    let (x, w) = (layout.add("x", [1, 1]), layout.add("w", [1, 1]));
    let mut params = Params::<f64>::zeros(layout);
    // Σ s · (x Wᵀ), with x as it is or from another op.
    let mut anomaly = |values: [f64; 3], direct: bool| {
        let [x_value, w_value, s] = values;
        params.get_mut(x).fill(x_value);
        params.get_mut(w).fill(w_value);
        let (pool, mut grads) = (Pool::new().watched(), Grads::new(&params));
        let tape = Tape::new(&params, &pool);
        let x = tape.param(x);
        let x = if direct { x } else { x * tape.full([1, 1], 1.0) };
        let y = x.linear(tape.param(w), None) * tape.full([1, 1], s);
        y.sum(&[0, 1], false).backward(&mut grads);
        pool.anomaly()
    };
    for direct in [true, false] {
        assert_eq!(anomaly([1.0, 2.0, 3.0], direct), None, "all is finite");
        let forward = anomaly([1e200, 1e200, 1.0], direct).expect("the product overflows");
        assert_eq!((forward.op, forward.backward, forward.inputs.len()), ("linear", false, 2));
        assert_eq!(forward.inputs[1].name.as_deref(), Some("w"));
        assert_eq!(forward.inputs[0].range, Some((1e200, 1e200)));
        // Forward 1e-100 and then 1e100; the gradient of x is 1e400.
        let backward = anomaly([1e-300, 1e200, 1e200], direct).expect("the gradient overflows");
        assert_eq!((backward.op, backward.backward, backward.inputs.len()), ("linear", true, 3));
        assert_eq!(backward.inputs[2].range, Some((1e200, 1e200)), "the gradient of the product");
        let shown = backward.to_string();
        assert!(
            shown.starts_with("`linear` (backward) of ") && shown.contains("; gradient [1, 1]"),
            "{shown}"
        );
    }
    let infinite = anomaly([f64::INFINITY, 1.0, 1.0], true).expect("a parameter is not finite");
    assert_eq!(infinite.inputs[0].to_string(), "`x` [1, 1], 1 not finite");
}
