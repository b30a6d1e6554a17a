//! Picking elements by number, joining arrays, and the adjoints of both.

use std::ops::Range;

use super::elementwise::copy_range;
use super::layout::{Layout, fit, resized};
use super::walk::Walk;
use crate::kernels::Grad;
use crate::real::Real;
use crate::shape::{Shape, ShapeError};
use crate::view::View;

/// Every id is below `bound`.
pub fn check_ids(op: &str, ids: &[u32], bound: usize) -> Result<(), ShapeError> {
    match ids.iter().position(|&id| id as usize >= bound) {
        None => Ok(()),
        Some(i) => {
            Err(ShapeError(format!("{op}: id {} at position {i} is out of range: {bound} entries", ids[i])))
        }
    }
}

/// The array as (outer, along the axis, inner).
fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Entries `ids` along `axis`, in that order: the shape of `x` with as many entries along `axis` as there are ids.
///
/// # Panics
/// If there is no such axis, an id is out of range, or `out` has another size.
#[track_caller]
pub fn index_select<T: Real>(x: View<'_, T>, axis: usize, ids: &[u32], out: &mut [T]) {
    fit(Layout::axis("index_select", &x.shape, axis));
    fit(check_ids("index_select", ids, x.shape[axis]));
    let shape = resized(&x.shape, axis, ids.len());
    assert_eq!(out.len(), shape.elements(), "index_select: out does not hold {shape}");
    if out.is_empty() {
        return;
    }
    // One entry of every id for one outer index after another: the entries are the walk's inner part.
    let entry = resized(&x.shape, axis, 1);
    let walk = Walk::new(&entry, [&x.strides]);
    let (_, _, inner) = around(&x.shape, axis);
    for (outer, out) in out.chunks_mut(ids.len() * inner).enumerate() {
        for (&id, out) in ids.iter().zip(out.chunks_mut(inner)) {
            let data = &x.data[id as usize * x.strides[axis]..];
            copy_range(&walk, data, outer * inner..(outer + 1) * inner, out, false);
        }
    }
}

/// The adjoint of [`index_select`]: entry `i` of `dy` along `axis` is added to entry `ids[i]` of `dx`, in order of `i`.
///
/// `dx` holds `shape`; `dy` has as many entries along `axis` as there are ids.
///
/// # Panics
/// If the shapes do not fit or an id is out of range.
#[track_caller]
pub fn index_select_backward<T: Real>(
    dy: View<'_, T>,
    axis: usize,
    ids: &[u32],
    shape: Shape,
    dx: Grad<'_, T>,
) {
    const OP: &str = "index_select_backward";
    fit(Layout::axis(OP, &shape, axis));
    fit(check_ids(OP, ids, shape[axis]));
    assert_eq!(
        dy.shape,
        resized(&shape, axis, ids.len()),
        "{OP}: dy does not fit {} ids of {shape}",
        ids.len()
    );
    let dx = begin(OP, shape, dx);
    if dy.shape.elements() == 0 {
        return;
    }
    let (_, n, inner) = around(&shape, axis);
    let walk = Walk::new(&dy.shape, [&dy.strides]);
    for (outer, dx) in dx.chunks_mut(n * inner).enumerate() {
        for (i, &id) in ids.iter().enumerate() {
            let first = (outer * ids.len() + i) * inner;
            copy_range(&walk, dy.data, first..first + inner, &mut dx[id as usize * inner..][..inner], true);
        }
    }
}

/// `dx` with zeros where it is to be overwritten, checked against `shape`.
#[track_caller]
fn begin<'a, T: Real>(op: &str, shape: Shape, dx: Grad<'a, T>) -> &'a mut [T] {
    assert_eq!(dx.data.len(), shape.elements(), "{op}: dx does not hold {shape}");
    if !dx.add {
        dx.data.fill(T::ZERO);
    }
    dx.data
}

/// The shape of [`gather`]: that of `x` with size `n` along `axis`, where `ids` numbers fill it.
pub fn gather_shape(x: &Shape, axis: usize, ids: &[u32]) -> Result<Shape, ShapeError> {
    Layout::axis("gather", x, axis)?;
    let (outer, bound, inner) = around(x, axis);
    let columns = outer * inner;
    if columns == 0 || !ids.len().is_multiple_of(columns) {
        let message = format!("gather: {} ids do not fill {x} with another size of axis {axis}", ids.len());
        return Err(ShapeError(message));
    }
    check_ids("gather", ids, bound)?;
    Ok(resized(x, axis, ids.len() / columns))
}

/// y\[…, i, …\] = x\[…, ids\[…, i, …\], …\]: at each place, the entry along `axis` that the id there names.
///
/// `ids` lie row by row in the shape of `x` with any size along `axis` ([`gather_shape`]).
///
/// # Panics
/// If the shapes do not fit or an id is out of range.
#[track_caller]
pub fn gather<T: Real>(x: View<'_, T>, axis: usize, ids: &[u32], out: &mut [T]) {
    let shape = fit(gather_shape(&x.shape, axis, ids));
    assert_eq!(out.len(), shape.elements(), "gather: out does not hold {shape}");
    // A stride of 0 along the axis keeps the walk on entry 0; the id does the rest.
    let mut strides = x.strides;
    let along = std::mem::replace(&mut strides[axis], 0);
    let walk = Walk::new(&shape, [&strides]);
    let [stride] = walk.inner();
    let mut pairs = ids.iter().zip(out);
    for ([start], len) in walk.runs(0..ids.len()) {
        for (i, (&id, y)) in pairs.by_ref().take(len).enumerate() {
            *y = x.data[start + i * stride + id as usize * along];
        }
    }
}

