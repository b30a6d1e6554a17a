//! Products of matrices rounded to bf16, summed in the precision of the result.
//!
//! The tile is that of the other products; what differs is its operands. Two numbers that are neighbours along k make a
//! [`Pair`], so a step of the microkernel covers two of k: B lies in strips of pairs, and each block of rows of A is rounded
//! into a panel that stays in the first-level cache. With AVX-512's instruction a step costs what a single one costs in `f32`.

use super::blocks::{Job, Right, even_part};
use super::format::{Format, Pair, Pairs, pair};
use super::mat::{Mat, MatMut};
use super::pack::{STRIP, Strips};
use super::tile::{Ends, rows_by_strips};
use super::{Epilogue, split};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx512, Avx512Bf16};
use crate::simd::{LANES, Simd};
use crate::{Real, buffer::with_scratch, dispatch};

/// Pairs along k in a block: 14 rows of A of this length are most of a 32 KiB first-level cache.
const BLOCK_PAIRS: usize = 512;

/// Pairs of B in a block: as many bytes as a block of `f32` at AVX-512.
const BLOCK_B: usize = 150_000;

/// The most rows of A in its panel at any level.
const MOST_ROWS: usize = 14;

/// How many pairs [`pack_bf16_into`] writes for a matrix of `rows` × `cols`.
pub fn packed_bf16_len(rows: usize, cols: usize) -> usize {
    cols.next_multiple_of(STRIP) * rows.div_ceil(2)
}

/// Rounds and packs a right-hand factor that is used several times, for [`matmul_packed_bf16`].
///
/// # Panics
/// If `packed` does not hold exactly [`packed_bf16_len`] pairs.
#[track_caller]
pub fn pack_bf16_into<T: Real>(b: Mat<'_, T>, packed: &mut [u32]) {
    let len = packed_bf16_len(b.rows, b.cols);
    assert_eq!(packed.len(), len, "pack: {}×{} needs another length", b.rows, b.cols);
    pack(b, packed);
}

/// A right-hand factor rounded to bf16, in packed form.
#[derive(Clone, Copy, Debug)]
pub struct PackedBf16<'a> {
    pub(super) data: &'a [Pair],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<'a> PackedBf16<'a> {
    /// What [`pack_bf16_into`] made of a matrix of `rows` × `cols`.
    ///
    /// # Panics
    /// If `data` does not hold exactly [`packed_bf16_len`] pairs.
    #[track_caller]
    pub fn new(data: &'a [u32], rows: usize, cols: usize) -> Self {
        let len = packed_bf16_len(rows, cols);
        assert_eq!(data.len(), len, "packed matrix: {rows}×{cols} needs another length");
        PackedBf16 { data, rows, cols }
    }

    /// These columns; the first begins a strip.
    pub(super) fn columns(self, cols: std::ops::Range<usize>) -> Self {
        let pairs = self.rows.div_ceil(2);
        let data = &self.data[cols.start * pairs..cols.end.next_multiple_of(STRIP) * pairs];
        PackedBf16 { data, cols: cols.len(), ..self }
    }

    /// The strips from pair `p` and from column `j` on, which begins a strip.
    #[inline(always)]
    fn strips(self, p: usize, j: usize) -> Strips<'a, Pair> {
        let pairs = self.rows.div_ceil(2);
        let body = self.data.get(j * pairs + p * STRIP..).unwrap_or_default();
        Strips { body, row_stride: STRIP, strip_stride: STRIP * pairs, tail: &[] }
    }
}

/// [`matmul`](super::matmul) of A and B rounded to bf16 (halves to even); products and sums are those of `T`.
///
/// Where the processor has no instruction for it ([`has_bf16`]), the rounded numbers go through fused multiply-adds: slower, and
/// with other bits, since the instruction adds two products at a time and takes subnormal numbers for zero. At one level the bits
/// depend on nothing else.
///
/// # Panics
/// As [`matmul`](super::matmul).
#[track_caller]
pub fn matmul_bf16<T: Real>(a: Mat<'_, T>, b: Mat<'_, T>, c: MatMut<'_, T>, epilogue: Epilogue<'_, T>) {
    if let Some(job) = super::job(a, Right::Bf16(b), c, epilogue) {
        split::run(job);
    }
}

/// [`matmul_bf16`] with a B that [`pack_bf16_into`] has packed; the same bits.
///
/// # Panics
/// As [`matmul`](super::matmul).
#[track_caller]
pub fn matmul_packed_bf16<T: Real>(
    a: Mat<'_, T>,
    b: PackedBf16<'_>,
    c: MatMut<'_, T>,
    epilogue: Epilogue<'_, T>,
) {
    if let Some(job) = super::job(a, Right::PackedBf16(b), c, epilogue) {
        split::run(job);
    }
}

