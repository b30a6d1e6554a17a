//! Attention as a fraction of the FMA peak that is measured beside it, forward and backward, best and median.
//!
//! Useful work only: 4·D operations per visible (query, key) pair forward, 10·D backward.
#![expect(clippy::print_stdout, reason = "a benchmark's product is its table")]

use std::time::Instant;

use weft_tensor::kernels::attention::{Attention, attention, attention_backward, attention_decode};
use weft_tensor::peak::fma_gflops;
use weft_tensor::simd::level;
use weft_tensor::{Buffer, Grad};

/// (B, H, T, D): four training shapes of growing models and one long context.
const SHAPES: [[usize; 4]; 5] =
    [[32, 4, 16, 16], [12, 4, 64, 32], [8, 6, 256, 64], [1, 12, 1024, 64], [1, 8, 4096, 64]];

/// Seconds that each measurement may take.
const BUDGET: f64 = 0.4;

/// The best and the median of the times of `f`, in seconds, at least five of them.
fn time(mut f: impl FnMut()) -> (f64, f64) {
    f();
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed().as_secs_f64() < BUDGET {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

fn filled(n: usize) -> Buffer<f32> {
    let mut buffer = Buffer::zeros(n);
    for (i, x) in buffer.iter_mut().enumerate() {
        *x = (i as u32).wrapping_mul(2_654_435_761) as f32 / 2f32.powi(31) - 1.0;
    }
    buffer
}

fn main() {
    let peaks = [0, 1, 2].map(|threads| if threads == 0 { 0.0 } else { fma_gflops(threads) });
    println!("level {}, peak {:.0} GFLOP/s on one thread, {:.0} on two", level().name(), peaks[1], peaks[2]);
    println!(
        "{:>17} {:>7}  {:>31}  {:>31}",
        "(B,H,T,D)", "threads", "forward: best, median, of peak", "backward"
    );
    // An argument picks one shape by its number: for a profiler.
    let only: Option<usize> = std::env::args().nth(1).and_then(|number| number.parse().ok());
    for (i, [batch, n_head, seq_len, head_size]) in SHAPES.into_iter().enumerate() {
        if only.is_some_and(|only| only != i) {
            continue;
        }
        let scale = 1.0 / (head_size as f64).sqrt();
        let a = Attention { batch, seq_len, n_head, n_kv_head: n_head, head_size, scale };
        let (qkv, dy) = (filled(a.qkv_len()), filled(a.y_len()));
        let (mut y, mut lse) = (filled(a.y_len()), filled(a.lse_len()));
        let mut dqkv = filled(a.qkv_len());
        let work = (4 * head_size * batch * n_head * seq_len * (seq_len + 1) / 2) as f64;
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            let (forward, backward, peak) = pool.install(|| {
                let before = fma_gflops(threads);
                let forward = time(|| attention(a, &qkv, &mut y, &mut lse));
                let backward = time(|| {
                    let dqkv = Grad { data: &mut dqkv, add: false };
                    attention_backward(a, &qkv, &y, &lse, &dy, dqkv);
                });
                (forward, backward, before.max(fma_gflops(threads)) * 1e9)
            });
            assert!(y.iter().chain(dqkv.iter()).all(|x| x.is_finite()), "the result is not finite");
            let cell = |work: f64, (best, median): (f64, f64)| {
                let of_peak = |time: f64| 100.0 * work / time / peak;
                let [ms, median_ms] = [best, median].map(|time| time * 1e3);
                format!("{ms:9.3} {median_ms:9.3} ms {:3.0} {:3.0} %", of_peak(best), of_peak(median))
            };
            println!(
                "{:>17} {threads:>7}  {:>31}  {:>31}",
                format!("({batch},{n_head},{seq_len},{head_size})"),
                cell(work, forward),
                cell(2.5 * work, backward)
            );
        }
    }
    decoding();
}

/// One new row after 1023 in the cache: bound by reading keys and values.
fn decoding() {
    let (past, capacity) = (1023, 1024);
    let a = Attention { batch: 1, seq_len: 1, n_head: 12, n_kv_head: 12, head_size: 64, scale: 0.125 };
    let qkv = filled(a.qkv_len());
    let (mut k, mut v) = (filled(a.cache_len(capacity)), filled(a.cache_len(capacity)));
    let mut y = filled(a.y_len());
    let (best, median) = time(|| attention_decode(a, past, capacity, &qkv, &mut k, &mut v, &mut y));
    assert!(y.iter().all(|x| x.is_finite()), "the result is not finite");
    let bytes = (2 * 4 * a.cache_len(capacity)) as f64;
    println!(
        "decoding (1,12,1,64) after {past} rows: best {:.3}, median {:.3} ms, {:.0} GB/s",
        best * 1e3,
        median * 1e3,
        bytes / best * 1e-9
    );
}
