//! Packing: B in strips of [`STRIP`] columns, each strip row by row, so that the microkernel reads memory in order.

use super::mat::Mat;
use crate::Real;
use crate::dispatch;
use crate::simd::{LANES, Simd};

/// Columns of a packed strip: the widest tile. Narrower tiles read a part of the strip's rows.
pub(super) const STRIP: usize = 2 * LANES;

/// How many elements [`pack_into`] writes for a matrix of `rows` × `cols`.
pub fn packed_len(rows: usize, cols: usize) -> usize {
    cols.next_multiple_of(STRIP) * rows
}

/// Packs a right-hand factor that is used several times, for [`matmul_packed`](super::matmul_packed).
///
/// # Panics
/// If `packed` does not hold exactly [`packed_len`] elements.
#[track_caller]
pub fn pack_into<T: Real>(b: Mat<'_, T>, packed: &mut [T]) {
    assert_eq!(packed.len(), packed_len(b.rows, b.cols), "pack: {}×{} needs another length", b.rows, b.cols);
    pack(b, packed);
}

dispatch! {
    /// Packs `b` into strips, the last one filled up with zeros. Not a part of the products' functions, whose loops have all the
    /// registers to themselves.
    pub(super) fn pack<T>(b: Mat<'_, T>, packed: &mut [T]) = pack_strips
}

/// A right-hand factor in packed form.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl<'a, T> Packed<'a, T> {
    /// What [`pack_into`] made of a matrix of `rows` × `cols`.
    ///
    /// # Panics
    /// If `data` does not hold exactly [`packed_len`] elements.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), packed_len(rows, cols), "packed matrix: {rows}×{cols} needs another length");
        Packed { data, rows, cols }
    }

    /// Number of rows of the matrix that was packed.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns of the matrix that was packed.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The strips from row `p` and from column `j` on, which begins a strip.
    #[inline(always)]
    pub(super) fn strips(self, p: usize, j: usize) -> Strips<'a, T> {
        debug_assert_eq!(j % STRIP, 0);
        let body = self.data.get(j * self.rows + p * STRIP..).unwrap_or_default();
        Strips { body, row_stride: STRIP, strip_stride: STRIP * self.rows, tail: &[] }
    }
}

/// Where the strips of B lie.
#[derive(Clone, Copy)]
pub(super) struct Strips<'a, T> {
    /// The first strip and, `strip_stride` further on each, the others.
    pub(super) body: &'a [T],
    /// The distance between rows of a strip.
    pub(super) row_stride: usize,
    /// The distance between strips.
    pub(super) strip_stride: usize,
    /// The last strip, if it lies elsewhere: with rows [`STRIP`] elements apart.
    pub(super) tail: &'a [T],
}

impl<'a, T> Strips<'a, T> {
    /// Where column `j` of `n` begins, and the distance to the next row.
    #[inline(always)]
    pub(super) fn at(&self, j: usize, n: usize) -> (&'a [T], usize) {
        let (strip, within) = (j / STRIP, j % STRIP);
        if !self.tail.is_empty() && strip == n / STRIP {
            (&self.tail[within..], STRIP)
        } else {
            // The start of an empty strip (k = 0) may lie behind the end.
            (self.body.get(strip * self.strip_stride + within..).unwrap_or_default(), self.row_stride)
        }
    }
}

/// See [`pack`].
#[inline(always)]
fn pack_strips<S: Simd>(simd: S, b: Mat<'_, S::T>, packed: &mut [S::T]) {
    let (k, n) = (b.rows, b.cols);
    if k == 0 {
        return;
    }
    let packed = &mut packed[..packed_len(k, n)];
    if b.col_stride == 1 {
        // Row by row: that is how B lies in memory, and a page of it is visited once.
        let whole = n / STRIP;
        for p in 0..k {
            let row = &b.data[p * b.row_stride..][..n];
            for s in 0..whole {
                let (from, to) = (&row[s * STRIP..][..STRIP], &mut packed[(s * k + p) * STRIP..][..STRIP]);
                simd.store(to, simd.load(from));
                simd.store(&mut to[LANES..], simd.load(&from[LANES..]));
            }
            if n % STRIP > 0 {
                let (from, to) = (&row[whole * STRIP..], &mut packed[(whole * k + p) * STRIP..][..STRIP]);
                simd.store(to, simd.load_up_to(from));
                simd.store(&mut to[LANES..], simd.load_up_to(&from[from.len().min(LANES)..]));
            }
        }
    } else {
        let mut j = 0;
        while j < n {
            let strip = &mut packed[j * k..][..STRIP * k];
            for half in [0, LANES] {
                let cols = (j + half).min(n)..(j + half + LANES).min(n);
                columns_to_rows(simd, b.block(0..k, cols), &mut strip[half..], STRIP);
            }
            j += STRIP;
        }
    }
}

/// Copies at most [`LANES`] columns as rows of [`LANES`] elements, `stride` apart, filled up with zeros.
///
/// Columns that are contiguous in memory go through registers, 16 × 16 elements at a time.
#[inline(always)]
pub(in crate::kernels) fn columns_to_rows<S: Simd>(
    simd: S,
    b: Mat<'_, S::T>,
    to: &mut [S::T],
    stride: usize,
) {
    let (k, n) = (b.rows, b.cols);
    if b.row_stride != 1 {
        for p in 0..k {
            for (j, to) in to[p * stride..][..LANES].iter_mut().enumerate() {
                *to = if j < n { b.data[p * b.row_stride + j * b.col_stride] } else { S::T::ZERO };
            }
        }
        return;
    }
    let mut p = 0;
    while p < k {
        let rows = (k - p).min(LANES);
        let to = &mut to[p * stride..];
        if rows == LANES && n == LANES {
            whole_square(simd, &b.data[p..], b.col_stride, to, stride);
        } else {
            let mut square = [simd.zero(); LANES];
            for q in 0..n {
                square[q] = simd.load_up_to(&b.data[q * b.col_stride + p..][..rows]);
            }
            let square = simd.transpose(square);
            for q in 0..rows {
                simd.store(&mut to[q * stride..], square[q]);
            }
        }
        p += LANES;
    }
}

/// [`LANES`] columns of as many elements, which begin `col_stride` apart, as rows `stride` apart.
#[inline(always)]
fn whole_square<S: Simd>(simd: S, from: &[S::T], col_stride: usize, to: &mut [S::T], stride: usize) {
    // All that is checked is checked first, so that no vector waits on the stack for it.
    let zeros = [S::T::ZERO; LANES];
    let mut columns = [&zeros; LANES];
    let mut rest = from;
    for q in 0..LANES {
        if q > 0 {
            rest = &rest[col_stride..];
        }
        columns[q] = rest.first_chunk().expect("a column of a whole square");
    }
    let to = &mut to[..(LANES - 1) * stride + LANES];
    let mut square = [simd.zero(); LANES];
    for q in 0..LANES {
        square[q] = simd.load(columns[q]);
    }
    let square = simd.transpose(square);
    for q in 0..LANES {
        simd.store(&mut to[q * stride..], square[q]);
    }
}