/// Whether products of bf16 run on an instruction of their own.
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Avx512Bf16::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

dispatch! {
    /// [`pack_pairs`] on its own.
    fn pack<T>(b: Mat<'_, T>, packed: &mut [Pair]) = pack_on

    /// A job without the instruction.
    fn run_emulated<T>(job: Job<'_, T>, blocks: Blocks, scratch: &mut [Pair]) = run_emulated_on
}

#[inline(always)]
fn pack_on<S: Simd>(_simd: S, b: Mat<'_, S::T>, packed: &mut [Pair]) {
    pack_pairs(b, packed);
}

#[inline(always)]
fn run_emulated_on<S: Simd>(simd: S, job: Job<'_, S::T>, blocks: Blocks, scratch: &mut [Pair]) {
    run_on(simd, Pairs, job, blocks, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi2")]
fn run_avx512(simd: Avx512, bf16: Avx512Bf16, job: Job<'_, f32>, blocks: Blocks, scratch: &mut [Pair]) {
    run_on(simd, bf16, job, blocks, scratch);
}

/// Computes a job on this thread.
pub(super) fn run<T: Real>(job: Job<'_, T>) {
    let blocks = Blocks::new(&job);
    // Powers of two, so that many shapes share few buffers.
    let len = (blocks.b_scratch + MOST_ROWS * blocks.pairs).next_power_of_two();
    with_scratch(len, |scratch| {
        let entry: fn(Job<'_, T>, Blocks, &mut [Pair]) = T::choose(
            || {
                crate::simd::as_type(
                    (|job, blocks, scratch| {
                        #[cfg(target_arch = "x86_64")]
                        if let Some(bf16) = Avx512Bf16::detect() {
                            // SAFETY: where there is AVX-512 BF16 at this level, there is the rest of AVX-512 that we ask for.
                            return unsafe { run_avx512(Simd::witness(), bf16, job, blocks, scratch) };
                        }
                        run_emulated(job, blocks, scratch);
                    }) as fn(Job<'_, f32>, Blocks, &mut [Pair]),
                )
            },
            || crate::simd::as_type(run_emulated as fn(Job<'_, f64>, Blocks, &mut [Pair])),
        );
        entry(job, blocks, scratch);
    });
}

/// The blocks of B; they follow from the shape alone, and do not show in the result.
#[derive(Clone, Copy)]
struct Blocks {
    /// Pairs along k.
    pairs: usize,
    cols: usize,
    /// Pairs of scratch space for a block of B, if it is not packed yet.
    b_scratch: usize,
}

impl Blocks {
    fn new<T: Real>(job: &Job<'_, T>) -> Self {
        let pairs = even_part(job.a.cols.div_ceil(2), BLOCK_PAIRS, 1);
        let cols = even_part(job.c.cols, BLOCK_B / pairs, STRIP);
        let b_scratch = if matches!(job.b, Right::PackedBf16(_)) { 0 } else { cols * pairs };
        Blocks { pairs, cols, b_scratch }
    }
}

#[inline(always)]
fn run_on<S: Simd, F: Format<S, E = Pair>>(
    simd: S,
    format: F,
    job: Job<'_, S::T>,
    blocks: Blocks,
    scratch: &mut [Pair],
) {
    let Job { a, b, mut c, ends, .. } = job;
    let (m, n, k) = (a.rows, c.cols, a.cols);
    let (b_scratch, panel) = scratch.split_at_mut(blocks.b_scratch);
    for j in (0..n).step_by(blocks.cols) {
        let cols = j..(j + blocks.cols).min(n);
        // At least once: without products C is still due its ends.
        for p in (0..k.div_ceil(2).max(1)).step_by(blocks.pairs) {
            let depth = 2 * p..(2 * (p + blocks.pairs)).min(k);
            let strips = match b {
                Right::PackedBf16(b) => b.strips(p, j),
                Right::Bf16(b) => {
                    let b = b.block(depth.clone(), cols.clone());
                    pack_pairs(b, b_scratch);
                    PackedBf16 { data: b_scratch, rows: b.rows, cols: b.cols }.strips(0, 0)
                }
                Right::Plain(_) | Right::Packed(_) => unreachable!("numbers go the other way"),
            };
            let last = depth.end == k;
            let parts = m.div_ceil(S::TILE_ROWS);
            for part in 0..parts {
                let rows = part * m / parts..(part + 1) * m / parts;
                let a = round_rows(a.block(rows.clone(), depth.clone()), panel);
                let ends = Ends {
                    from_c: ends.from_c || p > 0,
                    bias: ends.bias.filter(|_| last).map(|bias| &bias[cols.clone()]),
                    residual: ends.residual.filter(|_| last).map(|r| r.block(rows.clone(), cols.clone())),
                };
                rows_by_strips(simd, format, a, strips, c.block(rows, cols.clone()), ends);
            }
        }
    }
}

/// Rounds a block of rows of A into `panel`. It keeps the order of A: pairs along a row, or column by column of pairs.
#[inline(always)]
fn round_rows<'a, T: Real>(a: Mat<'_, T>, panel: &'a mut [Pair]) -> Mat<'a, Pair> {
    let (m, pairs) = (a.rows, a.cols.div_ceil(2));
    if a.row_stride == 1 && m > 1 {
        for p in 0..pairs {
            let to = &mut panel[p * m..][..m];
            let from = &a.data[2 * p * a.col_stride..][..m];
            round_neighbours(
                from,
                a.data.get((2 * p + 1) * a.col_stride..).filter(|_| 2 * p + 1 < a.cols),
                to,
            );
        }
        return Mat { data: panel, rows: m, cols: pairs, row_stride: 1, col_stride: m };
    }
    for i in 0..m {
        let row = a.data.get(i * a.row_stride..).unwrap_or_default();
        let to = &mut panel[i * pairs..][..pairs];
        if a.col_stride == 1 {
            let (two, one) = row[..a.cols].as_chunks::<2>();
            for (to, [x, y]) in to.iter_mut().zip(two) {
                *to = pair(*x, *y);
            }
            if let [x] = *one {
                to[pairs - 1] = pair(x, T::ZERO);
            }
        } else {
            for (p, to) in to.iter_mut().enumerate() {
                let at = |q: usize| if q < a.cols { row[q * a.col_stride] } else { T::ZERO };
                *to = pair(at(2 * p), at(2 * p + 1));
            }
        }
    }
    Mat { data: panel, rows: m, cols: pairs, row_stride: pairs, col_stride: 1 }
}

/// Pairs of the elements of two rows, the second of which may be missing: zeros.
#[inline(always)]
fn round_neighbours<T: Real>(first: &[T], second: Option<&[T]>, to: &mut [Pair]) {
    match second {
        Some(second) => {
            for ((to, x), y) in to.iter_mut().zip(first).zip(second) {
                *to = pair(*x, *y);
            }
        }
        None => {
            for (to, x) in to.iter_mut().zip(first) {
                *to = pair(*x, T::ZERO);
            }
        }
    }
}

/// Rounds and packs `b` into strips of pairs; what fills up the last pair and the last strip is zero.
#[inline(always)]
fn pack_pairs<T: Real>(b: Mat<'_, T>, packed: &mut [Pair]) {
    let (k, n, pairs) = (b.rows, b.cols, b.rows.div_ceil(2));
    for j in (0..n).step_by(STRIP) {
        let width = (n - j).min(STRIP);
        let strip = &mut packed[j * pairs..][..STRIP * pairs];
        if width < STRIP {
            strip.fill(0);
        }
        let b = b.block(0..k, j..j + width);
        if b.col_stride == 1 {
            for (p, to) in strip.chunks_exact_mut(STRIP).enumerate() {
                let row = |q: usize| b.data.get(q * b.row_stride..).filter(|_| q < k);
                round_neighbours(&row(2 * p).expect("k rows")[..width], row(2 * p + 1), &mut to[..width]);
            }
        } else {
            pack_columns(b, strip);
        }
    }
}

/// One strip of a matrix that is not row-major, a square of pairs at a time, through memory in the first-level cache.
#[inline(always)]
fn pack_columns<T: Real>(b: Mat<'_, T>, strip: &mut [Pair]) {
    let (k, pairs) = (b.rows, b.rows.div_ceil(2));
    for p in (0..pairs).step_by(LANES) {
        let depth = (pairs - p).min(LANES);
        for j in (0..b.cols).step_by(LANES) {
            let width = (b.cols - j).min(LANES);
            let mut square = [[0; LANES]; LANES];
            for (c, square) in square[..width].iter_mut().enumerate() {
                let column = b.data.get((j + c) * b.col_stride..).unwrap_or_default();
                let at = |q: usize| if q < k { column[q * b.row_stride] } else { T::ZERO };
                if b.row_stride == 1 && 2 * (p + LANES) <= k {
                    let (two, _) = column[2 * p..][..2 * LANES].as_chunks::<2>();
                    for (to, [x, y]) in square.iter_mut().zip(two) {
                        *to = pair(*x, *y);
                    }
                } else {
                    for (q, to) in square[..depth].iter_mut().enumerate() {
                        *to = pair(at(2 * (p + q)), at(2 * (p + q) + 1));
                    }
                }
            }
            for (q, to) in strip[p * STRIP..].chunks_exact_mut(STRIP).take(depth).enumerate() {
                for c in 0..width {
                    to[j + c] = square[c][q];
                }
            }
        }
    }
}
