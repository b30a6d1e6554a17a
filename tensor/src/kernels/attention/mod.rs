//! Causal self-attention without the matrix of scores: forward, backward, decoding with a cache, and the weights for
//! inspection. The README beside this file explains the tiling with a picture.
//!
//! y_i = Σ_{j ≤ i} p_ij v_j,  p_ij = exp(scale · q_i·k_j − lse_i),  lse_i = ln Σ_{j ≤ i} exp(scale · q_i·k_j)
//!
//! FlashAttention-2 order (Dao 2023, arXiv:2307.08691; Rabe & Staats 2021, arXiv:2112.05682) over the online softmax of
//! Milakov & Gimelshein 2018 (arXiv:1805.02867). Grouped queries as in Ainslie et al. 2023 (arXiv:2305.13245).

mod backward;
mod decode;
mod forward;
mod pack;
mod shared;
mod small;
mod tile;
mod weights;

pub use backward::attention_backward;
pub use decode::attention_decode;
pub use forward::attention;
#[doc(hidden)]
pub use forward::attention_in_blocks;
pub use weights::attention_weights;

use std::f64::consts::LOG2_E;
use std::ops::Range;

use crate::Real;
use crate::kernels::split::by_rows;
use crate::simd::LANES;

/// The sizes of causal self-attention, in the order (B, T, H, Hkv, D), and the factor of the scores.
///
/// Query head h reads key and value head h / (H / Hkv). A fused row of queries, keys and values is
/// `[H query heads | Hkv key heads | Hkv value heads]`, (H + 2·Hkv)·D long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences, B.
    pub batch: usize,
    /// Rows of each sequence, T; when decoding, the new ones.
    pub seq_len: usize,
    /// Query heads, H.
    pub n_head: usize,
    /// Key and value heads, Hkv: a divisor of H.
    pub n_kv_head: usize,
    /// Width of a head, D.
    pub head_size: usize,
    /// What q·k is multiplied by: 1/√D for scaled dot products, 1 for cosines.
    pub scale: f64,
}

impl Attention {
    /// Numbers in a fused row of queries, keys and values: (H + 2·Hkv)·D.
    pub fn qkv_width(&self) -> usize {
        (self.n_head + 2 * self.n_kv_head) * self.head_size
    }

    /// Numbers in a row of the output: H·D.
    pub fn y_width(&self) -> usize {
        self.n_head * self.head_size
    }

    /// Numbers in the fused queries, keys and values: B·T·(H + 2·Hkv)·D.
    pub fn qkv_len(&self) -> usize {
        self.batch * self.seq_len * self.qkv_width()
    }

    /// Numbers in the output: B·T·H·D.
    pub fn y_len(&self) -> usize {
        self.batch * self.seq_len * self.y_width()
    }

    /// Numbers in the saved log-sum-exp: B·H·T.
    pub fn lse_len(&self) -> usize {
        self.batch * self.n_head * self.seq_len
    }

    /// Numbers in a key cache, and in a value cache, with room for `capacity` rows of each sequence.
    ///
    /// B·Hkv·S·D with S and D rounded up to 16: see [`attention_decode`] for the layout.
    pub fn cache_len(&self, capacity: usize) -> usize {
        self.batch * self.n_kv_head * capacity.next_multiple_of(LANES) * self.width()
    }

    /// Query heads per key and value head.
    fn group(&self) -> usize {
        self.n_head / self.n_kv_head
    }

    /// What queries are multiplied by so that 2ˣ of their products with keys is exp(scale · q·k).
    fn log2_factor<T: Real>(&self) -> T {
        T::from_f64(self.scale * LOG2_E)
    }

    /// D rounded up to whole vectors: how wide rows are in scratch space.
    fn width(&self) -> usize {
        self.head_size.next_multiple_of(LANES)
    }

    /// Floating-point operations of the forward pass, with `past` rows before the first.
    fn flops(&self, past: usize) -> usize {
        let pairs = self.seq_len * past + self.seq_len * (self.seq_len + 1) / 2;
        4 * self.head_size * self.batch * self.n_head * pairs
    }

    #[track_caller]
    fn check(&self) {
        assert!(
            self.n_kv_head > 0 && self.n_head.is_multiple_of(self.n_kv_head),
            "attention: {} query heads cannot share {} key and value heads evenly",
            self.n_head,
            self.n_kv_head
        );
        assert!(self.head_size > 0, "attention: heads of size 0");
    }
}

/// Above this many floating-point operations a call is worth handing to other threads, whose waking takes some 50 µs.
const WORTH_SPLITTING: usize = 10_000_000;

/// Runs `f` for 0..n, on all threads if `split`.
fn for_each(n: usize, split: bool, f: impl Fn(usize) + Sync) {
    by_rows(split, n, 1, 0..n, &|range: Range<usize>| range.for_each(&f));
}
