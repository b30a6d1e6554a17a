//! Kernels: slices and sizes in, numbers out. One file per family, written once over [`Simd`](crate::simd::Simd).

pub mod cosine;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod rotary;

/// Where a kernel puts a gradient: `beta` tells whether it overwrites (first write, beta = 0) or adds (beta = 1).
///
/// What is overwritten is never read: a buffer may hold anything before its first write.
pub struct Grad<'a, T> {
    /// The gradient, laid out like the value it belongs to.
    pub data: &'a mut [T],
    /// Add to what is there.
    pub add: bool,
}

/// How a row of fused queries, keys and values is made up: H query heads, Hkv key heads, Hkv value heads, of D each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// H.
    pub n_head: usize,
    /// Hkv.
    pub n_kv_head: usize,
    /// D.
    pub head_size: usize,
}

impl Heads {
    /// Numbers in a row: (H + 2 Hkv) D.
    pub fn width(&self) -> usize {
        (self.n_head + 2 * self.n_kv_head) * self.head_size
    }
}
