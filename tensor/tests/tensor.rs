//! `Tensor` against element-by-element oracles in `f64`: values, layouts, errors, text.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::RngExt;
use weft_tensor::random::{Purpose, Random};
use weft_tensor::simd::at_every_level;
use weft_tensor::strided::matmul_shape;
use weft_tensor::{Shape, Tensor};

/// Some hundred roundings of sums below 100.
const TOLERANCE: f64 = 1e-4;

fn random(seed: u64) -> Random {
    Random::new(seed, Purpose::Test, 0, 0)
}

fn counting(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    Tensor::arange(0.0, shape.elements() as f32, 1.0).reshape(shape)
}

/// Values of a shape by their index.
fn by_index(shape: Shape, f: impl Fn(&[usize]) -> f64) -> Tensor<f64> {
    let mut values = vec![];
    for mut i in 0..shape.elements() {
        let mut index = vec![0; shape.rank()];
        for axis in (0..shape.rank()).rev() {
            index[axis] = i % shape[axis];
            i /= shape[axis];
        }
        values.push(f(&index));
    }
    Tensor::from_vec(values, shape)
}

#[track_caller]
fn assert_close(y: &Tensor, expected: &Tensor<f64>, what: &str) {
    assert_eq!(y.shape(), expected.shape(), "{what}: shapes");
    for (i, (y, expected)) in y.to_vec().into_iter().zip(expected.to_vec()).enumerate() {
        let difference = (f64::from(y) - expected).abs();
        assert!(
            difference <= TOLERANCE || y.is_nan() && expected.is_nan(),
            "{what}: element {i}: {y}, not {expected}"
        );
    }
}

/// The words with which `f` panics.
fn refusal<T>(f: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(f()))).expect_err("no panic");
    payload
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| payload.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
fn views_share_memory_and_show_the_same_numbers() {
    let x = counting([2, 3, 4]);
    let memory = |x: &Tensor| x.view().data.as_ptr_range().end;
    for (name, view, expected) in [
        ("clone", x.clone(), by_index([2, 3, 4].into(), |i| (i[0] * 12 + i[1] * 4 + i[2]) as f64)),
        ("reshape", x.reshape([6, 4]), by_index([6, 4].into(), |i| (i[0] * 4 + i[1]) as f64)),
        (
            "transpose",
            x.transpose(0, 2),
            by_index([4, 3, 2].into(), |i| (i[2] * 12 + i[1] * 4 + i[0]) as f64),
        ),
        (
            "permute",
            x.permute(&[2, 0, 1]),
            by_index([4, 2, 3].into(), |i| (i[1] * 12 + i[2] * 4 + i[0]) as f64),
        ),
        ("slice", x.slice(1, 1..3), by_index([2, 2, 4].into(), |i| (i[0] * 12 + i[1] * 4 + 4 + i[2]) as f64)),
        (
            "unsqueeze",
            x.unsqueeze(3),
            by_index([2, 3, 4, 1].into(), |i| (i[0] * 12 + i[1] * 4 + i[2]) as f64),
        ),
        ("squeeze", x.slice(0, 1..2).squeeze(0), by_index([3, 4].into(), |i| (12 + i[0] * 4 + i[1]) as f64)),
        (
            "broadcast_to",
            x.slice(1, 2..3).broadcast_to([2, 2, 2, 4]),
            by_index([2, 2, 2, 4].into(), |i| (i[1] * 12 + 8 + i[3]) as f64),
        ),
    ] {
        assert_eq!(memory(&view), memory(&x), "{name} copied");
        assert_eq!(view.cast::<f64>(), expected, "{name}");
        assert_eq!(view.contiguous(), view, "{name}, made contiguous");
        let flat = view.reshape([view.elements()]);
        assert_eq!(flat.to_vec(), view.to_vec(), "{name}, flattened");
    }
}

