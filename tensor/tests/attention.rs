//! Attention against a plain `f64` oracle, at every SIMD level.

use weft_tensor::kernels::attention::{
    Attention, attention, attention_backward, attention_decode, attention_in_blocks, attention_weights,
};
use weft_tensor::simd::{Level, at_every_level};
use weft_tensor::{Grad, Real};

/// Numbers in [−1, 1): the same on every machine.
fn random<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..n).map(|_| T::from_f64(next())).collect()
}

fn sizes(batch: usize, seq_len: usize, n_head: usize, n_kv_head: usize, head_size: usize) -> Attention {
    Attention { batch, seq_len, n_head, n_kv_head, head_size, scale: 1.0 / (head_size as f64).sqrt() }
}

/// Every head size and length at an edge of a vector, tile or block, and every kind of group; to `longest` rows, for
/// without fused multiply-adds in hardware each takes some twenty times as long.
fn cases(longest: usize) -> Vec<Attention> {
    let mut cases = Vec::new();
    for (i, d) in [1, 3, 8, 16, 20, 32, 64, 128].into_iter().enumerate() {
        for (j, t) in [1, 2, 15, 16, 17, 64, 100, 300].into_iter().enumerate() {
            if t > longest {
                continue;
            }
            let (h, kv) = [(1, 1), (2, 1), (4, 2), (3, 3), (6, 2)][(i + j) % 5];
            cases.push(sizes(if t < 100 { 2 } else { 1 }, t, h, kv, d));
        }
    }
    // Groups larger than the tiles of small heads, whole multiples of them and not.
    cases.extend([sizes(1, 13, 5, 1, 8), sizes(2, 16, 20, 1, 16)]);
    cases
}

/// Where element `e` of head `part` (queries, then keys, then values) of row (b, t) lies in the fused rows.
fn at(a: &Attention, b: usize, t: usize, part: usize, e: usize) -> usize {
    (b * a.seq_len + t) * a.qkv_width() + part * a.head_size + e
}

/// The weights of one head: probabilities (T, T) and log-sum-exp (T).
fn oracle_weights(a: &Attention, qkv: &[f64], b: usize, h: usize) -> (Vec<f64>, Vec<f64>) {
    let (t, key) = (a.seq_len, a.n_head + h / (a.n_head / a.n_kv_head));
    let (mut p, mut lse) = (vec![0.0; t * t], vec![0.0; t]);
    for i in 0..t {
        let score = |j: usize| {
            let dot: f64 = (0..a.head_size).map(|e| qkv[at(a, b, i, h, e)] * qkv[at(a, b, j, key, e)]).sum();
            dot * a.scale
        };
        let scores: Vec<f64> = (0..=i).map(score).collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        lse[i] = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        for j in 0..=i {
            p[i * t + j] = (scores[j] - lse[i]).exp();
        }
    }
    (p, lse)
}

struct Oracle {
    y: Vec<f64>,
    lse: Vec<f64>,
    weights: Vec<f64>,
    dqkv: Vec<f64>,
}

/// The formulas as they stand in the documentation.
fn oracle(a: &Attention, qkv: &[f64], dy: &[f64]) -> Oracle {
    let (t, d, group) = (a.seq_len, a.head_size, a.n_head / a.n_kv_head);
    let mut result =
        Oracle { y: vec![0.0; a.y_len()], lse: vec![], weights: vec![], dqkv: vec![0.0; a.qkv_len()] };
    for b in 0..a.batch {
        for h in 0..a.n_head {
            let (key, value) = (a.n_head + h / group, a.n_head + a.n_kv_head + h / group);
            let (p, lse) = oracle_weights(a, qkv, b, h);
            for i in 0..t {
                let row = ((b * t + i) * a.n_head + h) * d;
                for j in 0..=i {
                    for e in 0..d {
                        result.y[row + e] += p[i * t + j] * qkv[at(a, b, j, value, e)];
                    }
                }
                let delta: f64 = (0..d).map(|e| result.y[row + e] * dy[row + e]).sum();
                for j in 0..=i {
                    let dp: f64 = (0..d).map(|e| dy[row + e] * qkv[at(a, b, j, value, e)]).sum();
                    let dz = p[i * t + j] * (dp - delta) * a.scale;
                    for e in 0..d {
                        result.dqkv[at(a, b, j, value, e)] += p[i * t + j] * dy[row + e];
                        result.dqkv[at(a, b, i, h, e)] += dz * qkv[at(a, b, j, key, e)];
                        result.dqkv[at(a, b, j, key, e)] += dz * qkv[at(a, b, i, h, e)];
                    }
                }
            }
            result.weights.extend(p);
            result.lse.extend(lse.iter().map(|lse| lse * std::f64::consts::LOG2_E));
        }
    }
    result
}

