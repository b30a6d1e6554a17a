//! Copies, arithmetic with broadcasting, selection.

use std::ops::Range;

use super::split;
use super::walk::Walk;
use crate::dispatch;
use crate::kernels::{Grad, put};
use crate::real::Real;
use crate::shape::{Shape, ShapeError};
use crate::simd::{LANES, Simd};
use crate::strided::fit;
use crate::view::View;

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Binary {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// The larger; `b` where either is NaN.
    Max,
    /// The smaller; `b` where either is NaN.
    Min,
    /// 1 where a < b, else 0.
    Less,
    /// 1 where a = b, else 0.
    Equal,
}

impl Binary {
    /// Every function.
    pub const ALL: [Binary; 8] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Max,
        Binary::Min,
        Binary::Less,
        Binary::Equal,
    ];

    /// The name in error messages.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Max => "max",
            Binary::Min => "min",
            Binary::Less => "less",
            Binary::Equal => "equal",
        }
    }
}

/// The shape that `a` and `b` both broadcast to.
pub fn broadcast_shape(op: &str, a: &Shape, b: &Shape) -> Result<Shape, ShapeError> {
    a.broadcast(b).ok_or_else(|| ShapeError(format!("{op}: {a} and {b} do not broadcast to one shape")))
}

/// y = kind(a, b), elementwise, with broadcasting. `out` holds the elements of the broadcast shape row by row.
///
/// # Panics
/// If the shapes do not broadcast, or `out` has another size.
#[track_caller]
pub fn binary<T: Real>(kind: Binary, a: View<'_, T>, b: View<'_, T>, out: Grad<'_, T>) {
    // What lies alike needs no rule but this one: small arrays feel the difference.
    let alike = a.shape == b.shape && a.as_slice().is_some() && b.as_slice().is_some();
    let shape = if alike { a.shape } else { fit(broadcast_shape(kind.name(), &a.shape, &b.shape)) };
    assert_eq!(out.data.len(), shape.elements(), "{}: out does not hold {shape}", kind.name());
    let walk = if alike {
        Walk::flat(out.data.len())
    } else {
        Walk::new(&shape, [&a.broadcast_to(shape).strides, &b.broadcast_to(shape).strides])
    };
    split(out.data, 1, |range, y| binary_range(kind, &walk, a.data, b.data, range, y, out.add));
}

dispatch! {
    fn binary_range<T>(
        kind: Binary, walk: &Walk<2>, a: &[T], b: &[T], range: Range<usize>, y: &mut [T], add: bool,
    ) = binary_range_on
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn binary_range_on<S: Simd>(
    simd: S,
    kind: Binary,
    walk: &Walk<2>,
    a: &[S::T],
    b: &[S::T],
    range: Range<usize>,
    y: &mut [S::T],
    add: bool,
) {
    let (zero, one) = (simd.zero(), simd.splat(S::T::ONE));
    // One loop per function.
    macro_rules! with {
        ($f:expr) => {
            each_pair(simd, walk, a, b, range, y, add, $f)
        };
    }
    match kind {
        Binary::Add => with!(|a, b| simd.add(a, b)),
        Binary::Sub => with!(|a, b| simd.sub(a, b)),
        Binary::Mul => with!(|a, b| simd.mul(a, b)),
        Binary::Div => with!(|a, b| simd.div(a, b)),
        Binary::Max => with!(|a, b| simd.max(a, b)),
        Binary::Min => with!(|a, b| simd.min(a, b)),
        Binary::Less => with!(|a, b| simd.select(simd.lt(a, b), one, zero)),
        Binary::Equal => with!(|a, b| {
            let not_greater = simd.select(simd.lt(b, a), zero, one);
            let equal_or_nan = simd.select(simd.lt(a, b), zero, not_greater);
            simd.select(simd.is_nan(a), zero, simd.select(simd.is_nan(b), zero, equal_or_nan))
        }),
    }
}

/// Writes or adds `f` of each vector of the two.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a kernel takes slices and sizes")]
fn each_pair<S: Simd>(
    simd: S,
    walk: &Walk<2>,
    a: &[S::T],
    b: &[S::T],
    range: Range<usize>,
    mut y: &mut [S::T],
    add: bool,
    f: impl Fn(S::V, S::V) -> S::V,
) {
    let strides = walk.inner();
    for ([i, j], len) in walk.runs(range) {
        let (row, rest) = y.split_at_mut(len);
        y = rest;
        if strides == [1, 1] {
            let (a, b) = (&a[i..i + len], &b[j..j + len]);
            for ((a, b), y) in a.chunks(LANES).zip(b.chunks(LANES)).zip(row.chunks_mut(LANES)) {
                let v = f(simd.load_up_to(a), simd.load_up_to(b));
                put(simd, y, v, add);
            }
        } else {
            for (block, y) in row.chunks_mut(LANES).enumerate() {
                let first = block * LANES;
                let va = lanes(simd, &a[i + first * strides[0]..], strides[0], y.len());
                let vb = lanes(simd, &b[j + first * strides[1]..], strides[1], y.len());
                put(simd, y, f(va, vb), add);
            }
        }
    }
}

/// The first `len` ≤ 16 elements `stride` apart.
#[inline(always)]
pub(super) fn lanes<S: Simd>(simd: S, x: &[S::T], stride: usize, len: usize) -> S::V {
    match stride {
        0 => simd.splat(x[0]),
        1 => simd.load_up_to(&x[..len]),
        _ => simd.from_array(lanes_apart(x, stride, len)),
    }
}

/// [`lanes`] that lie apart. By call: written out at each use, this would be most of the code of a kernel.
#[inline(never)]
fn lanes_apart<T: Real>(x: &[T], stride: usize, len: usize) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    for (lane, x) in lanes.iter_mut().zip(x.iter().step_by(stride)).take(len) {
        *lane = *x;
    }
    lanes
}