#[test]
fn writing_leaves_other_owners_alone() {
    let x = counting([2, 2]);
    let mut y = x.transpose(0, 1);
    y.as_mut_slice()[1] = 9.0;
    assert_eq!(x.to_vec(), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(y.to_vec(), [0.0, 9.0, 1.0, 3.0]);
    let memory = y.as_slice().unwrap().as_ptr();
    assert_eq!(y.as_mut_slice().as_ptr(), memory, "the only owner was copied");
}

#[test]
fn creation_fills_the_shape() {
    assert_eq!(Tensor::<f32>::zeros([2, 0]).to_vec(), []);
    assert_eq!(Tensor::<f64>::ones([2]).to_vec(), [1.0, 1.0]);
    assert_eq!(Tensor::full([1, 2], 3.5).to_vec(), [3.5, 3.5]);
    assert_eq!(Tensor::scalar(2.0).item(), 2.0);
    assert_eq!(Tensor::<f32>::eye(2).to_vec(), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(Tensor::<f32>::eye(0).elements(), 0);
    assert_eq!(Tensor::arange(1.0, 2.0, 0.25).to_vec(), [1.0, 1.25, 1.5, 1.75]);
    assert_eq!(Tensor::arange(3.0, 0.0, -2.0).to_vec(), [3.0, 1.0]);
    assert_eq!(Tensor::<f32>::one_hot(&[1, 0], 2).to_vec(), [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(Tensor::from_vec(vec![1.0, 2.0], [2, 1]).get(&[1, 0]), 2.0);
    let (a, b) = (Tensor::<f32>::normal([100, 100], 1), Tensor::<f32>::normal([100, 100], 1));
    assert_eq!(a, b, "a seed gives one tensor");
    assert_ne!(a, Tensor::normal([100, 100], 2), "two seeds give two tensors");
    // Five standard deviations of 10 000 draws.
    assert!(a.mean(&a.axes(), false).item().abs() < 0.05);
    assert!((a.variance(&a.axes(), 1.0, false).item() - 1.0).abs() < 0.071);
    let u = Tensor::<f32>::uniform([10_000], 3);
    assert!(u.max(&[0], false).item() <= 1.0 && (-&u).max(&[0], false).item() <= 0.0);
    assert!((u.mean(&[0], false).item() - 0.5).abs() < 0.015);
}

#[test]
fn operators_broadcast_between_tensors_and_numbers() {
    let (x, row, column) = (counting([2, 3]), counting([3]), counting([2, 1]));
    assert_eq!((&x + &row).to_vec(), [0.0, 2.0, 4.0, 3.0, 5.0, 7.0]);
    assert_eq!((&x - &column).to_vec(), [0.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
    assert_eq!((&column * &row).shape(), [2, 3].into());
    assert_eq!((&x * 2.0).to_vec(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!((1.0 - &row).to_vec(), [1.0, 0.0, -1.0]);
    assert_eq!((2.0 / (row.clone() + 1.0)).to_vec(), [2.0, 1.0, 2.0 / 3.0]);
    assert_eq!((-&row).to_vec(), [0.0, -1.0, -2.0]);
    assert_eq!((&row + row.clone() * &row - row.clone()).to_vec(), [0.0, 1.0, 4.0]);
    assert_eq!(row.less(&Tensor::scalar(1.0)).to_vec(), [1.0, 0.0, 0.0]);
    assert_eq!(row.equal(&Tensor::scalar(1.0)).to_vec(), [0.0, 1.0, 0.0]);
    assert_eq!(row.maximum(&Tensor::scalar(1.0)).to_vec(), [1.0, 1.0, 2.0]);
    assert_eq!(row.minimum(&Tensor::scalar(1.0)).to_vec(), [0.0, 1.0, 1.0]);
    let mask = Tensor::from_slice(&[1.0, 0.0, 1.0], [3]);
    assert_eq!(x.masked_fill(&mask, -1.0).to_vec(), [-1.0, 1.0, -1.0, -1.0, 4.0, -1.0]);
    assert_eq!(row.select(&mask, &(&row * 10.0)).to_vec(), [0.0, 10.0, 2.0]);
}

#[test]
fn functions_are_those_of_each_element() {
    let values = [-3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 2.0, 3.5];
    at_every_level(|level| {
        // Transposed, so that the elements do not lie row by row.
        let x = Tensor::from_slice(&values, [3, 3]).cast::<f32>().transpose(0, 1);
        type Pair = (&'static str, fn(&Tensor) -> Tensor, fn(f64) -> f64);
        let functions: [Pair; 10] = [
            ("exp", Tensor::exp, f64::exp),
            ("log", Tensor::log, f64::ln),
            ("sqrt", Tensor::sqrt, f64::sqrt),
            ("tanh", Tensor::tanh, f64::tanh),
            ("erf", Tensor::erf, libm::erf),
            ("sigmoid", Tensor::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
            ("abs", Tensor::abs, f64::abs),
            ("relu", Tensor::relu, |x| x.max(0.0)),
            ("neg", |x| -x, |x| -x),
            ("powf", |x| x.powf(3.0), |x| x.powi(3)),
        ];
        for (name, f, oracle) in functions {
            let finite = |x: Tensor<f64>| {
                Tensor::from_vec(
                    x.to_vec().into_iter().map(|x| if x.is_infinite() { 0.0 } else { x }).collect(),
                    x.shape(),
                )
            };
            let expected = by_index([3, 3].into(), |i| oracle(values[i[1] * 3 + i[0]]));
            let y = f(&x);
            assert_eq!(
                y.equal(&Tensor::scalar(f32::NEG_INFINITY)).sum(&[0, 1], false).item(),
                if name == "log" { 2.0 } else { 0.0 }
            );
            let y = y.masked_fill(&y.abs().equal(&Tensor::scalar(f32::INFINITY)), 0.0);
            assert_close(&y, &finite(expected), &format!("{name} at level {level:?}"));
        }
    });
    assert!(Tensor::scalar(f32::NAN).relu().item().is_nan(), "relu hides a NaN");
}

#[test]
fn reductions_keep_or_drop_the_axes() {
    let x = counting([2, 3, 4]).transpose(0, 2);
    assert_eq!(x.sum(&[0, 2], false).to_vec(), [60.0, 92.0, 124.0]);
    assert_eq!(x.sum(&[0, 2], true).shape(), [1, 3, 1].into());
    assert_eq!(x.sum(&x.axes(), false).item(), 276.0);
    assert_eq!(x.mean(&[0], false).to_vec(), [1.5, 13.5, 5.5, 17.5, 9.5, 21.5]);
    assert_eq!(x.max(&[1, 2], false).to_vec(), [20.0, 21.0, 22.0, 23.0]);
    assert_eq!(x.variance(&[2], 0.0, true).to_vec(), [36.0; 12]);
    assert_eq!(x.variance(&[2], 1.0, true).to_vec(), [72.0; 12]);
    assert_eq!(x.argmax(2), [1; 12]);
    assert_eq!(Tensor::<f32>::zeros([0, 2]).sum(&[0], false).to_vec(), [0.0, 0.0]);
    assert!(Tensor::<f32>::zeros([0]).mean(&[0], false).item().is_nan());
}

#[test]
fn matmul_agrees_with_the_oracle_for_any_ranks_and_layouts() {
    at_every_level(|level| {
        for seed in 0..60 {
            let random = &mut random(seed);
            let sizes = [0, 1, 2, 3, 17, 33];
            let [m, k, n] = std::array::from_fn(|_| sizes[random.random_range(0..6)]);
            let batch: Vec<usize> =
                (0..random.random_range(0..3)).map(|_| random.random_range(1..4)).collect();
            let mut operand = |rows: usize, cols: usize, seed: u64| {
                // Some leading dimensions missing or 1; the matrix transposed and sliced in memory.
                let missing = random.random_range(0..=batch.len());
                let mut sizes: Vec<usize> = batch[missing..]
                    .iter()
                    .map(|&size| if random.random_bool(0.3) { 1 } else { size })
                    .collect();
                let turn = random.random_bool(0.5);
                sizes.extend(if turn { [cols, rows + 1] } else { [rows, cols + 2] });
                let x = Tensor::<f32>::normal(&sizes[..], seed);
                let last = x.rank() - 1;
                if turn {
                    x.slice(last, 1..rows + 1).transpose(last, last - 1)
                } else {
                    x.slice(last, 2..cols + 2)
                }
            };
            let (a, b) = (operand(m, k, 2 * seed), operand(k, n, 2 * seed + 1));
            let c = a.matmul(&b);
            let rank = c.rank();
            let element = |x: &Tensor, i: &[usize], row: usize, col: usize| {
                let missing = i.len() - x.rank();
                let mut index: Vec<usize> =
                    i[missing..].iter().zip(x.shape().iter()).map(|(i, n)| i % n.max(&1)).collect();
                let last = index.len() - 1;
                (index[last - 1], index[last]) = (row, col);
                f64::from(x.get(&index))
            };
            let expected = by_index(c.shape(), |i| {
                (0..k).map(|p| element(&a, i, i[rank - 2], p) * element(&b, i, p, i[rank - 1])).sum()
            });
            assert_close(
                &c,
                &expected,
                &format!("seed {seed}, {} · {}, level {level:?}", a.shape(), b.shape()),
            );
        }
    });
}

#[test]
fn matmul_takes_vectors_on_either_side() {
    let (v, m) = (counting([3]), counting([3, 2]));
    assert_eq!(v.matmul(&v).item(), 5.0);
    assert_eq!(v.matmul(&m).to_vec(), [10.0, 13.0]);
    assert_eq!(m.transpose(0, 1).matmul(&v).to_vec(), [10.0, 13.0]);
    assert_eq!(counting([2, 2, 3]).matmul(&v).shape(), [2, 2].into());
    assert_eq!(v.matmul(&counting([4, 3, 2])).shape(), [4, 2].into());
}

#[test]
fn softmax_and_its_logarithm_sum_to_one_along_any_axis() {
    at_every_level(|level| {
        let x = Tensor::<f32>::normal([3, 5, 4], 7).transpose(0, 1) * 30.0;
        for axis in 0..3 {
            let (y, log) = (x.softmax(axis), x.log_softmax(axis));
            let ones = Tensor::<f64>::ones(y.sum(&[axis], false).shape());
            assert_close(&y.sum(&[axis], false), &ones, &format!("softmax along {axis}, {level:?}"));
            assert_close(&log.exp(), &y.cast(), &format!("log_softmax along {axis}, {level:?}"));
        }
        let huge = Tensor::from_slice(&[1000.0f32, 0.0, f32::NEG_INFINITY], [3]);
        assert_eq!(huge.softmax(0).to_vec(), [1.0, 0.0, 0.0]);
    });
}

#[test]
fn picking_and_joining() {
    let x = counting([2, 3]);
    assert_eq!(x.index_select(1, &[2, 0]).to_vec(), [2.0, 0.0, 5.0, 3.0]);
    assert_eq!(x.gather(1, &[2, 0]).to_vec(), [2.0, 3.0]);
    assert_eq!(x.gather(0, &[1, 0, 1]).to_vec(), [3.0, 1.0, 5.0]);
    let joined = Tensor::concat(&[&x.slice(1, 2..3), &x], 1);
    assert_eq!(joined.to_vec(), [2.0, 0.0, 1.0, 2.0, 5.0, 3.0, 4.0, 5.0]);
    let stacked = Tensor::stack(&[&x, &(&x * 10.0)], 2);
    assert_eq!(stacked.shape(), [2, 3, 2].into());
    assert_eq!(stacked.get(&[1, 2, 1]), 50.0);
}

#[test]
fn cosine_similarity_is_that_of_the_angle() {
    let x = Tensor::from_slice(&[1.0f32, 0.0, 3.0, 4.0, 0.0, 0.0], [3, 2]);
    let y = Tensor::from_slice(&[0.6f32, 0.8], [2]);
    assert_close(&x.cosine_similarity(&y, 1), &Tensor::from_slice(&[0.6, 1.0, 0.0], [3]), "cosine");
}

#[test]
fn casts_round_to_nearest_and_back() {
    let x = Tensor::from_slice(&[0.1f64, 1e300, -2.5], [3]);
    assert_eq!(x.cast::<f32>().to_vec(), [0.1f32, f32::INFINITY, -2.5]);
    assert_eq!(x.cast::<f32>().cast::<f64>().get(&[0]), f64::from(0.1f32));
}

#[test]
fn text_is_a_table() {
    let x = Tensor::from_slice(&[1.0f32, -20.5, 3.25, 0.0], [2, 2]);
    assert_eq!(x.to_string(), "[[  1.0000, -20.5000],\n [  3.2500,   0.0000]]");
    assert_eq!(format!("{x:.1}"), "[[  1.0, -20.5],\n [  3.2,   0.0]]");
    assert_eq!(format!("{:?}", counting([2])), "Tensor<f32> [2]\n[0, 1]");
    assert_eq!(counting([2, 1, 2]).to_string(), "[[[0, 1]],\n\n [[2, 3]]]");
    assert_eq!(Tensor::scalar(2.5).to_string(), "2.5000");
    assert_eq!(Tensor::<f32>::zeros([2, 0]).to_string(), "[[],\n []]");
    assert_eq!(Tensor::from_slice(&[1e-6, 1.5e7], [2]).to_string(), "[1.0000e-6,  1.5000e7]");
    assert_eq!(Tensor::from_slice(&[f64::NAN, 1.0], [2]).to_string(), "[NaN,   1]");
    assert_eq!(counting([1000]).to_string(), "[  0,   1,   2, …, 997, 998, 999]");
    assert_eq!(counting([100, 100]).to_string().lines().count(), 7);
}

#[test]
fn shape_errors_of_products_are_values() {
    let words = |a: &[usize], b: &[usize]| matmul_shape(&Shape::new(a), &Shape::new(b)).unwrap_err().0;
    assert_eq!(
        words(&[12, 64, 128], &[256, 512]),
        "matmul: inner dimensions differ: [12, 64, 128] · [256, 512] (128 vs 256)"
    );
    assert_eq!(words(&[], &[2]), "matmul: a scalar has no inner dimension: [] · [2]");
    assert_eq!(
        words(&[2, 3, 4], &[3, 4, 5]),
        "matmul: batch dimensions do not broadcast: [2, 3, 4] · [3, 4, 5]"
    );
}

#[test]
fn misuse_panics_in_words() {
    let x = counting([2, 3]);
    for (expected, words) in [
        ("add: [2, 3] and [2] do not broadcast to one shape", refusal(|| &x + &counting([2]))),
        ("reshape: [2, 3] has 6 elements, [4] wants 4", refusal(|| x.reshape([4]))),
        ("get: [0, 3] is no index of [2, 3]", refusal(|| x.get(&[0, 3]))),
        ("item: [2, 3] does not have exactly one element", refusal(|| x.item())),
        ("from_slice: 1 values, [2] wants 2", refusal(|| Tensor::from_slice(&[1.0], [2]))),
        ("max: axes [0] of [0] hold no elements", refusal(|| Tensor::<f32>::zeros([0]).max(&[0], false))),
        ("softmax: [2, 3] has 2 dimensions, no axis 2", refusal(|| x.softmax(2))),
        ("stack: [3] differs from [2, 3]", refusal(|| Tensor::stack(&[&x, &counting([3])], 0))),
        ("index_select: id 3 at position 0 is out of range: 3 entries", refusal(|| x.index_select(1, &[3]))),
    ] {
        assert_eq!(words, expected);
    }
}

#[test]
fn a_panic_names_the_callers_line() {
    use std::sync::Mutex;
    static PLACE: Mutex<Option<String>> = Mutex::new(None);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let words = info.payload().downcast_ref::<String>();
        // Other tests panic too; only this one with these shapes.
        if words.is_some_and(|words| words.contains("[71]")) {
            *PLACE.lock().unwrap() = info.location().map(|place| place.file().to_string());
        }
    }));
    let (x, y) = (counting([71]), counting([2]));
    let cases: [&dyn Fn() -> Tensor; 10] = [
        &|| &x + &y,
        &|| x.matmul(&y),
        &|| x.transpose(0, 1),
        &|| x.sum(&[1], false),
        &|| x.broadcast_to([2]),
        &|| x.reshape([72]),
        &|| Tensor::stack(&[&x, &y], 0),
        &|| x.index_select(1, &[0]),
        &|| x.softmax(1),
        &|| Tensor::from_slice(&[1.0], [71]),
    ];
    let places = cases.map(|case| {
        assert!(catch_unwind(AssertUnwindSafe(case)).is_err());
        PLACE.lock().unwrap().take()
    });
    std::panic::set_hook(before);
    for (i, place) in places.iter().enumerate() {
        assert!(
            place.as_ref().is_some_and(|file| file.ends_with("tests/tensor.rs")),
            "case {i} points at {place:?}"
        );
    }
}