/// Panics if the values differ by more than `tolerance` times the larger of 1 and the oracle's largest value.
#[track_caller]
fn assert_close<T: Real>(what: &str, got: &[T], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0f64, |max, x| max.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got.to_f64() - want).abs();
        assert!(error <= tolerance * scale, "{what}[{i}]: {got}, not {want} ({error:e} off)");
    }
}

/// Scores of up to some units, a dozen roundings deep, in f32: 2⁻²⁴ · 100; the gradients of keys sum over 300 rows.
const TOLERANCE_F32: f64 = 6e-6;
/// The same in f64: 2⁻⁵³ · 1000.
const TOLERANCE_F64: f64 = 1e-13;

fn agrees_with_the_oracle<T: Real>(a: Attention, seed: u64, tolerance: f64, level: &str) {
    // Queries and keys well beyond 1, so that the softmax is far from uniform.
    let mut qkv = random::<T>(a.qkv_len(), seed);
    for row in qkv.chunks_mut(a.qkv_width()) {
        for x in &mut row[..a.n_head * a.head_size] {
            *x *= T::from_f64(3.0);
        }
    }
    let dy = random::<T>(a.y_len(), seed + 1);
    let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let want = oracle(&a, &wide(&qkv), &wide(&dy));
    let what = |name: &str| format!("{name} of {a:?} in {} at {level}", T::NAME);

    let nan = T::from_f64(f64::NAN);
    let (mut y, mut lse) = (vec![nan; a.y_len()], vec![nan; a.lse_len()]);
    attention(a, &qkv, &mut y, &mut lse);
    assert_close(&what("y"), &y, &want.y, tolerance);
    assert_close(&what("lse"), &lse, &want.lse, tolerance);

    let (mut y_blocks, mut lse_blocks) = (vec![nan; a.y_len()], vec![nan; a.lse_len()]);
    attention_in_blocks(a, 16, &qkv, &mut y_blocks, &mut lse_blocks);
    assert_close(&what("y in blocks"), &y_blocks, &want.y, tolerance);
    assert_close(&what("lse in blocks"), &lse_blocks, &want.lse, tolerance);

    let mut dqkv = vec![nan; a.qkv_len()];
    attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut dqkv, add: false });
    assert_close(&what("dqkv"), &dqkv, &want.dqkv, tolerance);

    let before = random::<T>(a.qkv_len(), seed + 2);
    let mut added = before.clone();
    attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut added, add: true });
    let want_added: Vec<f64> = want.dqkv.iter().zip(&before).map(|(d, b)| d + b.to_f64()).collect();
    assert_close(&what("added dqkv"), &added, &want_added, tolerance);

    let mut weights = vec![nan; want.weights.len()];
    attention_weights(a, &qkv, &mut weights);
    assert_close(&what("weights"), &weights, &want.weights, tolerance);
}

#[test]
fn everything_agrees_with_the_oracle_at_every_level() {
    at_every_level(|level| {
        for (seed, a) in cases(if level == Level::Scalar { 64 } else { 300 }).into_iter().enumerate() {
            agrees_with_the_oracle::<f32>(a, seed as u64, TOLERANCE_F32, level.name());
        }
    });
}

