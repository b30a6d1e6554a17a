//! Products of matrices rounded to bf16, summed in the precision of the result.
//!
//! Two numbers that are neighbours along k make a [`Pair`], and a packed B lies in strips of pairs, as AVX-512's instruction wants
//! it. Where there is none, blocks of A and B become numbers again, rounded ones, which the other products multiply.

use super::blocks::{Job, Right, even_part};
use super::format::{Pair, numbers, pair};
use super::mat::{Mat, MatMut};
use super::pack::{Packed, STRIP, packed_len};
use super::{Epilogue, split};
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512Bf16;
use crate::simd::{LANES, Simd};
use crate::{Real, buffer::with_scratch, dispatch};

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
}

/// [`matmul`](super::matmul) of A and B rounded to bf16 (halves to even); products and sums are those of `T`.
///
/// Where the processor has no instruction for it ([`has_bf16`]), the rounded numbers are multiplied as such: slower, and
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

    /// Rounds numbers to bf16.
    fn round<T>(x: &mut [T]) = round_on

    /// Rows 2 `p` and on of a packed factor, as strips of numbers with `depth` rows.
    fn unpack<T>(b: PackedBf16<'_>, p: usize, depth: usize, strips: &mut [T]) = unpack_on
}

#[inline(always)]
fn pack_on<S: Simd>(_simd: S, b: Mat<'_, S::T>, packed: &mut [Pair]) {
    pack_pairs(b, packed);
}

#[inline(always)]
fn round_on<S: Simd>(_simd: S, x: &mut [S::T]) {
    for x in x {
        *x = numbers(pair(*x, S::T::ZERO)).0;
    }
}

#[inline(always)]
fn unpack_on<S: Simd>(_simd: S, b: PackedBf16<'_>, p: usize, depth: usize, strips: &mut [S::T]) {
    for (s, strip) in strips.chunks_exact_mut(STRIP * depth.max(1)).enumerate() {
        let pairs = &b.data[(s * b.rows.div_ceil(2) + p) * STRIP..];
        for (rows, pairs) in strip.chunks_mut(2 * STRIP).zip(pairs.chunks_exact(STRIP)) {
            let (first, second) = rows.split_at_mut(STRIP);
            for (x, pair) in first.iter_mut().zip(pairs) {
                *x = numbers(*pair).0;
            }
            // Of an odd number of rows, the last is half a pair.
            for (x, pair) in second.iter_mut().zip(pairs) {
                *x = numbers(*pair).1;
            }
        }
    }
}

/// Computes a job on this thread.
pub(super) fn run<T: Real>(job: Job<'_, T>) {
    let entry: fn(Job<'_, T>) = T::choose(
        || {
            crate::simd::as_type(
                (|job| {
                    #[cfg(target_arch = "x86_64")]
                    if let Some(bf16) = Avx512Bf16::detect() {
                        return super::bf16_dot::run(bf16, job);
                    }
                    run_rounded(job);
                }) as fn(Job<'_, f32>),
            )
        },
        || crate::simd::as_type(run_rounded as fn(Job<'_, f64>)),
    );
    entry(job);
}

/// A job without the instruction: blocks of A and B become numbers that are rounded, and the other products multiply them.
fn run_rounded<T: Real>(job: Job<'_, T>) {
    /// Along k, as in the blocks of other products, which are then not cut again.
    const DEPTH: usize = 512;
    /// Rows of A in a block: it and the block of B are rounded and read again, so both should stay in the second-level cache.
    const ROWS: usize = 64;
    /// Numbers of B in a block. Each block rounds A anew; one that serves few rows is better small.
    const BLOCK: [usize; 2] = [20_000, 150_000];
    let Job { a, b, mut c, ends } = job;
    let (m, n, k) = (a.rows, c.cols, a.cols);
    let kc = 2 * even_part(k.div_ceil(2), DEPTH / 2, 1);
    let nc = even_part(n, BLOCK[usize::from(m > ROWS)] / kc, STRIP);
    with_scratch((kc * (nc + ROWS)).next_power_of_two().max(1024), |scratch| {
        let (b_scratch, a_scratch) = scratch.split_at_mut(kc * nc);
        for j in (0..n).step_by(nc) {
            let cols = j..(j + nc).min(n);
            // At least once: without products C is still due its ends.
            for p in (0..k.max(1)).step_by(kc) {
                let depth = p..(p + kc).min(k);
                let strips = &mut b_scratch[..packed_len(depth.len(), cols.len())];
                match b {
                    Right::PackedBf16(b) => unpack(b.columns(cols.clone()), p / 2, depth.len(), strips),
                    Right::Bf16(b) => {
                        super::pack::pack(b.block(depth.clone(), cols.clone()), strips);
                        round(strips);
                    }
                    Right::Plain(_) | Right::Packed(_) => unreachable!("numbers go the other way"),
                }
                for i in (0..m).step_by(ROWS) {
                    let rows = i..(i + ROWS).min(m);
                    let a = rounded(a.block(rows.clone(), depth.clone()), a_scratch);
                    let b = Packed { data: strips, rows: depth.len(), cols: cols.len() };
                    let c = c.block(rows.clone(), cols.clone());
                    let ends = ends.of_block(p > 0, depth.end == k, rows, cols.clone());
                    Job { a, b: Right::Packed(b), c, ends }.run();
                }
            }
        }
    });
}

/// A rounded copy of a block of A, which keeps its order: row by row, or column by column.
fn rounded<'a, T: Real>(a: Mat<'_, T>, to: &'a mut [T]) -> Mat<'a, T> {
    let (m, k) = (a.rows, a.cols);
    let to = &mut to[..m * k];
    let (row_stride, col_stride) = if a.row_stride == 1 && m > 1 { (1, m) } else { (k, 1) };
    if row_stride == 1 {
        for (p, to) in to.chunks_exact_mut(m).enumerate() {
            to.copy_from_slice(&a.data[p * a.col_stride..][..m]);
        }
    } else {
        for (i, to) in to.chunks_exact_mut(k.max(1)).enumerate() {
            let row = &a.data[i * a.row_stride..];
            if a.col_stride == 1 {
                to.copy_from_slice(&row[..k]);
            } else {
                to.iter_mut().enumerate().for_each(|(p, to)| *to = row[p * a.col_stride]);
            }
        }
    }
    round(to);
    Mat { data: to, rows: m, cols: k, row_stride, col_stride }
}

/// Pairs of the elements of two rows, the second of which may be missing: zeros.
#[inline(always)]
pub(super) fn round_neighbours<T: Real>(first: &[T], second: Option<&[T]>, to: &mut [Pair]) {
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
pub(super) fn pack_pairs<T: Real>(b: Mat<'_, T>, packed: &mut [Pair]) {
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
