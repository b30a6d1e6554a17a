//! Reductions over any set of axes.

use super::elementwise::{Binary, binary, lanes};
use super::layout::{Layout, fit};
use super::split;
use super::walk::Walk;
use crate::buffer::with_scratch;
use crate::dispatch;
use crate::kernels::{Grad, put};
use crate::real::Real;
use crate::shape::{MAX_RANK, Shape, ShapeError};
use crate::simd::{LANES, Simd};
use crate::view::View;

/// Columns that a sum over rows keeps in registers: 4 vectors hide the latency of an addition.
const TILE: usize = 4 * LANES;

/// The shape left after reducing `axes`: without them, or with size 1 in their place if `keepdim`.
pub fn reduced_shape(op: &str, shape: &Shape, axes: &[usize], keepdim: bool) -> Result<Shape, ShapeError> {
    for (i, &axis) in axes.iter().enumerate() {
        Layout::axis(op, shape, axis)?;
        if axes[..i].contains(&axis) {
            return Err(ShapeError(format!("{op}: axis {axis} of {shape} is named twice")));
        }
    }
    let (mut sizes, mut rank) = ([0; MAX_RANK], 0);
    for axis in 0..shape.rank() {
        let reduced = axes.contains(&axis);
        if !reduced || keepdim {
            sizes[rank] = if reduced { 1 } else { shape[axis] };
            rank += 1;
        }
    }
    Ok(Shape::new(&sizes[..rank]))
}

/// [`reduced_shape`] of [`max`], which needs elements to choose from.
pub fn max_shape(shape: &Shape, axes: &[usize]) -> Result<Shape, ShapeError> {
    let reduced = reduced_shape("max", shape, axes, false)?;
    if count(shape, axes) == 0 && reduced.elements() > 0 {
        return Err(ShapeError(format!("max: axes {axes:?} of {shape} hold no elements")));
    }
    Ok(reduced)
}

/// How many elements make one of the result.
fn count(shape: &Shape, axes: &[usize]) -> usize {
    axes.iter().map(|&axis| shape[axis]).product()
}

/// Sums over `axes`; `out` holds what is left, row by row ([`reduced_shape`]).
///
/// The order is fixed. If the last dimension (of size other than 1) is among `axes`, element `i` of it is added to lane
/// `i mod 16`, for one combination of the other summed indices after another, and the lanes by the tree of
/// [`Simd::sum_lanes`]. Otherwise each result is one chain over the summed indices in row-major order.
///
/// # Panics
/// If there is no such axis, one is named twice, or `out` has another size.
#[track_caller]
pub fn sum<T: Real>(x: View<'_, T>, axes: &[usize], out: Grad<'_, T>) {
    let shape = fit(reduced_shape("sum", &x.shape, axes, false));
    reduce(Kind::Sum, "sum", x, axes, shape, out);
}

/// Means over `axes`, summed as by [`sum`]; NaN over no elements.
///
/// # Panics
/// As [`sum`].
#[track_caller]
pub fn mean<T: Real>(x: View<'_, T>, axes: &[usize], out: &mut [T]) {
    let shape = fit(reduced_shape("mean", &x.shape, axes, false));
    reduce(Kind::Sum, "mean", x, axes, shape, Grad { data: out, add: false });
    let n = T::from_f64(count(&x.shape, axes) as f64);
    out.iter_mut().for_each(|y| *y /= n);
}

/// The largest elements over `axes`; NaN where there is one.
///
/// # Panics
/// As [`sum`], and if there are no elements to choose from.
#[track_caller]
pub fn max<T: Real>(x: View<'_, T>, axes: &[usize], out: &mut [T]) {
    let shape = fit(reduced_shape("max", &x.shape, axes, false));
    assert!(
        count(&x.shape, axes) > 0 || out.is_empty(),
        "max: axes {axes:?} of {} hold no elements",
        x.shape
    );
    reduce(Kind::Max, "max", x, axes, shape, Grad { data: out, add: false });
}

/// The variances Σ (x − μ)² / (n − `correction`) over `axes`, summed as by [`sum`] after the mean is known.
///
/// A `correction` of 0 gives the variance of the elements themselves, 1 the unbiased estimate for what they were drawn
/// from.
///
/// # Panics
/// As [`sum`].
#[track_caller]
pub fn variance<T: Real>(x: View<'_, T>, axes: &[usize], correction: f64, out: &mut [T]) {
    let kept = fit(reduced_shape("variance", &x.shape, axes, true));
    let divisor = T::from_f64((count(&x.shape, axes) as f64 - correction).max(0.0));
    mean(x, axes, out);
    with_scratch(x.shape.elements(), |squares| {
        let means = View::new(out, kept);
        binary(Binary::Sub, x, means, Grad { data: squares, add: false });
        squares.iter_mut().for_each(|y| *y = *y * *y);
        sum(View::new(squares, x.shape), axes, Grad { data: out, add: false });
    });
    out.iter_mut().for_each(|y| *y /= divisor);
}

