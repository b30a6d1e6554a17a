//! Input for kernels, and what their output is held against.

pub use weft_model::bench::numbers::{numbers, targets};

/// Panics if `got` is further from `wanted` than `tolerance` · (1 + |wanted|).
#[track_caller]
pub fn assert_close(what: &str, got: impl Into<f64>, wanted: f64, tolerance: f64) {
    let got = got.into();
    assert!(
        (got - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
        "{what}: the kernel gives {got}, the plain loop {wanted}"
    );
}
