//! Layer norm, RMS norm and sums over rows.

use super::split::{In, Job, Out, by_rows, is_large, rows_in_chunk, split};
use super::{Grad, put, sweep};
use crate::buffer::with_scratch;
use crate::simd::{LANES, Simd};
use crate::{Real, dispatch};

/// Rows whose contributions to a column sum are added up on their own before they join the others: a fixed number, so
/// that the sum does not depend on who computed which part, and large enough to make the joining cheap.
const ROWS: usize = 64;

/// Columns that are summed side by side, in registers.
const TILE: usize = 4 * LANES;

/// Normalises each row to zero mean and unit variance, then scales and shifts (Ba et al. 2016, arXiv:1607.06450).
///
/// y = weight · (x − μ) / √(σ² + eps) + bias, with μ and σ² (biased) over the row. `mean` keeps μ and `rstd` keeps
/// 1 / √(σ² + eps) for the gradient. Shapes: `x`, `y` (N, C); `weight`, `bias` (C); `mean`, `rstd` (N).
///
/// # Panics
/// If the lengths do not fit.
pub fn layer_norm<T: Real>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    eps: T,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    let cols = weight.len();
    check("layer_norm", x.len(), cols, rstd.len());
    assert_eq!(x.len(), y.len(), "layer_norm: x and y differ in length");
    assert_eq!(mean.len(), rstd.len(), "layer_norm: mean and rstd differ in length");
    assert!(bias.is_none_or(|bias| bias.len() == cols), "layer_norm: weight and bias differ in length");
    if cols == 0 {
        mean.fill(T::ZERO);
        return rstd.fill(T::ZERO);
    }
    let (parallel, rows) = (is_large::<T>(2 * x.len()), rstd.len());
    let all = (In(x, cols), Out(y, cols), Out(mean, 1), Out(rstd, 1));
    by_rows(parallel, rows, rows_in_chunk(cols), all, &|(x, y, mean, rstd)| {
        layer_norm_rows(x.0, weight, bias, eps, y.0, mean.0, rstd.0);
    });
}

/// The gradients of [`layer_norm`], in one sweep; `None` for those that nobody needs.
///
/// With g = weight · dy and x̂ = (x − μ) · rstd: dx = rstd · (g − mean g − x̂ · mean(g · x̂)), dweight = Σ dy · x̂ and
/// dbias = Σ dy over the rows.
///
/// # Panics
/// If the lengths do not fit.
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices")]
pub fn layer_norm_backward<T: Real>(
    x: &[T],
    weight: &[T],
    mean: &[T],
    rstd: &[T],
    dy: &[T],
    dx: Option<Grad<'_, T>>,
    dweight: Option<Grad<'_, T>>,
    dbias: Option<Grad<'_, T>>,
) {
    assert_eq!(mean.len(), rstd.len(), "layer_norm_backward: mean and rstd differ in length");
    backward("layer_norm_backward", x, weight, Some(mean), rstd, dy, dx, dweight, dbias);
}

/// Scales each row to unit mean square, then by `weight` (Zhang & Sennrich 2019, arXiv:1910.07467).
///
/// y = weight · x / √(mean x² + eps). `rstd` keeps 1 / √(mean x² + eps) for the gradient. Shapes as in [`layer_norm`].
///
/// # Panics
/// If the lengths do not fit.
pub fn rms_norm<T: Real>(x: &[T], weight: &[T], eps: T, y: &mut [T], rstd: &mut [T]) {
    let cols = weight.len();
    check("rms_norm", x.len(), cols, rstd.len());
    assert_eq!(x.len(), y.len(), "rms_norm: x and y differ in length");
    if cols == 0 {
        return rstd.fill(T::ZERO);
    }
    let (parallel, rows) = (is_large::<T>(2 * x.len()), rstd.len());
    let all = (In(x, cols), Out(y, cols), Out(rstd, 1));
    by_rows(parallel, rows, rows_in_chunk(cols), all, &|(x, y, rstd)| {
        rms_norm_rows(x.0, weight, eps, y.0, rstd.0);
    });
}

