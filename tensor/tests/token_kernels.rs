//! Embedding, rotary, unit-length heads and dropout against oracles in `f64`, at every SIMD level.

use rand::RngExt;
use weft_tensor::kernels::Heads;
use weft_tensor::kernels::cosine::{l2_normalize_heads, l2_normalize_heads_backward};
use weft_tensor::kernels::dropout::{dropout, keeps};
use weft_tensor::kernels::embedding::{Positions, embedding, embedding_backward, positions_backward};
use weft_tensor::kernels::rotary::{BASE, rotary, rotary_table};
use weft_tensor::random::{Key, Purpose, Random};
use weft_tensor::simd::at_every_level;
use weft_tensor::{Grad, Real};

/// A few roundings of numbers below 10.
const TOLERANCE: f64 = 1e-5;
/// Central differences with step 1e-6 in `f64`: truncation 1e-12, rounding 1e-10, times ten.
const GRADIENT_TOLERANCE: f64 = 1e-8;

fn noise<T: Real>(seed: u64, n: usize) -> Vec<T> {
    let mut random = Random::new(seed, Purpose::Test, 0, 0);
    (0..n).map(|_| T::from_f64(random.random_range(-2.0..2.0))).collect()
}

#[track_caller]
fn assert_close<T: Real>(y: &[T], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(y.len(), expected.len(), "{what}: lengths");
    for (i, (y, expected)) in y.iter().zip(expected).enumerate() {
        let difference = (y.to_f64() - expected).abs();
        assert!(difference <= tolerance, "{what}: element {i} is {y}, not {expected}");
    }
}

