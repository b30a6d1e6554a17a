//! Kernels: slices and sizes in, numbers out. One file per family, written once over [`Simd`](crate::simd::Simd).

pub mod attention;
pub mod elementwise;
pub mod gemm;

/// Where a kernel puts a gradient: `beta` tells whether it overwrites (first write, beta = 0) or adds (beta = 1).
///
/// What is overwritten is never read: a buffer may hold anything before its first write.
pub struct Grad<'a, T> {
    /// The gradient, laid out like the value it belongs to.
    pub data: &'a mut [T],
    /// Add to what is there.
    pub add: bool,
}
