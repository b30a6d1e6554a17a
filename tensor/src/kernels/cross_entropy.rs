//! Cross-entropy of logits and target classes, without a matrix of probabilities.
//!
//! A row's loss is −ln p(target) = ln Σ eˣ − x(target), in nats. Rows whose target is `ignore` count for nothing. The
//! sum over rows is handed back, not the mean: what to divide by (the real targets of the whole step, of which this may
//! be one part) is the caller's knowledge, and enters the gradient as `scale`.
//!
//! A row of more than a few thousand logits is done in blocks that stay in the first-level cache, each with its own
//! maximum (Milakov & Gimelshein 2018, arXiv:1805.02867), so that memory is read once per pass.

use super::Grad;
use super::softmax::{exp_in_place, exp_sum, finite_or_zero, max_of, scale};
use super::split::{CHUNK, Job, is_large, split};
use super::{put, sweep};
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Logits in a block: 8 KiB of `f32`, a quarter of the smallest first-level cache.
const BLOCK: usize = 2048;

/// Blocks that a row is cut into at most; longer rows have longer blocks.
const MAX_BLOCKS: usize = 64;

/// Σ −ln p(target) over the rows that are not ignored, in `f64`; `lse` keeps each row's ln Σ eˣ for the gradient.
/// Shapes: `logits` (N, V), `targets` and `lse` (N).
///
/// # Panics
/// If the lengths do not fit, or a target is neither below V nor `ignore`.
#[track_caller]
pub fn cross_entropy<T: Real>(logits: &[T], targets: &[u32], ignore: u32, lse: &mut [T]) -> f64 {
    let cols = check("cross_entropy", logits.len(), targets, ignore);
    assert_eq!(targets.len(), lse.len(), "cross_entropy: targets and lse differ in length");
    split(Forward { logits, targets, ignore, lse, cols }, is_large::<T>(logits.len()))
}

/// dlogits = scale · (softmax − onehot), zero for ignored rows; `lse` is what [`cross_entropy`] kept.
///
/// # Panics
/// As [`cross_entropy`].
#[track_caller]
pub fn cross_entropy_backward<T: Real>(
    logits: &[T],
    targets: &[u32],
    ignore: u32,
    lse: &[T],
    scale: T,
    dlogits: Grad<'_, T>,
) {
    let cols = check("cross_entropy_backward", logits.len(), targets, ignore);
    assert_eq!(targets.len(), lse.len(), "cross_entropy_backward: targets and lse differ in length");
    assert_eq!(
        logits.len(),
        dlogits.data.len(),
        "cross_entropy_backward: logits and dlogits differ in length"
    );
    let Grad { data, add } = dlogits;
    let parallel = is_large::<T>(2 * logits.len());
    split(Backward { logits, targets, ignore, lse, scale, dlogits: data, add, cols }, parallel);
}

/// [`cross_entropy`] and its gradient in one: the loss is returned and the logits become dlogits.
///
/// # Panics
/// As [`cross_entropy`].
#[track_caller]
pub fn cross_entropy_in_place<T: Real>(logits: &mut [T], targets: &[u32], ignore: u32, scale: T) -> f64 {
    let cols = check("cross_entropy_in_place", logits.len(), targets, ignore);
    let parallel = is_large::<T>(2 * logits.len());
    split(InPlace { logits, targets, ignore, scale, cols }, parallel)
}

/// The number of columns.
#[track_caller]
fn check(name: &str, logits: usize, targets: &[u32], ignore: u32) -> usize {
    let rows = targets.len();
    let cols = logits.checked_div(rows).unwrap_or(0);
    assert_eq!(rows * cols, logits, "{name}: {logits} logits are not {rows} rows");
    for (row, &target) in targets.iter().enumerate() {
        assert!(
            target == ignore || (target as usize) < cols,
            "{name}: target {target} of row {row} is out of range: there are {cols} classes"
        );
    }
    cols
}

dispatch! {
    fn forward_rows<T>(logits: &[T], targets: &[u32], ignore: u32, lse: &mut [T], cols: usize) -> f64 = forward_rows_on
    fn backward_rows<T>(logits: &[T], targets: &[u32], ignore: u32, lse: &[T], scale: T, dlogits: &mut [T], add: bool, cols: usize) = backward_rows_on
    fn in_place_rows<T>(logits: &mut [T], targets: &[u32], ignore: u32, scale: T, cols: usize) -> f64 = in_place_rows_on
}

/// Logits per block of a row.
fn block_len(cols: usize) -> usize {
    cols.div_ceil(MAX_BLOCKS).next_multiple_of(4 * LANES).max(BLOCK)
}

#[inline(always)]
fn exp_of<S: Simd>(simd: S, x: S::T) -> S::T {
    simd.array(S::T::exp(simd, simd.splat(x)))[0]
}

