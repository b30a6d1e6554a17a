//! Tensors, views and SIMD kernels.
