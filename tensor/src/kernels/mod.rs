//! Kernels: slices and sizes in, numbers out. One file per family, written once over [`Simd`].

pub mod activation;
pub mod attention;
pub mod cosine;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gemm;
pub mod gradient;
pub mod norm;
pub mod optimizer;
pub mod rotary;
pub mod softmax;
pub(crate) mod split;

use crate::simd::Simd;

/// Where a kernel puts a gradient: `beta` tells whether it overwrites (first write, beta = 0) or adds (beta = 1).
///
/// What is overwritten is never read: a buffer may hold anything before its first write.
pub struct Grad<'a, T> {
    /// The gradient, laid out like the value it belongs to.
    pub data: &'a mut [T],
    /// Add to what is there.
    pub add: bool,
}

/// Writes or adds a vector where a gradient goes: to all of `dst`, at most [`LANES`](crate::simd::LANES) numbers.
#[inline(always)]
pub(crate) fn put<S: Simd>(simd: S, dst: &mut [S::T], v: S::V, add: bool) {
    let v = if add { simd.add(simd.load_up_to(dst), v) } else { v };
    simd.store_up_to(dst, v);
}

/// A loop over the vectors of slices of one length: in `$step` each slice is its next sixteen numbers, at the end what
/// is left of it. Whole vectors have a length that the compiler knows, so `load_up_to` costs no more than `load`.
macro_rules! sweep {
    (($first:ident $(, $x:ident)*), ($($y:ident),*) => $step:expr) => {{
        let $first = $first.as_chunks::<{ $crate::simd::LANES }>();
        let n = $first.0.len();
        $(let $x = $x.as_chunks::<{ $crate::simd::LANES }>();)*
        $(let $x = (&$x.0[..n], $x.1);)*
        $(let $y = $y.as_chunks_mut::<{ $crate::simd::LANES }>();)*
        $(let $y = (&mut $y.0[..n], $y.1);)*
        for i in 0..n {
            let $first: &[_] = &$first.0[i];
            $(let $x: &[_] = &$x.0[i];)*
            $(let $y: &mut [_] = &mut $y.0[i];)*
            $step;
        }
        if !$first.1.is_empty() {
            let $first: &[_] = $first.1;
            $(let $x: &[_] = $x.1;)*
            $(let $y: &mut [_] = $y.1;)*
            $step;
        }
    }};
}
use sweep;

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