/// The adjoint of [`gather`]: every element of `dy` is added where it came from, in row-major order of `dy`.
///
/// `dx` holds `shape`; `dy` has the shape of the gathered array.
///
/// # Panics
/// If the shapes do not fit or an id is out of range.
#[track_caller]
pub fn gather_backward<T: Real>(dy: View<'_, T>, axis: usize, ids: &[u32], shape: Shape, dx: Grad<'_, T>) {
    let expected = fit(gather_shape(&shape, axis, ids));
    assert_eq!(dy.shape, expected, "gather_backward: dy does not fit {} ids of {shape}", ids.len());
    let dx = begin("gather_backward", shape, dx);
    let mut strides = shape.contiguous_strides();
    let along = std::mem::replace(&mut strides[axis], 0);
    let walk = Walk::new(&dy.shape, [&strides, &dy.strides]);
    let [to, from] = walk.inner();
    let mut ids = ids.iter();
    for ([x, y], len) in walk.runs(0..dy.shape.elements()) {
        for (i, &id) in ids.by_ref().take(len).enumerate() {
            dx[x + i * to + id as usize * along] += dy.data[y + i * from];
        }
    }
}

/// The shape of pieces joined along `axis`: they agree in every other dimension.
pub fn concat_shape(pieces: &[Shape], axis: usize) -> Result<Shape, ShapeError> {
    let Some(first) = pieces.first() else {
        return Err(ShapeError("concat: no pieces".to_string()));
    };
    Layout::axis("concat", first, axis)?;
    let mut size = 0;
    for piece in pieces {
        if piece.rank() != first.rank() || resized(piece, axis, 0) != resized(first, axis, 0) {
            let message = format!("concat: {piece} differs from {first} in more than axis {axis}");
            return Err(ShapeError(message));
        }
        size += piece[axis];
    }
    Ok(resized(first, axis, size))
}

/// The pieces one after another along `axis`.
///
/// # Panics
/// If they differ in another dimension, or `out` has another size than [`concat_shape`].
#[track_caller]
pub fn concat<T: Real>(pieces: &[View<'_, T>], axis: usize, out: &mut [T]) {
    let shapes: Vec<Shape> = pieces.iter().map(|piece| piece.shape).collect();
    let shape = fit(concat_shape(&shapes, axis));
    assert_eq!(out.len(), shape.elements(), "concat: out does not hold {shape}");
    let (outer, n, inner) = around(&shape, axis);
    let mut first = 0;
    for piece in pieces {
        let len = piece.shape[axis] * inner;
        let walk = Walk::new(&piece.shape, [&piece.strides]);
        for i in 0..outer {
            copy_range(
                &walk,
                piece.data,
                i * len..(i + 1) * len,
                &mut out[i * n * inner + first..][..len],
                false,
            );
        }
        first += len;
    }
}

/// The adjoint of [`View::slice`]: `dy` goes to where indices along `axis` are in `range`, zero elsewhere.
///
/// `dx` holds `shape`, the shape before slicing.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn slice_backward<T: Real>(
    dy: View<'_, T>,
    axis: usize,
    range: Range<usize>,
    shape: Shape,
    dx: Grad<'_, T>,
) {
    let sliced = fit(Layout::contiguous(shape).slice(axis, range.clone())).shape;
    assert_eq!(dy.shape, sliced, "slice_backward: dy does not fit {range:?} along axis {axis} of {shape}");
    assert_eq!(dx.data.len(), shape.elements(), "slice_backward: dx does not hold {shape}");
    let (_, n, inner) = around(&shape, axis);
    if dx.data.is_empty() {
        return;
    }
    let walk = Walk::new(&dy.shape, [&dy.strides]);
    let len = range.len() * inner;
    for (outer, block) in dx.data.chunks_mut(n * inner).enumerate() {
        let (before, rest) = block.split_at_mut(range.start * inner);
        let (within, after) = rest.split_at_mut(len);
        copy_range(&walk, dy.data, outer * len..(outer + 1) * len, within, dx.add);
        if !dx.add {
            before.fill(T::ZERO);
            after.fill(T::ZERO);
        }
    }
}

/// One row of `classes` numbers for every id: 1 at the id, 0 elsewhere.
///
/// # Panics
/// If an id is not below `classes`, or `out` has another size.
#[track_caller]
pub fn one_hot<T: Real>(ids: &[u32], classes: usize, out: &mut [T]) {
    fit(check_ids("one_hot", ids, classes));
    assert_eq!(out.len(), ids.len() * classes, "one_hot: out does not hold [{}, {classes}]", ids.len());
    out.fill(T::ZERO);
    for (i, &id) in ids.iter().enumerate() {
        out[i * classes + id as usize] = T::ONE;
    }
}