/// What `f` writes over NaN; what it adds to 0.5 must be 0.5 more.
#[track_caller]
fn both_ways<T: Real>(n: usize, mut f: impl FnMut(Grad<'_, T>)) -> Vec<T> {
    let mut y = vec![T::from_f64(f64::NAN); n];
    f(Grad { data: &mut y, add: false });
    let mut z = vec![T::from_f64(0.5); n];
    f(Grad { data: &mut z, add: true });
    let expected: Vec<f64> = y.iter().map(|y| y.to_f64() + 0.5).collect();
    assert_close(&z, &expected, TOLERANCE, "added instead of written");
    y
}

#[test]
fn embedding_picks_rows_and_adds_positions() {
    at_every_level(|level| {
        for cols in [1, 15, 16, 17, 40] {
            let (table, positions) = (noise::<f32>(1, 7 * cols), noise::<f32>(2, 5 * cols));
            let ids = [6, 0, 3, 3, 1, 6];
            let at = |i: usize, c: usize| f64::from(table[ids[i] as usize * cols + c]);
            let mut y = vec![f32::NAN; ids.len() * cols];
            embedding(&ids, &table, cols, None, &mut y);
            let expected: Vec<f64> = (0..y.len()).map(|e| at(e / cols, e % cols)).collect();
            assert_close(&y, &expected, 0.0, &format!("{cols} columns, {level:?}"));

            let learned = Positions { table: &positions, seq_len: 3, first: 2 };
            embedding(&ids, &table, cols, Some(learned), &mut y);
            let position = |e: usize| f64::from(positions[(2 + e / cols % 3) * cols + e % cols]);
            let expected: Vec<f64> = expected.iter().enumerate().map(|(e, y)| y + position(e)).collect();
            assert_close(&y, &expected, TOLERANCE, &format!("{cols} columns with positions, {level:?}"));

            let dy = noise::<f32>(3, ids.len() * cols);
            let dtable = both_ways(table.len(), |grad| embedding_backward(&ids, &dy, cols, grad));
            let dpositions = both_ways(positions.len(), |grad| positions_backward(&dy, 3, 2, cols, grad));
            let (mut expected, mut expected_positions) = (vec![0.0; table.len()], vec![0.0; positions.len()]);
            for (e, dy) in dy.iter().enumerate() {
                expected[ids[e / cols] as usize * cols + e % cols] += f64::from(*dy);
                expected_positions[(2 + e / cols % 3) * cols + e % cols] += f64::from(*dy);
            }
            assert_close(
                &dtable,
                &expected,
                TOLERANCE,
                &format!("table's gradient, {cols} columns, {level:?}"),
            );
            assert_close(&dpositions, &expected_positions, TOLERANCE, "positions' gradient");
        }
    });
    embedding::<f32>(&[], &[1.0; 4], 2, None, &mut []);
}

#[test]
#[should_panic(expected = "embedding: id 4 at position 1 is out of range: 4 entries")]
fn embedding_refuses_an_id_beyond_the_table() {
    embedding(&[0, 4], &[0.0f32; 8], 2, None, &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "rotary: position 9 is beyond the table of 8")]
fn rotary_refuses_a_position_beyond_its_table() {
    let table = rotary_table::<f32>(8, 2, BASE);
    let heads = Heads { n_head: 1, n_kv_head: 1, head_size: 2 };
    rotary(&[0.0; 12], &table, heads, 2, 7, false, Grad { data: &mut [0.0; 12], add: false });
}

#[test]
fn rotary_turns_each_pair_by_its_angle_and_back() {
    at_every_level(|level| {
        for (head_size, n_head, n_kv_head) in [(2, 1, 1), (8, 3, 1), (32, 2, 2), (34, 1, 1), (64, 2, 1)] {
            let heads = Heads { n_head, n_kv_head, head_size };
            let (batch, seq_len, first, d, width) = (2, 3, 4, head_size, heads.width());
            let x = noise::<f32>(d as u64, batch * seq_len * width);
            let table = rotary_table(first + seq_len, d, 10_000.0);
            let y = both_ways(x.len(), |out| rotary(&x, &table, heads, seq_len, first, false, out));
            let expected: Vec<f64> = (0..x.len())
                .map(|e| {
                    let (row, column) = (e / width, e % width);
                    if column >= (n_head + n_kv_head) * d {
                        return f64::from(x[e]);
                    }
                    let (i, half) = (column % d, d / 2);
                    let pair = i % half;
                    let angle =
                        (first + row % seq_len) as f64 * 10_000f64.powf(-2.0 * pair as f64 / d as f64);
                    let other = if i < half { -f64::from(x[e + half]) } else { f64::from(x[e - half]) };
                    f64::from(x[e]) * angle.cos() + other * angle.sin()
                })
                .collect();
            assert_close(&y, &expected, TOLERANCE, &format!("heads of {d}, {level:?}"));
            let back = both_ways(x.len(), |out| rotary(&y, &table, heads, seq_len, first, true, out));
            let original: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            assert_close(&back, &original, TOLERANCE, &format!("heads of {d} turned back, {level:?}"));
        }
    });
}

const HEADS: [Heads; 3] = [
    Heads { n_head: 4, n_kv_head: 2, head_size: 16 },
    Heads { n_head: 1, n_kv_head: 1, head_size: 3 },
    Heads { n_head: 3, n_kv_head: 1, head_size: 37 },
];

/// The oracle of `l2_normalize_heads`, in `f64`.
fn normalized(qkv: &[f64], scale: &[f64], heads: Heads) -> Vec<f64> {
    let d = heads.head_size;
    let per_row = heads.n_head + 2 * heads.n_kv_head;
    let factor = |(i, x): (usize, &[f64])| {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
        match i % per_row {
            h if h < heads.n_head => scale[h] * r,
            h if h < heads.n_head + heads.n_kv_head => r,
            _ => 1.0,
        }
    };
    let factors: Vec<f64> = qkv.chunks(d).enumerate().map(factor).collect();
    qkv.iter().enumerate().map(|(e, x)| x * factors[e / d]).collect()
}

#[test]
fn heads_get_their_length() {
    at_every_level(|level| {
        for heads in HEADS {
            let (qkv, scale) = (noise::<f32>(1, 3 * heads.width()), noise::<f32>(2, heads.n_head));
            let mut y = vec![f32::NAN; qkv.len()];
            l2_normalize_heads(&qkv, &scale, heads, &mut y);
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
            let expected = normalized(&wide(&qkv), &wide(&scale), heads);
            assert_close(&y, &expected, TOLERANCE, &format!("{heads:?}, {level:?}"));
        }
    });
}

#[test]
fn the_gradients_of_unit_length_heads_are_finite_differences() {
    for heads in HEADS {
        let rows = 2;
        let (qkv, scale) = (noise::<f64>(3, rows * heads.width()), noise::<f64>(4, heads.n_head));
        let dy = noise::<f64>(5, qkv.len());
        let loss = |qkv: &[f64], scale: &[f64]| -> f64 {
            normalized(qkv, scale, heads).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
        };
        let step = 1e-6;
        let differences = |x: &[f64], loss: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
            let shifted = |i: usize, by: f64| {
                let mut x = x.to_vec();
                x[i] += by;
                loss(&x)
            };
            (0..x.len()).map(|i| (shifted(i, step) - shifted(i, -step)) / (2.0 * step)).collect()
        };
        let dqkv = both_ways(qkv.len(), |grad| {
            l2_normalize_heads_backward(&qkv, &scale, heads, &dy, Some(grad), None)
        });
        let dscale = both_ways(scale.len(), |grad| {
            l2_normalize_heads_backward(&qkv, &scale, heads, &dy, None, Some(grad))
        });
        let expected = differences(&qkv, &|qkv| loss(qkv, &scale));
        assert_close(&dqkv, &expected, GRADIENT_TOLERANCE, &format!("dqkv of {heads:?}"));
        let expected = differences(&scale, &|scale| loss(&qkv, scale));
        assert_close(&dscale, &expected, GRADIENT_TOLERANCE, &format!("dscale of {heads:?}"));

        at_every_level(|level| {
            let narrow = |x: &[f64]| -> Vec<f32> { x.iter().map(|&x| x as f32).collect() };
            let (qkv, scale, dy) = (narrow(&qkv), narrow(&scale), narrow(&dy));
            let narrow = both_ways(qkv.len(), |grad| {
                l2_normalize_heads_backward(&qkv, &scale, heads, &dy, Some(grad), None);
            });
            assert_close(&narrow, &dqkv, TOLERANCE, &format!("f32 dqkv of {heads:?}, {level:?}"));
        });
    }
}