#[test]
fn everything_agrees_with_the_oracle_in_f64() {
    for (seed, a) in cases(100).into_iter().enumerate() {
        agrees_with_the_oracle::<f64>(a, seed as u64, TOLERANCE_F64, "any level");
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    /// Error of a central difference of step 1e-5 in f64: about step² and 2⁻⁵³ / step.
    const TOLERANCE: f64 = 1e-8;
    const STEP: f64 = 1e-5;
    for a in [sizes(2, 5, 4, 2, 3), sizes(1, 18, 2, 1, 2), Attention { scale: -0.7, ..sizes(1, 6, 1, 1, 4) }]
    {
        let mut qkv = random::<f64>(a.qkv_len(), 5);
        let dy = random::<f64>(a.y_len(), 6);
        let (mut y, mut lse) = (vec![0.0; a.y_len()], vec![0.0; a.lse_len()]);
        attention(a, &qkv, &mut y, &mut lse);
        let mut dqkv = vec![0.0; a.qkv_len()];
        attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut dqkv, add: false });
        for i in 0..qkv.len() {
            let x = qkv[i];
            let mut loss = |x: f64| {
                qkv[i] = x;
                attention(a, &qkv, &mut y, &mut lse);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
            };
            let difference = (loss(x + STEP) - loss(x - STEP)) / (2.0 * STEP);
            qkv[i] = x;
            assert!(
                (dqkv[i] - difference).abs() < TOLERANCE,
                "dqkv[{i}] of {a:?}: {} vs {difference}",
                dqkv[i]
            );
        }
    }
}

/// Splits the rows into calls of these lengths, over and over, and compares with all rows at once.
fn decoding_repeats_the_forward_pass<T: Real>(a: Attention, capacity: usize, lengths: &[usize]) {
    let qkv = random::<T>(a.qkv_len(), 7);
    let (mut want, mut lse) = (vec![T::ZERO; a.y_len()], vec![T::ZERO; a.lse_len()]);
    attention(a, &qkv, &mut want, &mut lse);

    // What lies behind the rows of a cache must not matter.
    let mut k_cache = vec![T::from_f64(f64::NAN); a.cache_len(capacity)];
    let mut v_cache = k_cache.clone();
    let (mut past, mut lengths) = (0, lengths.iter().cycle());
    while past < a.seq_len {
        let new = Attention { seq_len: (*lengths.next().unwrap()).min(a.seq_len - past), ..a };
        // Rows past.. of each sequence.
        let part = |data: &[T], width: usize| -> Vec<T> {
            let rows = data.chunks(a.seq_len * width);
            rows.flat_map(|rows| rows[past * width..(past + new.seq_len) * width].to_vec()).collect()
        };
        let mut y = vec![T::ZERO; new.y_len()];
        let rows = part(&qkv, a.qkv_width());
        attention_decode(new, &vec![past; a.batch], capacity, &rows, &mut k_cache, &mut v_cache, &mut y);
        let want = part(&want, a.y_width());
        for (i, (y, want)) in y.iter().zip(want).enumerate() {
            assert_eq!(y.to_f64().to_bits(), want.to_f64().to_bits(), "y[{i}] after {past} rows of {a:?}");
        }
        past += new.seq_len;
    }
}

#[test]
fn decoding_gives_the_bits_of_the_forward_pass() {
    at_every_level(|_| {
        // Groups of one and of more go different ways; 300 rows are more than a block of keys.
        for a in [
            sizes(1, 40, 2, 2, 16),
            sizes(2, 33, 4, 2, 20),
            sizes(1, 300, 2, 1, 8),
            sizes(1, 300, 3, 3, 20),
            sizes(3, 17, 6, 2, 64),
        ] {
            decoding_repeats_the_forward_pass::<f32>(a, a.seq_len, &[1]);
            decoding_repeats_the_forward_pass::<f32>(a, a.seq_len + 9, &[7, 1, 20]);
        }
        // Short sequences of small heads go another way forward, but not when decoding.
        for a in [sizes(3, 16, 4, 2, 20), sizes(2, 9, 2, 1, 32), sizes(1, 16, 3, 3, 16), sizes(2, 3, 2, 2, 1)]
        {
            decoding_repeats_the_forward_pass::<f32>(a, 16, &[1]);
        }
        decoding_repeats_the_forward_pass::<f64>(sizes(2, 20, 2, 1, 5), 20, &[3, 1]);
        decoding_repeats_the_forward_pass::<f64>(sizes(2, 20, 2, 2, 5), 20, &[1]);
    });
}

