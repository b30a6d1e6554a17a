//! A copy of A in rows, where reading A in place would keep missing the cache: rows or columns that lie whole pages apart
//! share a few of its sets, and a large A in columns gives a narrow tile a part of each line only.

use super::mat::Mat;
use super::pack::columns_to_rows;
use crate::Real;
use crate::buffer::with_scratch;
use crate::dispatch;
use crate::kernels::split::{Out, Rows, by_rows, is_large};
use crate::simd::{LANES, Simd};

/// Bytes between addresses that share a set of the first-level cache.
pub(super) const PAGE: usize = 4096;

/// Groups of rows in a piece of the copying: a visit to a column's page is worth a kilobyte.
const GROUPS: usize = 16;

/// Whether elements so far apart lie a multiple of so many bytes apart.
pub(super) fn strided_by<T>(bytes: usize, stride: usize) -> bool {
    stride > 0 && (stride * size_of::<T>()).is_multiple_of(bytes)
}

/// Runs `f` with a copy of `a` whose rows do not share the sets of a cache.
pub(super) fn with_rows<T: Real>(a: Mat<'_, T>, f: impl FnOnce(Mat<'_, T>)) {
    let mut stride = a.cols.next_multiple_of(LANES) + LANES;
    if strided_by::<T>(PAGE, stride) {
        stride += LANES;
    }
    let len = a.rows.next_multiple_of(LANES) * stride;
    // Powers of two, so that many shapes share few buffers.
    with_scratch(len.next_power_of_two(), |copy| {
        let groups = a.rows.div_ceil(LANES);
        let all = (Groups(a), Out(&mut copy[..len], LANES * stride));
        by_rows(is_large::<T>(len), groups, GROUPS, all, &|(a, copy)| pack_rows(a.0, copy.0, stride));
        f(Mat { data: copy, row_stride: stride, col_stride: 1, ..a });
    });
}

/// The rows of a matrix in groups of [`LANES`], the last of which may be smaller.
struct Groups<'a, T>(Mat<'a, T>);

impl<T: Real> Rows for Groups<'_, T> {
    fn split_at(self, groups: usize) -> (Self, Self) {
        let (at, rows, cols) = (groups * LANES, self.0.rows, self.0.cols);
        (Groups(self.0.block(0..at, 0..cols)), Groups(self.0.block(at..rows, 0..cols)))
    }
}

dispatch! {
    /// Packs a matrix into rows `stride` elements apart. What lies between them may change.
    fn pack_rows<T>(a: Mat<'_, T>, to: &mut [T], stride: usize) = pack_rows_on
}

#[inline(always)]
fn pack_rows_on<S: Simd>(simd: S, a: Mat<'_, S::T>, to: &mut [S::T], stride: usize) {
    if a.col_stride == 1 {
        for (i, to) in to.chunks_exact_mut(stride).enumerate().take(a.rows) {
            to[..a.cols].copy_from_slice(&a.data[i * a.row_stride..][..a.cols]);
        }
    } else {
        for j in (0..a.cols).step_by(LANES) {
            let columns = a.block(0..a.rows, j..(j + LANES).min(a.cols));
            columns_to_rows(simd, columns, &mut to[j..], stride);
        }
    }
}