// Rows are taken sixteen at a time, for their logarithms to be one vector.
#[inline(always)]
fn forward_rows_on<S: Simd>(
    simd: S,
    logits: &[S::T],
    targets: &[u32],
    ignore: u32,
    lse: &mut [S::T],
    cols: usize,
) -> f64 {
    let block = block_len(cols);
    let mut loss = 0.0;
    let groups = logits.chunks(LANES * cols.max(1)).zip(targets.chunks(LANES)).zip(lse.chunks_mut(LANES));
    for ((logits, targets), lse) in groups {
        let (mut maxima, mut sums) = ([S::T::ZERO; LANES], [S::T::ONE; LANES]);
        // One pass for all rows, then the next: while a row waits for its maximum the others go on.
        for (max, x) in maxima.iter_mut().zip(logits.chunks_exact(cols)) {
            *max = max_of(simd, &x[..block.min(cols)]);
        }
        for (i, x) in logits.chunks_exact(cols).enumerate() {
            if targets[i] == ignore {
                maxima[i] = S::T::ZERO;
                continue;
            }
            let (x, rest) = x.split_at(block.min(cols));
            let mut max = maxima[i];
            let mut sum = exp_sum(simd, x, finite_or_zero(max));
            for x in rest.chunks(block) {
                let new_max = larger(max_of(simd, x), max);
                sum = rescaled(simd, sum, max, new_max) + exp_sum(simd, x, finite_or_zero(new_max));
                max = new_max;
            }
            (maxima[i], sums[i]) = (finite_or_zero(max), sum);
        }
        let ln_sums = S::T::ln(simd, simd.from_array(sums));
        simd.store_up_to(lse, simd.add(simd.from_array(maxima), ln_sums));
        let ln_sums = simd.array(ln_sums);
        for (i, &target) in targets.iter().enumerate() {
            if target != ignore {
                // The difference of the logits first: the logarithm would drown in large ones.
                loss += (maxima[i] - logits[i * cols + target as usize] + ln_sums[i]).to_f64();
            }
        }
    }
    loss
}

#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
#[inline(always)]
fn backward_rows_on<S: Simd>(
    simd: S,
    logits: &[S::T],
    targets: &[u32],
    ignore: u32,
    lse: &[S::T],
    scale: S::T,
    dlogits: &mut [S::T],
    add: bool,
    cols: usize,
) {
    let rows = logits.chunks_exact(cols).zip(dlogits.chunks_exact_mut(cols));
    for ((x, dx), (&target, &lse)) in rows.zip(targets.iter().zip(lse)) {
        if target == ignore {
            if !add {
                dx.fill(S::T::ZERO);
            }
            continue;
        }
        let (scales, lse) = (simd.splat(scale), simd.splat(lse));
        let target = target as usize;
        {
            let dx = &mut *dx;
            sweep!((x), (dx) => {
                let p = S::T::exp(simd, simd.sub(simd.load_up_to(x), lse));
                put(simd, dx, simd.mul(p, scales), add);
            });
        }
        dx[target] -= scale;
    }
}

#[inline(always)]
fn in_place_rows_on<S: Simd>(
    simd: S,
    logits: &mut [S::T],
    targets: &[u32],
    ignore: u32,
    gradient_scale: S::T,
    cols: usize,
) -> f64 {
    let block = block_len(cols);
    let mut loss = 0.0;
    for (logits, targets) in logits.chunks_mut(LANES * cols.max(1)).zip(targets.chunks(LANES)) {
        // What the loss of each row is made of: max + ln sum − x(target).
        let (mut shifts, mut sums) = ([S::T::ZERO; LANES], [S::T::ONE; LANES]);
        let mut maxima = [S::T::ZERO; LANES];
        // One pass for all rows, then the next: while a row waits for its maximum the others go on.
        for (max, x) in maxima.iter_mut().zip(logits.chunks_exact(cols)) {
            *max = max_of(simd, &x[..block.min(cols)]);
        }
        for (i, x) in logits.chunks_exact_mut(cols).enumerate() {
            if targets[i] == ignore {
                continue;
            }
            let at_target = x[targets[i] as usize];
            let max = if cols <= block {
                let max = finite_or_zero(maxima[i]);
                sums[i] = exp_in_place(simd, x, max, &[]);
                max
            } else {
                let max;
                (max, sums[i]) = exp_long_row(simd, x, maxima[i], block);
                max
            };
            shifts[i] = max - at_target;
        }
        let ln_sums = S::T::ln(simd, simd.from_array(sums));
        let losses = simd.array(simd.add(simd.from_array(shifts), ln_sums));
        let factors = simd.array(simd.div(simd.splat(gradient_scale), simd.from_array(sums)));
        for (i, x) in logits.chunks_exact_mut(cols).enumerate() {
            if targets[i] == ignore {
                x.fill(S::T::ZERO);
                continue;
            }
            scale(simd, x, factors[i]);
            x[targets[i] as usize] -= gradient_scale;
            loss += losses[i].to_f64();
        }
    }
    loss
}