/// The gradients of [`rms_norm`], in one sweep: those of [`layer_norm_backward`] without the terms of the mean.
///
/// # Panics
/// If the lengths do not fit.
pub fn rms_norm_backward<T: Real>(
    x: &[T],
    weight: &[T],
    rstd: &[T],
    dy: &[T],
    dx: Option<Grad<'_, T>>,
    dweight: Option<Grad<'_, T>>,
) {
    backward("rms_norm_backward", x, weight, None, rstd, dy, dx, dweight, None);
}

/// out = the sum of the rows of x (N, `cols`): the gradient of a bias.
///
/// # Panics
/// If `out` is not (`cols`), or `x` not rows of it.
pub fn column_sums<T: Real>(x: &[T], cols: usize, out: Grad<'_, T>) {
    assert_eq!(out.data.len(), cols, "column_sums: out is not one row");
    assert!(x.is_empty() || cols > 0 && x.len().is_multiple_of(cols), "column_sums: x is not rows of {cols}");
    let Grad { data, add } = out;
    split(ColumnSums { x, cols, start: 0, out: data, add }, is_large::<T>(x.len()));
}

fn check(name: &str, x: usize, cols: usize, rows: usize) {
    assert_eq!(x, rows * cols, "{name}: x is not {rows} rows of {cols}");
}

#[expect(clippy::too_many_arguments, reason = "a kernel takes slices")]
fn backward<T: Real>(
    name: &str,
    x: &[T],
    weight: &[T],
    mean: Option<&[T]>,
    rstd: &[T],
    dy: &[T],
    dx: Option<Grad<'_, T>>,
    dweight: Option<Grad<'_, T>>,
    dbias: Option<Grad<'_, T>>,
) {
    let cols = weight.len();
    check(name, x.len(), cols, rstd.len());
    assert_eq!(x.len(), dy.len(), "{name}: x and dy differ in length");
    let fits = |grad: &Option<Grad<'_, T>>, len| grad.as_ref().is_none_or(|grad| grad.data.len() == len);
    assert!(fits(&dx, x.len()), "{name}: x and dx differ in length");
    assert!(fits(&dweight, cols), "{name}: weight and dweight differ in length");
    assert!(fits(&dbias, cols), "{name}: weight and dbias differ in length");
    if cols == 0 {
        return;
    }
    // Each piece of the rows has its own line of partial sums: dweight, and dbias where there are biases.
    let sums = if mean.is_some() { 2 } else { 1 };
    with_scratch(rstd.len().div_ceil(ROWS) * sums * cols, |partial| {
        let add = dx.as_ref().is_some_and(|dx| dx.add);
        let dx = dx.map(|dx| dx.data);
        let parallel = is_large::<T>(3 * x.len());
        split(Backward { x, weight, mean, rstd, dy, dx, add, partial: &mut *partial, sums }, parallel);
        let lines = partial.chunks_exact(sums * cols);
        if let Some(dweight) = dweight {
            add_lines(lines.clone().map(|line| &line[..cols]), dweight);
        }
        if let Some(dbias) = dbias {
            add_lines(lines.map(|line| &line[cols..]), dbias);
        }
    });
}

/// out = the sum of the lines, the first one first.
fn add_lines<'a, T: Real>(lines: impl Iterator<Item = &'a [T]>, out: Grad<'_, T>) {
    if !out.add {
        out.data.fill(T::ZERO);
    }
    for line in lines {
        for (sum, x) in out.data.iter_mut().zip(line) {
            *sum += *x;
        }
    }
}