/// Sums what broadcasting to the shape of `x` has repeated: `out` holds `shape`, which stretches to that of `x`.
///
/// The adjoint of [`View::broadcast_to`]. The order is that of [`sum`].
///
/// # Panics
/// If `shape` does not stretch to that of `x`, or `out` has another size.
#[track_caller]
pub fn sum_to<T: Real>(x: View<'_, T>, shape: Shape, out: Grad<'_, T>) {
    let stretches = shape.broadcast(&x.shape) == Some(x.shape);
    assert!(stretches, "sum_to: {shape} does not stretch to {}", x.shape);
    let missing = x.shape.rank() - shape.rank();
    let (mut axes, mut n) = ([0; MAX_RANK], 0);
    for axis in 0..x.shape.rank() {
        if axis < missing || shape[axis - missing] != x.shape[axis] {
            axes[n] = axis;
            n += 1;
        }
    }
    reduce(Kind::Sum, "sum_to", x, &axes[..n], shape, out);
}

/// What becomes of the elements.
#[derive(Clone, Copy)]
enum Kind {
    Sum,
    Max,
}

/// Reduces `axes`; `shape` is that of `out`, for the message.
#[track_caller]
fn reduce<T: Real>(kind: Kind, op: &str, x: View<'_, T>, axes: &[usize], shape: Shape, out: Grad<'_, T>) {
    assert_eq!(out.data.len(), shape.elements(), "{op}: out does not hold {shape}");
    let dims = |reduced: bool| {
        let axes = (0..x.shape.rank()).filter(move |axis| axes.contains(axis) == reduced);
        axes.map(|axis| (x.shape[axis], [x.strides[axis]]))
    };
    let cost = count(&x.shape, axes);
    let last = (0..x.shape.rank()).rev().find(|&axis| x.shape[axis] != 1);
    if last.is_none_or(|axis| axes.contains(&axis)) {
        let (kept, reduced) = (Walk::of_dims(dims(false), true), Walk::of_dims(dims(true), false));
        split(out.data, cost, |range, y| {
            let first = range.start;
            reduce_rows(kind, &kept, &reduced, x.data, first, y, out.add);
        });
    } else {
        // The last kept dimension stays whole: rows of it are what is added.
        let (kept, reduced) = (Walk::of_dims(dims(false), false), Walk::of_dims(dims(true), true));
        let tile = Grad { data: out.data, add: out.add };
        reduce_columns(kind, &kept, &reduced, x.data, tile);
    }
}