/// Copies the elements of `x` row by row into `out`, or adds them.
///
/// # Panics
/// If `out` has another size.
#[track_caller]
pub fn copy<T: Real>(x: View<'_, T>, out: Grad<'_, T>) {
    assert_eq!(out.data.len(), x.shape.elements(), "copy: out does not hold {}", x.shape);
    let walk = Walk::new(&x.shape, [&x.strides]);
    split(out.data, 1, |range, y| copy_range(&walk, x.data, range, y, out.add));
}

/// Copies the elements of `x` row by row into `out`.
///
/// # Panics
/// If `out` has another size.
#[track_caller]
pub fn copy_into<T: Real>(x: View<'_, T>, out: &mut [T]) {
    copy(x, Grad { data: out, add: false });
}

dispatch! {
    pub(super) fn copy_range<T>(walk: &Walk<1>, x: &[T], range: Range<usize>, y: &mut [T], add: bool) = copy_range_on
}

#[inline(always)]
fn copy_range_on<S: Simd>(
    simd: S,
    walk: &Walk<1>,
    x: &[S::T],
    range: Range<usize>,
    mut y: &mut [S::T],
    add: bool,
) {
    let [stride] = walk.inner();
    for ([i], len) in walk.runs(range) {
        let (row, rest) = y.split_at_mut(len);
        y = rest;
        match (stride, add) {
            (1, false) => row.copy_from_slice(&x[i..i + len]),
            (0, false) => row.fill(x[i]),
            (_, false) => row.iter_mut().zip(x[i..].iter().step_by(stride)).for_each(|(y, x)| *y = *x),
            (_, true) => {
                for (block, y) in row.chunks_mut(LANES).enumerate() {
                    put(simd, y, lanes(simd, &x[i + block * LANES * stride..], stride, y.len()), true);
                }
            }
        }
    }
}

/// y = a where `mask` is not zero, else b; all three broadcast to one shape.
///
/// # Panics
/// If the shapes do not broadcast, or `out` has another size.
#[track_caller]
pub fn select<T: Real>(mask: View<'_, T>, a: View<'_, T>, b: View<'_, T>, out: Grad<'_, T>) {
    let shape = fit(broadcast_shape("select", &a.shape, &b.shape));
    let shape = fit(broadcast_shape("select", &mask.shape, &shape));
    assert_eq!(out.data.len(), shape.elements(), "select: out does not hold {shape}");
    let [mask, a, b] = [mask, a, b].map(|x| x.broadcast_to(shape));
    let walk = Walk::new(&shape, [&mask.strides, &a.strides, &b.strides]);
    split(out.data, 1, |range, y| select_range(&walk, [mask.data, a.data, b.data], range, y, out.add));
}

dispatch! {
    fn select_range<T>(walk: &Walk<3>, xs: [&[T]; 3], range: Range<usize>, y: &mut [T], add: bool) = select_range_on
}

#[inline(always)]
fn select_range_on<S: Simd>(
    simd: S,
    walk: &Walk<3>,
    xs: [&[S::T]; 3],
    range: Range<usize>,
    mut y: &mut [S::T],
    add: bool,
) {
    let strides = walk.inner();
    for (starts, len) in walk.runs(range) {
        let (row, rest) = y.split_at_mut(len);
        y = rest;
        for (block, y) in row.chunks_mut(LANES).enumerate() {
            let at = |i: usize| &xs[i][starts[i] + block * LANES * strides[i]..];
            let mask = lanes(simd, at(0), strides[0], y.len());
            let a = lanes(simd, at(1), strides[1], y.len());
            let b = lanes(simd, at(2), strides[2], y.len());
            // |mask| > 0 is true for every number but ±0; a NaN mask is not zero either.
            let v =
                simd.select(simd.lt(simd.zero(), simd.abs(mask)), a, simd.select(simd.is_nan(mask), a, b));
            put(simd, y, v, add);
        }
    }
}
