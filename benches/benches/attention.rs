//! Causal attention of the named shapes and of two long contexts, forward, backward, and one row over a cache.
//!
//! Useful work only: 4·D operations per visible (query, key) pair forward, 10·D backward.
#![forbid(unsafe_code)]

mod common;

use common::{OfPeak, run};
use criterion::{Criterion, Throughput};
use weft_benches::numbers::{assert_close, numbers};
use weft_benches::shapes;
use weft_tensor::Grad;
use weft_tensor::kernels::attention::{Attention, attention, attention_backward, attention_decode};

/// Roundings of two products and of an exponential whose argument is of order one, in f32.
const TOLERANCE: f64 = 1e-4;

/// Element 0 of the last row of the last head of the last sequence, by definition.
fn last_row(a: Attention, qkv: &[f32]) -> f64 {
    let (d, width) = (a.head_size, a.qkv_width());
    let sequence = &qkv[(a.batch - 1) * a.seq_len * width..];
    let part = |t: usize, head: usize| &sequence[t * width + head * d..][..d];
    let q = part(a.seq_len - 1, a.n_head - 1);
    let weight = |t: usize| {
        let k = part(t, a.n_head + a.n_kv_head - 1);
        let score: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
        (a.scale * score).exp()
    };
    let (mut y, mut sum) = (0.0, 0.0);
    for t in 0..a.seq_len {
        let weight = weight(t);
        sum += weight;
        y += weight * f64::from(part(t, a.n_head + 2 * a.n_kv_head - 1)[0]);
    }
    y / sum
}

fn bench(c: &mut Criterion<OfPeak>) {
    let mut group = c.benchmark_group("attention");
    for shape in shapes::attention() {
        let a = shape.sizes;
        let Attention { batch, n_head, seq_len, head_size, .. } = a;
        let (qkv, dy) = (numbers(a.qkv_len()), numbers(a.y_len()));
        let (mut y, mut lse, mut dqkv) = (numbers(a.y_len()), numbers(a.lse_len()), numbers(a.qkv_len()));
        let name = format!("{} ({batch},{n_head},{seq_len},{head_size})", shape.name);

        attention(a, &qkv, &mut y, &mut lse);
        assert_close("attention", y[y.len() - head_size], last_row(a, &qkv), TOLERANCE);
        group.throughput(Throughput::Elements(shape.forward_flops()));
        group.bench_function(format!("{name} forward"), |bencher| {
            bencher.iter(|| attention(a, &qkv, &mut y, &mut lse));
        });

        let mut backward = || {
            let dqkv = Grad { data: &mut dqkv, add: false };
            attention_backward(a, &qkv, &y, &lse, &dy, dqkv);
        };
        backward();
        group.throughput(Throughput::Elements(shape.backward_flops()));
        group.bench_function(format!("{name} backward"), |bencher| bencher.iter(&mut backward));
        // Weights sum to one: what the values of a head get in all is what its outputs got.
        let column = |data: &[f32], width: usize, at: usize| -> f64 {
            data.chunks(width).map(|row| f64::from(row[at])).sum()
        };
        let dv = column(&dqkv, a.qkv_width(), 2 * n_head * head_size);
        assert_close("attention: sum of dv", dv, column(&dy, a.y_width(), 0), TOLERANCE);
    }

    // One new row behind 1023 in the cache: bound by reading keys and values.
    let (past, capacity) = (1023, 1024);
    let a = Attention { batch: 1, seq_len: 1, n_head: 12, n_kv_head: 12, head_size: 64, scale: 0.125 };
    let (qkv, mut y) = (numbers(a.qkv_len()), numbers(a.y_len()));
    let (mut k, mut v) = (numbers(a.cache_len(capacity)), numbers(a.cache_len(capacity)));
    let mut decode = || attention_decode(a, &[past], capacity, &qkv, &mut k, &mut v, &mut y);
    decode();
    group.throughput(Throughput::Bytes((2 * 4 * a.cache_len(capacity)) as u64));
    group.bench_function(format!("decode (1,12,1,64) behind {past}"), |bencher| bencher.iter(&mut decode));
    assert!(y.iter().all(|y| y.abs() <= 1.0), "attention: a mean of values between −1 and 1 lies outside");
    group.finish();
}

fn main() {
    run(bench);
}