dispatch! {
    fn layer_norm_rows<T>(x: &[T], weight: &[T], bias: Option<&[T]>, eps: T, y: &mut [T], mean: &mut [T], rstd: &mut [T]) = layer_norm_rows_on
    fn rms_norm_rows<T>(x: &[T], weight: &[T], eps: T, y: &mut [T], rstd: &mut [T]) = rms_norm_rows_on
    fn layer_norm_backward_rows<T>(x: &[T], weight: &[T], mean: &[T], rstd: &[T], dy: &[T], dx: Option<&mut [T]>, add: bool, dweight: &mut [T], dbias: &mut [T]) = layer_norm_backward_rows_on
    fn rms_norm_backward_rows<T>(x: &[T], weight: &[T], rstd: &[T], dy: &[T], dx: Option<&mut [T]>, add: bool, dweight: &mut [T]) = rms_norm_backward_rows_on
    fn sum_columns<T>(x: &[T], cols: usize, start: usize, out: &mut [T], add: bool) = sum_columns_on
}

/// Adds up four vectors of sums and their lanes.
#[inline(always)]
fn sum_four<S: Simd>(simd: S, s: [S::V; 4]) -> S::T {
    simd.sum_lanes(simd.add(simd.add(s[0], s[1]), simd.add(s[2], s[3])))
}

/// Rows that go through a kernel's passes together, sixteen at most: what one row's pass waits for, its sum over the
/// lanes and a root, would hold up its next pass, but not the other rows'. All of them stay in the first-level cache.
fn rows_per_group(cols: usize) -> usize {
    (3072 / cols).clamp(1, LANES)
}

/// 1 / √(squares / n + eps) for each row of a group.
#[inline(always)]
fn inverse_roots<S: Simd>(simd: S, squares: &[S::T; LANES], n: S::T, eps: S::T, rstd: &mut [S::T]) {
    let variance = simd.div(simd.load(squares), simd.splat(n));
    let root = simd.sqrt(simd.add(variance, simd.splat(eps)));
    simd.store_up_to(rstd, simd.div(simd.splat(S::T::ONE), root));
}

/// Σ x.
#[inline(always)]
fn sum<S: Simd>(simd: S, x: &[S::T]) -> S::T {
    let mut sums = [simd.zero(); 4];
    let (fours, x) = x.as_chunks::<{ 4 * LANES }>();
    for four in fours {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = simd.add(*sum, simd.load(&four[i * LANES..]));
        }
    }
    for (x, sum) in x.chunks(LANES).zip(&mut sums) {
        *sum = simd.add(*sum, simd.load_up_to(x));
    }
    sum_four(simd, sums)
}

/// Σ (x − mean)².
#[inline(always)]
fn sum_of_squared_deviations<S: Simd>(simd: S, x: &[S::T], mean: S::T) -> S::T {
    let mean = simd.splat(mean);
    let mut sums = [simd.zero(); 4];
    let (fours, x) = x.as_chunks::<{ 4 * LANES }>();
    for four in fours {
        for (i, sum) in sums.iter_mut().enumerate() {
            let d = simd.sub(simd.load(&four[i * LANES..]), mean);
            *sum = simd.mul_add(d, d, *sum);
        }
    }
    let ones = [S::T::ONE; LANES];
    for (x, sum) in x.chunks(LANES).zip(&mut sums) {
        // Where the row has ended, 0 − 0 · mean.
        let d = simd.neg_mul_add(simd.load_up_to(&ones[..x.len()]), mean, simd.load_up_to(x));
        *sum = simd.mul_add(d, d, *sum);
    }
    sum_four(simd, sums)
}

