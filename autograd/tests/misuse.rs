//! What misuse is told, and where.

use std::panic::{AssertUnwindSafe, catch_unwind};

use weft_autograd::ops::Heads;
use weft_autograd::{Grads, ParamId, Params, Pool, Tape, Var};
use weft_tensor::Tensor;

/// One parameter, a vector.
fn params(len: usize) -> (Params<f64>, ParamId) {
    let params = Params::from_views(&[Tensor::<f64>::ones([len]).view()]);
    let id = params.layout().ids().next().unwrap();
    (params, id)
}

/// What `f` panics with.
#[track_caller]
fn panic_message(f: impl FnOnce()) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("no panic") };
    let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a panic with a message")
}

#[test]
fn misuse_of_the_walk_is_named() {
    let (params, x) = params(3);
    let pool = Pool::new();
    let backward_twice = panic_message(|| {
        let tape = Tape::new(&params, &pool);
        let loss = tape.param(x).sum_all();
        let mut grads = Grads::new(&params);
        loss.backward(&mut grads);
        loss.backward(&mut grads);
    });
    assert_eq!(backward_twice, "backward: this tape has been walked already; record the step again");
    let no_scalar = panic_message(|| Tape::new(&params, &pool).param(x).backward(&mut Grads::new(&params)));
    assert_eq!(no_scalar, "backward: the loss must be one number, not of shape [3]");
    let no_scalar = panic_message(|| drop(Tape::new(&params, &pool).param(x).grad(&[])));
    assert_eq!(no_scalar, "grad: the value must be one number, not of shape [3]");
    let inference = panic_message(|| {
        Tape::inference(&params, &pool).param(x).sum_all().backward(&mut Grads::new(&params));
    });
    assert_eq!(inference, "backward: this tape does not record");
    let others = panic_message(|| {
        let (others, _) = self::params(30);
        Tape::new(&params, &pool).param(x).sum_all().backward(&mut Grads::new(&others));
    });
    assert_eq!(others, "backward: grads belong to other parameters");
    let two_tapes = panic_message(|| {
        let (a, b) = (Tape::new(&params, &pool), Tape::new(&params, &pool));
        let _ = a.param(x) + b.param(x);
    });
    assert_eq!(two_tapes, "add: an input lies on another tape");
    let released = panic_message(|| {
        let tape = Tape::new(&params, &pool);
        let y = tape.param(x).exp();
        y.sum_all().backward(&mut Grads::new(&params));
        y.to_vec();
    });
    assert_eq!(
        released,
        "the value of this `exp` has been released: read it before the walk back, or outside of its checkpoint"
    );
}

#[test]
fn misuse_panics_at_the_line_of_the_mistake() {
    use std::sync::Mutex;
    static SEEN: Mutex<Vec<(String, u32)>> = Mutex::new(Vec::new());
    let (params, _) = params(0);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(at) =
            info.location().filter(|_| info.payload_as_str().is_some_and(|text| text.contains("[7, 11]")))
        {
            SEEN.lock().unwrap().push((at.file().to_string(), at.line()));
        }
        before(info);
    }));
    let line = line!() + 4;
    panic_message(|| {
        let pool = Pool::new();
        let tape = Tape::new(&params, &pool);
        tape.full([7, 11], 1.0).linear(tape.full([2, 3], 1.0), None);
    });
    let seen = SEEN.lock().unwrap();
    let [(file, at)] = &seen[..] else { panic!("not one panic: {seen:?}") };
    assert!(
        file.ends_with("misuse.rs") && file.contains("tests") && *at == line,
        "{file}:{at}, not line {line}"
    );
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let (params, _) = params(0);
    let pool = Pool::new();
    type Misuse = for<'t> fn(&dyn Fn(&[usize]) -> Var<'t, f64>) -> Var<'t, f64>;
    const HEADS: Heads = Heads { n_head: 2, n_kv_head: 1, head_size: 4 };
    let table: [(&str, Misuse); 15] = [
        ("matmul: inner dimensions differ: [12, 64, 128] · [256, 512] (128 vs 256)", |x| {
            x(&[12, 64, 128]).matmul(x(&[256, 512]))
        }),
        ("matmul: [] · [3]: a scalar is no matrix", |x| x(&[]).matmul(x(&[3]))),
        ("linear: input [5, 6] has last dimension 6, weight [6, 12] expects 12", |x| {
            x(&[5, 6]).linear(x(&[6, 12]), None)
        }),
        ("linear: weight [6] is no matrix", |x| x(&[5, 6]).linear(x(&[6]), None)),
        ("linear: bias [2] with weight [4, 6], which expects [4]", |x| {
            x(&[5, 6]).linear(x(&[4, 6]), Some(x(&[2])))
        }),
        ("linear: residual [5, 6] does not have the output's shape [5, 4]", |x| {
            x(&[5, 6]).linear_with(x(&[4, 6]), None, None, Some(x(&[5, 6])))
        }),
        ("layer_norm: weight [3] with input [2, 4], which expects [4]", |x| {
            x(&[2, 4]).layer_norm(x(&[3]), None, 1e-5)
        }),
        ("layer_norm: bias [3] with input [2, 4], which expects [4]", |x| {
            x(&[2, 4]).layer_norm(x(&[4]), Some(x(&[3])), 1e-5)
        }),
        ("rms_norm: a scalar has no dimension to normalise", |x| x(&[]).rms_norm(x(&[1]), 1e-5)),
        ("softmax: a scalar has no dimension to normalise", |x| x(&[]).softmax()),
        (
            "attention: input [1, 2, 12] is not (B, T, 16) for Heads { n_head: 2, n_kv_head: 1, head_size: 4 }",
            |x| x(&[1, 2, 12]).attention(HEADS, 1.0),
        ),
        ("embedding: 3 ids are not sequences of 2", |x| x(&[4, 2]).embedding([0, 1, 2], 2, None)),
        ("embedding: positions [2, 3] with table [4, 3], 3 positions wanted", |x| {
            x(&[4, 3]).embedding([0, 1], 2, Some((x(&[2, 3]), 1)))
        }),
        ("cross_entropy: 1 targets for logits [2, 3]", |x| x(&[2, 3]).cross_entropy([0], 1.0)),
        ("cross_entropy: target 3 at position 1 is out of range: vocab_size is 3", |x| {
            x(&[2, 3]).cross_entropy([0, 3], 1.0)
        }),
    ];
    for (message, misuse) in table {
        let seen = panic_message(|| {
            let tape = Tape::new(&params, &pool);
            misuse(&|shape| tape.full(shape, 1.0));
        });
        assert_eq!(seen, message);
    }
}

#[test]
fn a_value_inside_of_a_checkpoint_is_gone_after_it() {
    let (params, x) = params(4);
    let pool = Pool::new();
    let message = panic_message(|| {
        let tape = Tape::new(&params, &pool);
        let mut inside = None;
        tape.checkpoint(|| {
            let y = tape.param(x).tanh();
            inside = Some(y);
            y.exp()
        });
        inside.unwrap().to_vec();
    });
    assert_eq!(
        message,
        "the value of this `tanh` has been released: read it before the walk back, or outside of its checkpoint"
    );
}