#[test]
fn a_head_of_zeros_has_a_finite_gradient() {
    let heads = HEADS[1];
    let qkv = vec![0.0f32; heads.width()];
    let dqkv = both_ways(qkv.len(), |grad| {
        l2_normalize_heads_backward(&qkv, &[2.0], heads, &vec![1.0; heads.width()], Some(grad), None);
    });
    assert!(dqkv.iter().all(|dx| dx.is_finite()), "{dqkv:?}");
}

#[test]
fn dropout_drops_by_key_and_scales_the_rest() {
    let key = Key::new(7, Purpose::Dropout, 11, 2);
    let mut first: Option<Vec<u32>> = None;
    at_every_level(|level| {
        for n in [0, 1, 15, 63, 64, 65, 1000] {
            let x = noise::<f32>(8, n);
            let y = both_ways(n, |out| dropout(key, 0.3, &x, out));
            let mask = |(e, x): (usize, &f32)| if keeps(key, 0.3, e) { f64::from(*x) / 0.7 } else { 0.0 };
            let expected: Vec<f64> = x.iter().enumerate().map(mask).collect();
            assert_close(&y, &expected, TOLERANCE, &format!("{n} elements, {level:?}"));
            if n == 1000 {
                let bits: Vec<u32> = y.iter().map(|y| y.to_bits()).collect();
                assert_eq!(
                    *first.get_or_insert_with(|| bits.clone()),
                    bits,
                    "{level:?} differs from the least able"
                );
            }
        }
    });
}

#[test]
fn dropout_keeps_the_share_it_should_and_everything_at_zero() {
    let n = 100_000;
    let x = vec![f32::INFINITY; n];
    for (i, p) in [0.0, 0.1, 0.5, 0.9].into_iter().enumerate() {
        let mut y = vec![f32::NAN; n];
        dropout(Key::new(1, Purpose::Dropout, 0, i as u32), p, &x, Grad { data: &mut y, add: false });
        let kept = y.iter().filter(|y| **y == f32::INFINITY).count() as f64 / n as f64;
        assert!(y.iter().all(|y| *y == f32::INFINITY || *y == 0.0), "an infinite element was dropped to NaN");
        // Five standard deviations of a share of 100 000.
        assert!((kept - (1.0 - p)).abs() <= 5.0 * (p * (1.0 - p) / n as f64).sqrt(), "p {p}: kept {kept}");
    }
}

#[test]
fn dropout_of_a_large_array_does_not_depend_on_the_split() {
    let key = Key::new(3, Purpose::Dropout, 0, 0);
    let n = (1 << 18) + 100;
    let x = vec![1.0f32; n];
    let mut y = vec![f32::NAN; n];
    dropout(key, 0.5, &x, Grad { data: &mut y, add: false });
    for e in (0..n).step_by(997).chain(n - 70..n) {
        assert_eq!(y[e] != 0.0, keeps(key, 0.5, e), "element {e}");
    }
}