#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
#[inline(always)]
fn layer_norm_rows_on<S: Simd>(
    simd: S,
    x: &[S::T],
    weight: &[S::T],
    bias: Option<&[S::T]>,
    eps: S::T,
    y: &mut [S::T],
    mean: &mut [S::T],
    rstd: &mut [S::T],
) {
    let cols = weight.len();
    let n = S::T::from_f64(cols as f64);
    let group = rows_per_group(cols);
    let groups = x.chunks(group * cols).zip(y.chunks_mut(group * cols));
    for ((x, y), (mean, rstd)) in groups.zip(mean.chunks_mut(group).zip(rstd.chunks_mut(group))) {
        for (x, mean) in x.chunks_exact(cols).zip(&mut *mean) {
            *mean = sum(simd, x) / n;
        }
        let mut squares = [S::T::ZERO; LANES];
        for ((x, mean), squares) in x.chunks_exact(cols).zip(&*mean).zip(&mut squares) {
            *squares = sum_of_squared_deviations(simd, x, *mean);
        }
        inverse_roots(simd, &squares, n, eps, rstd);
        let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
        for ((x, y), (&mean, &rstd)) in rows.zip(mean.iter().zip(&*rstd)) {
            let (mean, rstd) = (simd.splat(mean), simd.splat(rstd));
            match bias {
                Some(bias) => sweep!((x, weight, bias), (y) => {
                    let normed = simd.mul(simd.sub(simd.load_up_to(x), mean), rstd);
                    simd.store_up_to(y, simd.mul_add(normed, simd.load_up_to(weight), simd.load_up_to(bias)));
                }),
                None => sweep!((x, weight), (y) => {
                    let normed = simd.mul(simd.sub(simd.load_up_to(x), mean), rstd);
                    simd.store_up_to(y, simd.mul(normed, simd.load_up_to(weight)));
                }),
            }
        }
    }
}

#[inline(always)]
fn rms_norm_rows_on<S: Simd>(
    simd: S,
    x: &[S::T],
    weight: &[S::T],
    eps: S::T,
    y: &mut [S::T],
    rstd: &mut [S::T],
) {
    let cols = weight.len();
    let n = S::T::from_f64(cols as f64);
    let group = rows_per_group(cols);
    let groups = x.chunks(group * cols).zip(y.chunks_mut(group * cols)).zip(rstd.chunks_mut(group));
    for ((x, y), rstd) in groups {
        let mut squares = [S::T::ZERO; LANES];
        for (x, squares) in x.chunks_exact(cols).zip(&mut squares) {
            *squares = sum_of_squared_deviations(simd, x, S::T::ZERO);
        }
        inverse_roots(simd, &squares, n, eps, rstd);
        for ((x, y), &rstd) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)).zip(&*rstd) {
            let rstd = simd.splat(rstd);
            sweep!((x, weight), (y) => {
                let normed = simd.mul(simd.load_up_to(x), rstd);
                simd.store_up_to(y, simd.mul(normed, simd.load_up_to(weight)));
            });
        }
    }
}

