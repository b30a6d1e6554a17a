//! At most four rows of A: the product reads B once and is as fast as the memory it comes from.

use super::mat::{Mat, MatMut};
use super::tile::Ends;
use crate::simd::{LANES, Simd};

/// The most rows that go this way.
pub(super) const FEW_ROWS: usize = 4;

/// Columns of C that are worked on at a time: four rows of them are half a first-level cache.
const STRIPE: usize = 1024;

/// Rows of B per sweep over a stripe of C.
const GROUP: usize = 4;

/// C = A · B for a row-major B, whose rows stream by in groups of four while a stripe of C stays in the cache.
#[inline(always)]
pub(super) fn few_rows<S: Simd>(
    simd: S,
    a: Mat<'_, S::T>,
    b: Mat<'_, S::T>,
    mut c: MatMut<'_, S::T>,
    ends: Ends<'_, S::T>,
) {
    let (k, n) = (a.cols, c.cols);
    let mut j = 0;
    while j < n {
        let width = (n - j).min(STRIPE);
        let mut from_c = ends.from_c;
        let mut p = 0;
        while p + GROUP <= k {
            group::<S, GROUP>(simd, a, b, &mut c, (p, j, width), from_c);
            from_c = true;
            p += GROUP;
        }
        while p < k {
            group::<S, 1>(simd, a, b, &mut c, (p, j, width), from_c);
            from_c = true;
            p += 1;
        }
        if !from_c {
            group::<S, 0>(simd, a, b, &mut c, (p, j, width), from_c);
        }
        finish(simd, &mut c, (j, width), ends);
        j += width;
    }
}

/// Adds the products with rows p to p + `G` of B to `width` columns from `j` on.
#[inline(always)]
fn group<S: Simd, const G: usize>(
    simd: S,
    a: Mat<'_, S::T>,
    b: Mat<'_, S::T>,
    c: &mut MatMut<'_, S::T>,
    (p, j, width): (usize, usize, usize),
    from_c: bool,
) {
    let mut rows: [&[S::T]; G] = [&[]; G];
    for q in 0..G {
        rows[q] = &b.data[(p + q) * b.row_stride + j..][..width];
    }
    for i in 0..a.rows {
        let mut x = [simd.zero(); G];
        for q in 0..G {
            x[q] = simd.splat(a.data[i * a.row_stride + (p + q) * a.col_stride]);
        }
        let y = c.row(i, j..j + width);
        let whole = width - width % LANES;
        let mut v = 0;
        while v < whole {
            let y = &mut y[v..v + LANES];
            let mut acc = if from_c { simd.load(y) } else { simd.zero() };
            for q in 0..G {
                acc = simd.mul_add(x[q], simd.load(&rows[q][v..v + LANES]), acc);
            }
            simd.store(y, acc);
            v += LANES;
        }
        if v < width {
            let y = &mut y[v..];
            let mut acc = if from_c { simd.load_up_to(y) } else { simd.zero() };
            for q in 0..G {
                acc = simd.mul_add(x[q], simd.load_up_to(&rows[q][v..width]), acc);
            }
            simd.store_up_to(y, acc);
        }
    }
}

/// Adds bias and residual.
#[inline(always)]
fn finish<S: Simd>(simd: S, c: &mut MatMut<'_, S::T>, (j, width): (usize, usize), ends: Ends<'_, S::T>) {
    for i in 0..c.rows {
        let y = c.row(i, j..j + width);
        if let Some(bias) = ends.bias {
            for (y, x) in y.chunks_mut(LANES).zip(bias[j..j + width].chunks(LANES)) {
                simd.store_up_to(y, simd.add(simd.load_up_to(y), simd.load_up_to(x)));
            }
        }
        if let Some(residual) = ends.residual {
            let row = &residual.data[i * residual.row_stride + j..][..width];
            for (y, x) in y.chunks_mut(LANES).zip(row.chunks(LANES)) {
                simd.store_up_to(y, simd.add(simd.load_up_to(y), simd.load_up_to(x)));
            }
        }
    }
}