#[test]
fn sequences_of_any_lengths_decode_together() {
    /// Rows that each sequence already has: none, some, all but one of a block of scores, and more than one block.
    const PAST: [usize; 4] = [0, 5, 255, 270];
    for n_kv_head in [2, 4] {
        any_lengths_decode_together(n_kv_head, &PAST);
    }
}

fn any_lengths_decode_together(n_kv_head: usize, lengths: &[usize]) {
    let capacity = 280;
    let a = sizes(lengths.len(), 1, 4, n_kv_head, 20);
    let whole = Attention { batch: 1, seq_len: capacity, ..a };
    let all: Vec<Vec<f32>> = (0..lengths.len()).map(|b| random(whole.qkv_len(), b as u64)).collect();
    let width = a.qkv_width();
    at_every_level(|level| {
        let mut k_cache = vec![f32::NAN; a.cache_len(capacity)];
        let mut v_cache = k_cache.clone();
        // Each sequence alone fills its part of the caches, then all go on together.
        let (one, one_cache) = (Attention { batch: 1, ..a }, k_cache.len() / lengths.len());
        let caches = k_cache.chunks_mut(one_cache).zip(v_cache.chunks_mut(one_cache));
        for ((&seq_len, all), (k, v)) in lengths.iter().zip(&all).zip(caches) {
            let one = Attention { seq_len, ..one };
            let mut y = vec![0.0; one.y_len()];
            attention_decode(one, &[0], capacity, &all[..seq_len * width], k, v, &mut y);
        }
        let qkv: Vec<f32> =
            lengths.iter().zip(&all).flat_map(|(t, all)| all[t * width..][..width].to_vec()).collect();
        let mut y = vec![0.0; a.y_len()];
        attention_decode(a, lengths, capacity, &qkv, &mut k_cache, &mut v_cache, &mut y);
        for ((&t, all), y) in lengths.iter().zip(&all).zip(y.chunks(a.y_width())) {
            let (mut want, mut lse) = (vec![0.0; whole.y_len()], vec![0.0; whole.lse_len()]);
            attention(whole, all, &mut want, &mut lse);
            let want = &want[t * a.y_width()..][..a.y_width()];
            assert!(bits(y) == bits(want), "row {t} differs beside others at {}", level.name());
        }
    });
}

