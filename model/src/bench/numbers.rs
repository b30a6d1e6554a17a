//! Input for kernels: numbers that are neither zero nor alike, since hardware and kernels may treat those specially.

use weft_tensor::Buffer;

/// `n` numbers between −1 and 1 in no visible order, the same at every call.
pub fn numbers(n: usize) -> Buffer<f32> {
    let mut buffer = Buffer::zeros(n);
    for (i, x) in buffer.iter_mut().enumerate() {
        // Knuth's multiplicative hash; 24 bits, so that every value is a float.
        *x = ((i as u32 + 1).wrapping_mul(2_654_435_761) >> 8) as f32 / 2f32.powi(23) - 1.0;
    }
    buffer
}

/// `n` classes below `classes` in no visible order.
pub fn targets(n: usize, classes: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) % classes as u32).collect()
}
