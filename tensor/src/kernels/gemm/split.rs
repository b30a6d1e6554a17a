//! Threads: a large product is cut into rectangles of C, by its shape alone.

use std::ops::Range;

use super::Batch;
use super::blocks::{Job, Right};
use super::mat::MatMut;
use super::pack::{Packed, STRIP};
use super::rows::with_rows;
use super::tile::Ends;
use crate::Real;
use crate::kernels::split::join;

/// Work below which a product is not split, in FLOP. A product of this size takes some 45 µs: with a worker that is awake,
/// three quarters of that; with one that sleeps, and comes too late, a sixth more. Where all workers are busy, as within a
/// step, splitting costs next to nothing and evens out the end.
const SPLIT_WORK: usize = 4_000_000;

/// Elements of B from which on a product is split also if it is little work: 2 MiB of `f32`.
const SPLIT_B: usize = 1 << 19;

/// The least work of a piece, in FLOP.
const PIECE_WORK: usize = 2_500_000;

/// The most pieces: enough to balance the load of several threads.
const PIECES: usize = 16;

/// The most elements of A that are copied at a time: 8 MiB of `f32`.
const COPY_MOST: usize = 1 << 21;

/// Rows that the parts of a larger A keep at least: fewer would not be worth another packing of B.
const COPY_ROWS: usize = 128;

/// Cuts between rows lie at multiples of this. Tiles need no better, they are dealt evenly within each piece.
const ROW_UNIT: usize = 8;

/// Computes a job on the threads of the current pool.
pub(super) fn run<T: Real>(job: Job<'_, T>) {
    let work = job.work();
    let large_b = job.a.cols.saturating_mul(job.c.cols) >= SPLIT_B;
    if work < SPLIT_WORK && !large_b || rayon::current_num_threads() == 1 {
        return run_pieces(job, usize::MAX);
    }
    let least = if large_b { PIECE_WORK.min(work / 4) } else { PIECE_WORK };
    run_pieces(job, (work / PIECES).max(least));
}

/// Halves a job until its pieces are at most about `most` FLOP. An A that is better copied is copied before, for all of
/// them; one too large for that is cut first.
fn run_pieces<T: Real>(job: Job<'_, T>, most: usize) {
    if job.wants_rows() {
        let (m, k) = (job.a.rows, job.a.cols);
        if m.saturating_mul(k) <= COPY_MOST {
            return with_rows(job.a, |a| run_pieces(Job { a, ..job }, most));
        }
        if m >= 2 * COPY_ROWS {
            let (first, second) = job.split(Cut::Row((m / 2).next_multiple_of(ROW_UNIT)));
            join(|| run_pieces(first, most), || run_pieces(second, most));
            return;
        }
    }
    match job.cut() {
        // A cut falls on a multiple of its unit: what is a little larger than half is not cut again for that.
        Some(cut) if job.work() > most.saturating_add(most / 4) => {
            let (first, second) = job.split(cut);
            join(|| run_pieces(first, most), || run_pieces(second, most));
        }
        _ => job.run(),
    }
}

/// Between which rows or columns of C a job is cut.
enum Cut {
    Row(usize),
    Column(usize),
}

impl<'a, T: Real> Job<'a, T> {
    /// 2 · m · n · k.
    fn work(&self) -> usize {
        self.a.rows.saturating_mul(self.c.cols).saturating_mul(self.a.cols).saturating_mul(2)
    }

    /// The middle of the longer side of C, if that is long enough.
    fn cut(&self) -> Option<Cut> {
        let (m, n) = (self.c.rows, self.c.cols);
        if n >= 2 * STRIP && n >= m {
            Some(Cut::Column((n / 2).next_multiple_of(STRIP)))
        } else if m >= 2 * ROW_UNIT {
            Some(Cut::Row((m / 2).next_multiple_of(ROW_UNIT)))
        } else {
            None
        }
    }

    /// The two parts of a job.
    fn split(self, cut: Cut) -> (Self, Self) {
        let Job { a, b, c, ends } = self;
        let (m, n) = (c.rows, c.cols);
        let ends_of = |rows, cols| ends.of_block(false, true, rows, cols);
        match cut {
            Cut::Row(i) => {
                let (c0, c1) = c.split_rows(i);
                let (a0, a1) = (a.block(0..i, 0..a.cols), a.block(i..m, 0..a.cols));
                (
                    Job { a: a0, b, c: c0, ends: ends_of(0..i, 0..n) },
                    Job { a: a1, b, c: c1, ends: ends_of(i..m, 0..n) },
                )
            }
            Cut::Column(j) => {
                let (c0, c1) = c.split_cols(j);
                let (b0, b1) = (b.columns(0..j), b.columns(j..n));
                (
                    Job { a, b: b0, c: c0, ends: ends_of(0..m, 0..j) },
                    Job { a, b: b1, c: c1, ends: ends_of(0..m, j..n) },
                )
            }
        }
    }
}

impl<T: Copy> Right<'_, T> {
    /// These columns; the first begins a strip.
    fn columns(self, cols: Range<usize>) -> Self {
        match self {
            Right::Plain(b) => Right::Plain(b.block(0..b.rows, cols)),
            Right::Bf16(b) => Right::Bf16(b.block(0..b.rows, cols)),
            Right::PackedBf16(b) => Right::PackedBf16(b.columns(cols)),
            Right::Packed(b) => {
                let data = &b.data[cols.start * b.rows..cols.end.next_multiple_of(STRIP) * b.rows];
                Right::Packed(Packed { data, cols: cols.len(), ..b })
            }
        }
    }
}

/// Computes items `first` … of a batch, whose results fill `c`; see [`super::matmul_batched`].
pub(super) fn run_batch<T: Real>(first: usize, a: Batch<'_, T>, b: Batch<'_, T>, c: &mut [T], add: bool) {
    let (m, n, k) = (a.first.rows, b.first.cols, a.first.cols);
    let items = c.len() / (m * n);
    let work = c.len().saturating_mul(k).saturating_mul(2);
    if items > 1 && work > PIECE_WORK && rayon::current_num_threads() > 1 {
        let half = items / 2;
        let (c0, c1) = c.split_at_mut(half * m * n);
        join(|| run_batch(first, a, b, c0, add), || run_batch(first + half, a, b, c1, add));
        return;
    }
    for (i, c) in c.chunks_exact_mut(m * n).enumerate() {
        let ends = Ends { from_c: add, bias: None, residual: None };
        let (a, b) = (a.at(first + i), Right::Plain(b.at(first + i)));
        run_pieces(Job { a, b, c: MatMut::new(c, m, n), ends }, usize::MAX);
    }
}