/// `dweight` and `dbias` gather the sums over these rows.
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
#[inline(always)]
fn layer_norm_backward_rows_on<S: Simd>(
    simd: S,
    x: &[S::T],
    weight: &[S::T],
    mean: &[S::T],
    rstd: &[S::T],
    dy: &[S::T],
    mut dx: Option<&mut [S::T]>,
    add: bool,
    dweight: &mut [S::T],
    dbias: &mut [S::T],
) {
    let cols = weight.len();
    let n = S::T::from_f64(cols as f64);
    dweight.fill(S::T::ZERO);
    dbias.fill(S::T::ZERO);
    let group = rows_per_group(2 * cols);
    for (i, (x, dy)) in x.chunks(group * cols).zip(dy.chunks(group * cols)).enumerate() {
        let first = i * group;
        let (mean, rstd) = (&mean[first..], &rstd[first..]);
        let (mut mean_g, mut mean_gx) = ([S::T::ZERO; LANES], [S::T::ZERO; LANES]);
        for (row, (x, dy)) in x.chunks_exact(cols).zip(dy.chunks_exact(cols)).enumerate() {
            let (mean, rstd) = (simd.splat(mean[row]), simd.splat(rstd[row]));
            let (mut sum_g, mut sum_gx) = (simd.zero(), simd.zero());
            let (dweight, dbias) = (&mut *dweight, &mut *dbias);
            sweep!((x, dy, weight), (dweight, dbias) => {
                let normed = simd.mul(simd.sub(simd.load_up_to(x), mean), rstd);
                let dy = simd.load_up_to(dy);
                let g = simd.mul(dy, simd.load_up_to(weight));
                sum_g = simd.add(sum_g, g);
                sum_gx = simd.mul_add(g, normed, sum_gx);
                put(simd, dbias, dy, true);
                simd.store_up_to(dweight, simd.mul_add(dy, normed, simd.load_up_to(dweight)));
            });
            mean_g[row] = simd.sum_lanes(sum_g) / n;
            mean_gx[row] = simd.sum_lanes(sum_gx) / n;
        }
        let Some(dx) = dx.as_deref_mut() else { continue };
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols));
        for (row, ((x, dy), dx)) in rows.zip(dx[first * cols..].chunks_exact_mut(cols)).enumerate() {
            let (mean, rstd) = (simd.splat(mean[row]), simd.splat(rstd[row]));
            let (mean_g, mean_gx) = (simd.splat(mean_g[row]), simd.splat(mean_gx[row]));
            sweep!((x, dy, weight), (dx) => {
                let normed = simd.mul(simd.sub(simd.load_up_to(x), mean), rstd);
                let g = simd.mul(simd.load_up_to(dy), simd.load_up_to(weight));
                let d = simd.neg_mul_add(normed, mean_gx, simd.sub(g, mean_g));
                put(simd, dx, simd.mul(rstd, d), add);
            });
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
#[inline(always)]
fn rms_norm_backward_rows_on<S: Simd>(
    simd: S,
    x: &[S::T],
    weight: &[S::T],
    rstd: &[S::T],
    dy: &[S::T],
    mut dx: Option<&mut [S::T]>,
    add: bool,
    dweight: &mut [S::T],
) {
    let cols = weight.len();
    let n = S::T::from_f64(cols as f64);
    dweight.fill(S::T::ZERO);
    let group = rows_per_group(2 * cols);
    for (i, (x, dy)) in x.chunks(group * cols).zip(dy.chunks(group * cols)).enumerate() {
        let first = i * group;
        let rstd = &rstd[first..];
        let mut mean_gx = [S::T::ZERO; LANES];
        for (row, (x, dy)) in x.chunks_exact(cols).zip(dy.chunks_exact(cols)).enumerate() {
            let (rstd, mut sum_gx) = (simd.splat(rstd[row]), simd.zero());
            let dweight = &mut *dweight;
            sweep!((x, dy, weight), (dweight) => {
                let normed = simd.mul(simd.load_up_to(x), rstd);
                let dy = simd.load_up_to(dy);
                sum_gx = simd.mul_add(simd.mul(dy, simd.load_up_to(weight)), normed, sum_gx);
                simd.store_up_to(dweight, simd.mul_add(dy, normed, simd.load_up_to(dweight)));
            });
            mean_gx[row] = simd.sum_lanes(sum_gx) / n;
        }
        let Some(dx) = dx.as_deref_mut() else { continue };
        let rows = x.chunks_exact(cols).zip(dy.chunks_exact(cols));
        for (row, ((x, dy), dx)) in rows.zip(dx[first * cols..].chunks_exact_mut(cols)).enumerate() {
            let (rstd, mean_gx) = (simd.splat(rstd[row]), simd.splat(mean_gx[row]));
            sweep!((x, dy, weight), (dx) => {
                let normed = simd.mul(simd.load_up_to(x), rstd);
                let g = simd.mul(simd.load_up_to(dy), simd.load_up_to(weight));
                put(simd, dx, simd.mul(rstd, simd.neg_mul_add(normed, mean_gx, g)), add);
            });
        }
    }
}

struct Backward<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    /// `None` for RMS norm.
    mean: Option<&'a [T]>,
    rstd: &'a [T],
    dy: &'a [T],
    dx: Option<&'a mut [T]>,
    /// Whether dx is added to.
    add: bool,
    /// A line for each piece: its sums for dweight, and for dbias if `sums` is 2.
    partial: &'a mut [T],
    sums: usize,
}

