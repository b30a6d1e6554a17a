//! What the two programs share: the named shapes, the arguments, random batches, the clock and the line of JSON.

use std::time::Instant;

/// Different batches in turn, so that no step repeats the last.
pub const BATCHES: usize = 8;

/// Of AdamW, as on every side.
pub const LEARNING_RATE: f64 = 1e-3;
pub const BETAS: (f64, f64) = (0.9, 0.95);
pub const EPS: f64 = 1e-8;
pub const WEIGHT_DECAY: f64 = 0.1;

/// Of the norms.
pub const NORM_EPS: f64 = 1e-5;

/// Standard deviation of the initial weights.
pub const INIT_STD: f64 = 0.02;

const WARMUP_STEPS: usize = 2;
const WARMUP_SECONDS: f64 = 0.5;
const MIN_STEPS: usize = 3;

/// GPT-2's sizes, and the batch.
#[derive(Clone, Copy)]
pub struct Shape {
    pub n_layer: usize,
    pub n_head: usize,
    pub n_embd: usize,
    pub block_size: usize,
    pub batch_size: usize,
    pub vocab_size: usize,
}

/// What was asked for.
pub struct Arguments {
    name: String,
    pub shape: Shape,
    seconds: f64,
    threads: usize,
}

impl Arguments {
    /// Reads `--shape NAME [--seconds S] [--threads N]` and sets the threads of the libraries below. Call it first.
    pub fn read() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        let name = value("--shape").expect("--shape names|shakes|baby|gpt2");
        let sizes = match name.as_str() {
            "names" => [4, 4, 64, 16, 32, 27],
            "shakes" => [4, 4, 128, 64, 12, 65],
            "baby" => [6, 6, 384, 256, 16, 65],
            "gpt2" => [12, 12, 768, 64, 4, 50257],
            _ => panic!("there is no shape called {name}"),
        };
        let [n_layer, n_head, n_embd, block_size, batch_size, vocab_size] = sizes;
        let shape = Shape { n_layer, n_head, n_embd, block_size, batch_size, vocab_size };
        let seconds = value("--seconds").map_or(5.0, |s| s.parse().expect("--seconds S"));
        let threads = value("--threads").map_or(2, |n| n.parse().expect("--threads N"));
        // Both libraries follow rayon, and candle reads the variable itself.
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        Arguments { name, shape, seconds, threads }
    }

    /// Random tokens and the targets that follow them, (B · T) each.
    pub fn batches(&self) -> Vec<[Vec<u32>; 2]> {
        let Shape { batch_size, block_size, vocab_size, .. } = self.shape;
        let mut state = 1u64;
        let mut token = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % vocab_size as u64) as u32
        };
        let batch = |_| {
            let rows: Vec<Vec<u32>> =
                (0..batch_size).map(|_| (0..=block_size).map(|_| token()).collect()).collect();
            let tokens = rows.iter().flat_map(|row| row[..block_size].to_vec()).collect();
            let targets = rows.iter().flat_map(|row| row[1..].to_vec()).collect();
            [tokens, targets]
        };
        (0..BATCHES).map(batch).collect()
    }

    /// Times `step`, which trains on a batch and returns its loss, and prints the line.
    pub fn time(&self, version: &str, params: usize, mut step: impl FnMut(usize) -> f32) {
        let (start, mut taken) = (Instant::now(), 0);
        let mut first = f32::NAN;
        while taken < WARMUP_STEPS || (start.elapsed().as_secs_f64() < WARMUP_SECONDS && taken < 1000) {
            let loss = step(taken % BATCHES);
            first = if taken == 0 { loss } else { first };
            taken += 1;
        }
        let (start, mut last, mut times) = (Instant::now(), f32::NAN, Vec::new());
        while times.len() < MIN_STEPS || start.elapsed().as_secs_f64() < self.seconds {
            let begin = Instant::now();
            last = step(taken % BATCHES);
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            taken += 1;
        }
        // A step that does not train would not be worth its time.
        assert!(first.is_finite() && last.is_finite() && last < 1e3, "the loss went from {first} to {last}");
        times.sort_by(f64::total_cmp);
        println!(
            r#"{{"shape":"{}","median_ms":{:.4},"min_ms":{:.4},"steps":{},"threads":{},"params":{params},"first_loss":{first:.4},"last_loss":{last:.4},"version":"{version}"}}"#,
            self.name,
            times[times.len() / 2],
            times[0],
            times.len(),
            self.threads,
        );
    }
}
