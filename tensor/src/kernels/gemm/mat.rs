//! Borrowed matrices: what a product reads and writes.

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix to read: element (i, j) lies at `data[i · row_stride + j · col_stride]`.
///
/// Any strides are right; a product is fast if one of them is 1.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a, T> {
    pub(in crate::kernels) data: &'a [T],
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) cols: usize,
    pub(in crate::kernels) row_stride: usize,
    pub(in crate::kernels) col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// `rows` × `cols` elements row by row.
    ///
    /// # Panics
    /// If `data` is too short.
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Mat::with_strides(data, rows, cols, cols, 1)
    }

    /// A matrix whose rows lie `row_stride` and whose columns lie `col_stride` elements apart. A stride of 0 repeats.
    ///
    /// # Panics
    /// If `data` is too short.
    #[track_caller]
    pub fn with_strides(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        let span = span(rows, cols, row_stride, col_stride);
        assert!(
            span.is_some_and(|span| span <= data.len()),
            "matrix: {rows}×{cols} with strides {row_stride} and {col_stride} does not fit in {} elements",
            data.len()
        );
        Mat { data, rows, cols, row_stride, col_stride }
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Mat {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The part within `rows` and `cols`.
    #[inline(always)]
    pub(super) fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        debug_assert!(rows.end <= self.rows && cols.end <= self.cols);
        let start = rows.start * self.row_stride + cols.start * self.col_stride;
        // The start of an empty part may lie behind the end.
        let data = self.data.get(start..).unwrap_or_default();
        Mat { data, rows: rows.len(), cols: cols.len(), ..self }
    }
}

/// How many elements such a matrix reaches over; `None` if more than can be addressed.
fn span(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    if rows == 0 || cols == 0 {
        return Some(0);
    }
    let last_row = (rows - 1).checked_mul(row_stride)?;
    let last_col = (cols - 1).checked_mul(col_stride)?;
    last_row.checked_add(last_col)?.checked_add(1)
}

/// A matrix to write: element (i, j) lies `i · row_stride + j` elements after the first.
///
/// It may be cut into blocks of rows *and* columns that are written at the same time. Blocks of columns are not slices
/// of the memory, which is why this type holds a pointer.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    start: *mut T,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    data: PhantomData<&'a mut [T]>,
}

// Invariants: `rows` · `cols` elements at those places lie within the memory borrowed for 'a, rows do not overlap
// (row_stride ≥ cols where rows > 1), and no other value gives access to these elements.

// SAFETY: as `&mut [T]`, which it stands for.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// `rows` × `cols` elements row by row.
    ///
    /// # Panics
    /// If `data` is too short.
    #[track_caller]
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut::with_row_stride(data, rows, cols, cols)
    }

    /// A matrix whose rows lie `row_stride` elements apart; what lies between them is left alone.
    ///
    /// # Panics
    /// If `data` is too short or the rows overlap.
    #[track_caller]
    pub fn with_row_stride(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        let span = span(rows, cols, row_stride, 1);
        assert!(
            span.is_some_and(|span| span <= data.len()),
            "matrix: {rows}×{cols} with row stride {row_stride} does not fit in {} elements",
            data.len()
        );
        assert!(rows <= 1 || row_stride >= cols, "matrix: rows of {cols} overlap at row stride {row_stride}");
        MatMut { start: data.as_mut_ptr(), rows, cols, row_stride, data: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements `cols` of row `i`.
    #[inline(always)]
    pub(super) fn row(&mut self, i: usize, cols: Range<usize>) -> &mut [T] {
        assert!(i < self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: these elements are part of the matrix (just checked), and `self` is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(i * self.row_stride + cols.start), cols.len())
        }
    }

    /// The part within `rows` and `cols`, borrowed from the whole.
    #[inline(always)]
    pub(super) fn block(&mut self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: within the matrix (just checked), and `self` stays borrowed as long as the part lives.
        unsafe { self.part(rows, cols) }
    }

    /// The rows before `i` and the rows from `i` on.
    pub(super) fn split_rows(self, i: usize) -> (Self, Self) {
        assert!(i <= self.rows);
        // SAFETY: within the matrix (just checked), disjoint, and `self` is consumed.
        unsafe { (self.part(0..i, 0..self.cols), self.part(i..self.rows, 0..self.cols)) }
    }

    /// The columns before `j` and the columns from `j` on.
    pub(super) fn split_cols(self, j: usize) -> (Self, Self) {
        assert!(j <= self.cols);
        // SAFETY: within the matrix (just checked), disjoint, and `self` is consumed.
        unsafe { (self.part(0..self.rows, 0..j), self.part(0..self.rows, j..self.cols)) }
    }

    /// The part within `rows` and `cols`.
    ///
    /// # Safety
    /// The ranges lie within the matrix; the parts alive at any time are disjoint, and `self` is not used meanwhile.
    #[inline(always)]
    unsafe fn part<'b>(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'b, T> {
        MatMut {
            // `wrapping_add`, because an empty part may start behind the end.
            start: self.start.wrapping_add(rows.start * self.row_stride + cols.start),
            rows: rows.len(),
            cols: cols.len(),
            row_stride: self.row_stride,
            data: PhantomData,
        }
    }
}