dispatch! {
    /// `y` holds the results from number `first` on.
    fn reduce_rows<T>(
        kind: Kind, kept: &Walk<1>, reduced: &Walk<1>, x: &[T], first: usize, y: &mut [T], add: bool,
    ) = reduce_rows_on
    fn reduce_columns<T>(kind: Kind, kept: &Walk<1>, reduced: &Walk<1>, x: &[T], out: Grad<'_, T>) = reduce_columns_on
}

/// The reduction's function, lane by lane.
#[inline(always)]
fn combine<S: Simd, const SUM: bool>(simd: S, acc: S::V, x: S::V) -> S::V {
    if SUM {
        simd.add(acc, x)
    } else {
        // A NaN in `x` is chosen, and one in `acc` stays because the comparison with it is false.
        simd.select(simd.is_nan(x), x, simd.max(x, acc))
    }
}

#[inline(always)]
fn neutral<S: Simd, const SUM: bool>(simd: S) -> S::V {
    if SUM { simd.zero() } else { simd.splat(S::T::NEG_INFINITY) }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn reduce_rows_on<S: Simd>(
    simd: S,
    kind: Kind,
    kept: &Walk<1>,
    reduced: &Walk<1>,
    x: &[S::T],
    first: usize,
    y: &mut [S::T],
    add: bool,
) {
    match kind {
        Kind::Sum => reduce_rows_by::<S, true>(simd, kept, reduced, x, first, y, add),
        Kind::Max => reduce_rows_by::<S, false>(simd, kept, reduced, x, first, y, add),
    }
}

/// The sum, or else the maximum.
#[inline(always)]
fn reduce_rows_by<S: Simd, const SUM: bool>(
    simd: S,
    kept: &Walk<1>,
    reduced: &Walk<1>,
    x: &[S::T],
    first: usize,
    mut y: &mut [S::T],
    add: bool,
) {
    let ([between], [stride]) = (kept.inner(), reduced.inner());
    for ([start], len) in kept.runs(first..first + y.len()) {
        let (row, rest) = std::mem::take(&mut y).split_at_mut(len);
        y = rest;
        for (i, y) in row.iter_mut().enumerate() {
            let mut acc = neutral::<S, SUM>(simd);
            for ([offset], len) in reduced.runs(0..reduced.elements()) {
                let x = &x[start + i * between + offset..];
                // Whole vectors that lie one after another come first; the rest is gathered and filled up.
                let whole = if stride == 1 { len / LANES * LANES } else { 0 };
                for x in x[..whole].chunks_exact(LANES) {
                    acc = combine::<S, SUM>(simd, acc, simd.load(x));
                }
                for block in (whole..len).step_by(LANES) {
                    let n = (len - block).min(LANES);
                    let mut v = lanes(simd, &x[block * stride..], stride, n);
                    if n < LANES {
                        v = pad::<S, SUM>(simd, v, n);
                    }
                    acc = combine::<S, SUM>(simd, acc, v);
                }
            }
            let total = if SUM { simd.sum_lanes(acc) } else { largest(&simd.array(acc)) };
            *y = if add { *y + total } else { total };
        }
    }
}

/// `v` with lanes from `n` on neutral.
#[inline(always)]
fn pad<S: Simd, const SUM: bool>(simd: S, v: S::V, n: usize) -> S::V {
    let mut x = simd.array(v);
    x[n..].fill(if SUM { S::T::ZERO } else { S::T::NEG_INFINITY });
    simd.from_array(x)
}

/// The largest, or the first NaN.
#[inline(always)]
#[expect(clippy::eq_op, reason = "a NaN is what differs from itself")]
fn largest<T: Real>(x: &[T]) -> T {
    x.iter().fold(
        T::NEG_INFINITY,
        |largest, &x| if x > largest || (x != x && largest == largest) { x } else { largest },
    )
}

#[inline(always)]
fn reduce_columns_on<S: Simd>(
    simd: S,
    kind: Kind,
    kept: &Walk<1>,
    reduced: &Walk<1>,
    x: &[S::T],
    out: Grad<'_, S::T>,
) {
    match kind {
        Kind::Sum => reduce_columns_by::<S, true>(simd, kept, reduced, x, out),
        Kind::Max => reduce_columns_by::<S, false>(simd, kept, reduced, x, out),
    }
}

/// The sum, or else the maximum.
#[inline(always)]
fn reduce_columns_by<S: Simd, const SUM: bool>(
    simd: S,
    kept: &Walk<1>,
    reduced: &Walk<1>,
    x: &[S::T],
    out: Grad<'_, S::T>,
) {
    let Grad { data: mut y, add } = out;
    let ([between], [stride]) = (kept.inner(), reduced.inner());
    for ([start], len) in kept.runs(0..y.len()) {
        let (row, rest) = std::mem::take(&mut y).split_at_mut(len);
        y = rest;
        for (tile, y) in row.chunks_mut(TILE).enumerate() {
            let start = start + tile * TILE * between;
            let mut acc = [neutral::<S, SUM>(simd); TILE / LANES];
            for ([offset], len) in reduced.runs(0..reduced.elements()) {
                for i in 0..len {
                    let x = &x[start + offset + i * stride..];
                    if y.len() == TILE && between == 1 {
                        for (acc, x) in acc.iter_mut().zip(x[..TILE].chunks_exact(LANES)) {
                            *acc = combine::<S, SUM>(simd, *acc, simd.load(x));
                        }
                    } else {
                        for (block, acc) in acc.iter_mut().enumerate().take(y.len().div_ceil(LANES)) {
                            let n = (y.len() - block * LANES).min(LANES);
                            let v = lanes(simd, &x[block * LANES * between..], between, n);
                            *acc = combine::<S, SUM>(simd, *acc, v);
                        }
                    }
                }
            }
            for (y, acc) in y.chunks_mut(LANES).zip(acc) {
                put(simd, y, acc, add);
            }
        }
    }
}

/// The index along `axis` of the largest element, the first of several; a NaN counts as larger than any number.
///
/// `out` holds the shape without `axis`, row by row.
///
/// # Panics
/// If there is no such axis, it has no elements, or `out` has another size.
#[track_caller]
pub fn argmax<T: Real>(x: View<'_, T>, axis: usize, out: &mut [u32]) {
    let shape = fit(reduced_shape("argmax", &x.shape, &[axis], false));
    assert_eq!(out.len(), shape.elements(), "argmax: out does not hold {shape}");
    assert!(x.shape[axis] > 0 || out.is_empty(), "argmax: axis {axis} of {} holds no elements", x.shape);
    let kept = (0..x.shape.rank()).filter(|&other| other != axis);
    let walk = Walk::of_dims(kept.map(|axis| (x.shape[axis], [x.strides[axis]])), true);
    let [between] = walk.inner();
    let mut out = out.iter_mut();
    for ([start], len) in walk.runs(0..shape.elements()) {
        for i in 0..len {
            let along = |j: usize| x.data[start + i * between + j * x.strides[axis]];
            let mut best = 0;
            for j in 1..x.shape[axis] {
                if is_above(along(j), along(best)) {
                    best = j;
                }
            }
            *out.next().expect("one result for each kept element") = best as u32;
        }
    }
}

/// a > b, with NaN above every number.
#[expect(clippy::eq_op, reason = "a NaN is what differs from itself")]
fn is_above<T: Real>(a: T, b: T) -> bool {
    a > b || (a != a && b == b)
}
