//! The gradient of several replicas: the sum of its parts, and the norm that clipping needs.
//!
//! Nobody writes the sum down: the norm and the update each read all parts and add them up in registers. With one or two
//! parts that is the least traffic, and with four it is next to it (14 numbers for each parameter instead of 12).

use std::ops::Range;

use super::split::{CHUNK, Job, is_large, split};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Σ x² for the sum x of `parts`, the first one first; added in `f64` in an order that depends on the length alone. NaN
/// and ∞ come through.
///
/// # Panics
/// If the lengths differ.
pub fn sum_of_squares<T: Real>(parts: &[&[T]]) -> f64 {
    let len = parts.first().map_or(0, |part| part.len());
    assert!(parts.iter().all(|part| part.len() == len), "sum_of_squares: the parts differ in length");
    split(SumOfSquares { parts, range: 0..len }, is_large::<T>(parts.len() * len))
}

dispatch! {
    fn sum_of_squares_chunk<T>(parts: &[&[T]], range: Range<usize>) -> f64 = sum_of_squares_on
}

/// Numbers whose gradients are added up together: they stay in the first-level cache for the update.
pub(super) const BLOCK: usize = 256;

/// The sum of the parts from `at` on: of one part itself, else in `sum`.
#[inline(always)]
pub(super) fn sum_of_parts<'a, S: Simd>(
    simd: S,
    parts: &'a [&[S::T]],
    at: usize,
    sum: &'a mut [S::T],
) -> &'a [S::T] {
    let (first, others) = parts.split_first().expect("a part at least");
    if others.is_empty() {
        return &first[at..at + sum.len()];
    }
    for (i, sum) in sum.chunks_mut(4 * LANES).enumerate() {
        let range = at + i * 4 * LANES..at + i * 4 * LANES + sum.len();
        let mut sums = [simd.zero(); 4];
        for (sum, x) in sums.iter_mut().zip(first[range.clone()].chunks(LANES)) {
            *sum = simd.load_up_to(x);
        }
        for part in others {
            for (sum, x) in sums.iter_mut().zip(part[range.clone()].chunks(LANES)) {
                *sum = simd.add(*sum, simd.load_up_to(x));
            }
        }
        for (dst, sum) in sum.chunks_mut(LANES).zip(sums) {
            simd.store_up_to(dst, sum);
        }
    }
    sum
}

// Squares of `f32` are exact in `f64`, so nothing overflows. The lanes are plain arrays, which the compiler lays into
// vectors: there is no vector of sixteen `f64` here.
#[inline(always)]
fn add_squares<T: Real>(sums: &mut [f64; LANES], x: &[T; LANES]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x.to_f64() * x.to_f64();
    }
}

/// The tree of [`Simd::sum_lanes`].
#[inline(always)]
fn sum_tree(mut sums: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

#[inline(always)]
fn sum_of_squares_on<S: Simd>(simd: S, parts: &[&[S::T]], range: Range<usize>) -> f64 {
    let (mut squares, mut sum) = ([0.0; LANES], [S::T::ZERO; BLOCK]);
    for at in range.clone().step_by(BLOCK) {
        let len = BLOCK.min(range.end - at);
        let (vectors, rest) = sum_of_parts(simd, parts, at, &mut sum[..len]).as_chunks();
        for x in vectors {
            add_squares(&mut squares, x);
        }
        let mut last = [S::T::ZERO; LANES];
        last[..rest.len()].copy_from_slice(rest);
        add_squares(&mut squares, &last);
    }
    sum_tree(squares)
}

struct SumOfSquares<'a, T> {
    /// Whole, of which `range` is meant.
    parts: &'a [&'a [T]],
    range: Range<usize>,
}

impl<T: Real> Job for SumOfSquares<'_, T> {
    type Output = f64;

    fn pieces(&self) -> usize {
        self.range.len().div_ceil(CHUNK)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let half = self.range.start + pieces * CHUNK;
        let SumOfSquares { parts, range } = self;
        (SumOfSquares { parts, range: range.start..half }, SumOfSquares { parts, range: half..range.end })
    }
    fn run(self) -> f64 {
        if self.range.is_empty() { 0.0 } else { sum_of_squares_chunk(self.parts, self.range) }
    }
    fn combine(first: f64, second: f64) -> f64 {
        first + second
    }
}