#[test]
fn many_keys_are_split_over_threads_head_by_head() {
    // Together the heads of these two sequences are worth splitting, none alone is.
    const PAST: [usize; 2] = [6000, 4500];
    let (capacity, a, one) = (6001, sizes(2, 1, 4, 4, 64), sizes(1, 1, 1, 1, 64));
    let qkv = random::<f32>(a.qkv_len(), 3);
    let mut k_cache = random::<f32>(a.cache_len(capacity), 4);
    let mut v_cache = random::<f32>(k_cache.len(), 5);
    let mut y = vec![0.0; a.y_len()];
    attention_decode(a, &PAST, capacity, &qkv, &mut k_cache, &mut v_cache, &mut y);
    let len = one.cache_len(capacity);
    for (head, y) in y.chunks(64).enumerate() {
        let (b, h) = (head / 4, head % 4);
        let part = |which: usize| &qkv[b * a.qkv_width() + (which * 4 + h) * 64..][..64];
        let qkv = [part(0), part(1), part(2)].concat();
        let (k, v) = (&mut k_cache[head * len..][..len], &mut v_cache[head * len..][..len]);
        let mut alone = vec![0.0; one.y_len()];
        attention_decode(one, &[PAST[b]], capacity, &qkv, k, v, &mut alone);
        assert!(bits(y) == bits(&alone), "head {h} of sequence {b} differs from itself alone");
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Forward and backward, as bits.
fn all_bits(a: Attention) -> [Vec<u32>; 3] {
    let qkv = random::<f32>(a.qkv_len(), 11);
    let dy = random::<f32>(a.y_len(), 12);
    let (mut y, mut lse, mut dqkv) = (vec![0.0; a.y_len()], vec![0.0; a.lse_len()], vec![0.0; a.qkv_len()]);
    attention(a, &qkv, &mut y, &mut lse);
    attention_backward(a, &qkv, &y, &lse, &dy, Grad { data: &mut dqkv, add: false });
    [bits(&y), bits(&lse), bits(&dqkv)]
}

#[test]
fn every_level_gives_the_same_bits() {
    for a in [sizes(2, 17, 2, 1, 20), sizes(1, 300, 2, 2, 64), sizes(4, 64, 4, 4, 32), sizes(3, 16, 2, 2, 16)]
    {
        let mut first = None;
        at_every_level(|level| {
            let bits = all_bits(a);
            assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "{} differs for {a:?}", level.name());
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // Large enough to be split over heads, within the one head of the second, and over sequences of small heads, of which the
    // last piece has fewer.
    for a in [sizes(2, 200, 4, 2, 64), sizes(1, 500, 2, 1, 64), sizes(150, 16, 4, 2, 32)] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| all_bits(a))
        };
        let one = on(1);
        for threads in [2, 3, 7] {
            assert!(one == on(threads), "{threads} threads change bits of {a:?}");
        }
    }
}

#[test]
fn later_rows_do_not_reach_earlier_ones() {
    let a = sizes(1, 50, 2, 1, 16);
    let mut qkv = random::<f32>(a.qkv_len(), 13);
    let run = |qkv: &[f32]| {
        let (mut y, mut lse) = (vec![0.0; a.y_len()], vec![0.0; a.lse_len()]);
        attention(a, qkv, &mut y, &mut lse);
        bits(&y)
    };
    let before = run(&qkv);
    for x in &mut qkv[30 * a.qkv_width()..] {
        *x = -*x * 1e3;
    }
    let after = run(&qkv);
    assert!(before[..30 * a.y_width()] == after[..30 * a.y_width()], "a row saw a later one");
    assert!(
        before[30 * a.y_width()..] != after[30 * a.y_width()..],
        "nothing changed: the test sees nothing"
    );
}

#[test]
fn large_scores_neither_overflow_nor_vanish() {
    let a = Attention { scale: 1.0, ..sizes(1, 40, 1, 1, 16) };
    let mut qkv = random::<f32>(a.qkv_len(), 17);
    for x in &mut qkv {
        *x *= 40.0;
    }
    let (mut y, mut lse) = (vec![0.0; a.y_len()], vec![0.0; a.lse_len()]);
    attention(a, &qkv, &mut y, &mut lse);
    assert!(y.iter().chain(&lse).all(|x| x.is_finite()), "scores of some thousands overflow");
    assert!(lse.iter().any(|x| x.abs() > 1e3), "the scores are not large: the test sees nothing");
}

#[test]
#[should_panic(expected = "3 query heads cannot share 2 key and value heads")]
fn heads_must_divide_evenly() {
    attention::<f32>(sizes(1, 1, 3, 2, 1), &[0.0; 7], &mut [0.0; 3], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "5 + 2 rows in a cache for 6")]
fn a_full_cache_takes_no_more() {
    let a = sizes(1, 2, 1, 1, 1);
    let mut cache = vec![0.0f32; a.cache_len(6)];
    attention_decode(a, &[5], 6, &[0.0; 6], &mut cache.clone(), &mut cache, &mut [0.0; 2]);
}

#[test]
fn empty_batches_and_sequences_do_nothing() {
    for a in [sizes(0, 4, 2, 1, 8), sizes(3, 0, 2, 1, 8)] {
        attention::<f32>(a, &[], &mut [], &mut []);
        attention_backward::<f32>(a, &[], &[], &[], &[], Grad { data: &mut [], add: true });
        attention_weights::<f32>(a, &[], &mut []);
        let mut cache = vec![0.0f32; a.cache_len(4)];
        attention_decode(
            a,
            &vec![2; a.batch],
            6,
            &[],
            &mut vec![0.0; a.cache_len(6)],
            &mut vec![0.0; a.cache_len(6)],
            &mut [],
        );
        cache.clear();
    }
}