/// x becomes e^(x − max) for the maximum of the whole row; returns it and the sum. `max` is that of the first block.
#[inline(always)]
fn exp_long_row<S: Simd>(simd: S, x: &mut [S::T], mut max: S::T, block: usize) -> (S::T, S::T) {
    let mut maxima = [S::T::NEG_INFINITY; MAX_BLOCKS];
    let (mut sum, mut start) = (S::T::ZERO, 0);
    for block_max in maxima.iter_mut().take(x.len().div_ceil(block)) {
        let len = block.min(x.len() - start);
        let (x, ahead) = x[start..].split_at_mut(len);
        let new_max = larger(max_of(simd, x), max);
        sum = rescaled(simd, sum, max, new_max);
        max = new_max;
        *block_max = finite_or_zero(max);
        sum += exp_in_place(simd, x, *block_max, ahead);
        start += block;
    }
    let max = finite_or_zero(max);
    // Maxima settle early: few blocks need this.
    for (x, &block_max) in x.chunks_mut(block).zip(&maxima) {
        if block_max != max {
            scale(simd, x, exp_of(simd, block_max - max));
        }
    }
    (max, sum)
}

fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// A sum of e^(x − old) as one of e^(x − new).
#[inline(always)]
fn rescaled<S: Simd>(simd: S, sum: S::T, old: S::T, new: S::T) -> S::T {
    if new == old || sum == S::T::ZERO { sum } else { sum * exp_of(simd, old - new) }
}

/// Rows in a piece of work: a multiple of the rows whose logarithms are taken together.
fn rows_per_piece(cols: usize) -> usize {
    (CHUNK / cols.max(1)).next_multiple_of(LANES).max(LANES)
}

struct Forward<'a, T> {
    logits: &'a [T],
    targets: &'a [u32],
    ignore: u32,
    lse: &'a mut [T],
    cols: usize,
}

impl<T: Real> Job for Forward<'_, T> {
    type Output = f64;

    fn pieces(&self) -> usize {
        self.targets.len().div_ceil(rows_per_piece(self.cols))
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let rows = pieces * rows_per_piece(self.cols);
        let (logits, logits_b) = self.logits.split_at(rows * self.cols);
        let (targets, targets_b) = self.targets.split_at(rows);
        let (lse, lse_b) = self.lse.split_at_mut(rows);
        let Forward { ignore, cols, .. } = self;
        (
            Forward { logits, targets, lse, ignore, cols },
            Forward { logits: logits_b, targets: targets_b, lse: lse_b, ignore, cols },
        )
    }
    fn run(self) -> f64 {
        if self.cols == 0 {
            self.lse.fill(T::ZERO);
            return 0.0;
        }
        forward_rows(self.logits, self.targets, self.ignore, self.lse, self.cols)
    }
    fn combine(first: f64, second: f64) -> f64 {
        first + second
    }
}

struct Backward<'a, T> {
    logits: &'a [T],
    targets: &'a [u32],
    ignore: u32,
    lse: &'a [T],
    scale: T,
    dlogits: &'a mut [T],
    add: bool,
    cols: usize,
}

impl<T: Real> Job for Backward<'_, T> {
    type Output = ();

    fn pieces(&self) -> usize {
        self.targets.len().div_ceil(rows_per_piece(self.cols))
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let rows = pieces * rows_per_piece(self.cols);
        let (logits, logits_b) = self.logits.split_at(rows * self.cols);
        let (targets, targets_b) = self.targets.split_at(rows);
        let (lse, lse_b) = self.lse.split_at(rows);
        let (dlogits, dlogits_b) = self.dlogits.split_at_mut(rows * self.cols);
        (
            Backward { logits, targets, lse, dlogits, ..self },
            Backward { logits: logits_b, targets: targets_b, lse: lse_b, dlogits: dlogits_b, ..self },
        )
    }
    fn run(self) {
        let Backward { logits, targets, ignore, lse, scale, dlogits, add, cols } = self;
        if cols > 0 {
            backward_rows(logits, targets, ignore, lse, scale, dlogits, add, cols);
        }
    }
    fn combine((): (), (): ()) {}
}

struct InPlace<'a, T> {
    logits: &'a mut [T],
    targets: &'a [u32],
    ignore: u32,
    scale: T,
    cols: usize,
}

impl<T: Real> Job for InPlace<'_, T> {
    type Output = f64;

    fn pieces(&self) -> usize {
        self.targets.len().div_ceil(rows_per_piece(self.cols))
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let rows = pieces * rows_per_piece(self.cols);
        let (logits, logits_b) = self.logits.split_at_mut(rows * self.cols);
        let (targets, targets_b) = self.targets.split_at(rows);
        let InPlace { ignore, scale, cols, .. } = self;
        (
            InPlace { logits, targets, ignore, scale, cols },
            InPlace { logits: logits_b, targets: targets_b, ignore, scale, cols },
        )
    }
    fn run(self) -> f64 {
        if self.cols == 0 {
            return 0.0;
        }
        in_place_rows(self.logits, self.targets, self.ignore, self.scale, self.cols)
    }
    fn combine(first: f64, second: f64) -> f64 {
        first + second
    }
}