impl<T: Real> Job for Backward<'_, T> {
    type Output = ();

    fn pieces(&self) -> usize {
        self.rstd.len().div_ceil(ROWS)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let (rows, cols) = (pieces * ROWS, self.weight.len());
        let (x, x_b) = self.x.split_at(rows * cols);
        let (mean, mean_b) = self.mean.map(|mean| mean.split_at(rows)).unzip();
        let (rstd, rstd_b) = self.rstd.split_at(rows);
        let (dy, dy_b) = self.dy.split_at(rows * cols);
        let (dx, dx_b) = self.dx.map(|dx| dx.split_at_mut(rows * cols)).unzip();
        let (partial, partial_b) = self.partial.split_at_mut(pieces * self.sums * cols);
        (
            Backward { x, mean, rstd, dy, dx, partial, ..self },
            Backward { x: x_b, mean: mean_b, rstd: rstd_b, dy: dy_b, dx: dx_b, partial: partial_b, ..self },
        )
    }
    fn run(self) {
        let Backward { x, weight, mean, rstd, dy, dx, add, partial, .. } = self;
        if rstd.is_empty() {
            return;
        }
        let (dweight, dbias) = partial.split_at_mut(weight.len());
        match mean {
            Some(mean) => layer_norm_backward_rows(x, weight, mean, rstd, dy, dx, add, dweight, dbias),
            None => rms_norm_backward_rows(x, weight, rstd, dy, dx, add, dweight),
        }
    }
    fn combine((): (), (): ()) {}
}

/// Column sums by ranges of columns: every range runs down all rows, in the same groups.
struct ColumnSums<'a, T> {
    x: &'a [T],
    cols: usize,
    /// The column that `out` begins with.
    start: usize,
    out: &'a mut [T],
    add: bool,
}

/// Columns in a piece: a kilobyte of every row, so that the memory is read in stretches.
const COLUMNS: usize = 4 * TILE;

impl<T: Real> Job for ColumnSums<'_, T> {
    type Output = ();

    fn pieces(&self) -> usize {
        self.out.len().div_ceil(COLUMNS)
    }
    fn split(self, pieces: usize) -> (Self, Self) {
        let (a, b) = self.out.split_at_mut(pieces * COLUMNS);
        let start = self.start + a.len();
        (ColumnSums { out: a, ..self }, ColumnSums { out: b, start, ..self })
    }
    fn run(self) {
        let ColumnSums { x, cols, start, out, add } = self;
        sum_columns(x, cols, start, out, add);
    }
    fn combine((): (), (): ()) {}
}

#[inline(always)]
fn sum_columns_on<S: Simd>(simd: S, x: &[S::T], cols: usize, start: usize, out: &mut [S::T], add: bool) {
    if !add {
        out.fill(S::T::ZERO);
    }
    for rows in x.chunks(ROWS * cols.max(1)) {
        for (i, out) in out.chunks_mut(TILE).enumerate() {
            let column = start + i * TILE;
            let mut sums = [simd.zero(); 4];
            if out.len() == TILE {
                for row in rows.chunks_exact(cols) {
                    let row: &[S::T; TILE] = row[column..].first_chunk().expect("a tile of columns");
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.add(*sum, simd.load(&row[i * LANES..]));
                    }
                }
            } else {
                for row in rows.chunks_exact(cols) {
                    let row = &row[column..column + out.len()];
                    for (x, sum) in row.chunks(LANES).zip(&mut sums) {
                        *sum = simd.add(*sum, simd.load_up_to(x));
                    }
                }
            }
            for (out, sum) in out.chunks_mut(LANES).zip(sums) {
                put(simd, out, sum, true);
            }
        }
    }
}
