//! Matrix products of views, batched over leading dimensions that broadcast.

use crate::kernels::gemm::{self, Epilogue, Mat, MatMut};
use crate::real::Real;
use crate::shape::{MAX_RANK, Shape, ShapeError};
use crate::view::View;

use super::fit;

/// The shape of a · b: (…, m, k) · (…, k, n) gives (…, m, n), where the leading dimensions broadcast.
///
/// A vector on the left is a row and a vector on the right a column, whose dimension the result lacks: (k) · (k) is a
/// scalar.
pub fn matmul_shape(a: &Shape, b: &Shape) -> Result<Shape, ShapeError> {
    let refuse = |why: String| Err(ShapeError(format!("matmul: {why}")));
    if a.rank() == 0 || b.rank() == 0 {
        return refuse(format!("a scalar has no inner dimension: {a} · {b}"));
    }
    let (inner_a, inner_b) = (a.last(), b[b.rank().saturating_sub(2)]);
    if inner_a != inner_b {
        return refuse(format!("inner dimensions differ: {a} · {b} ({inner_a} vs {inner_b})"));
    }
    let Some(batch) = leading(a).broadcast(&leading(b)) else {
        return refuse(format!("batch dimensions do not broadcast: {a} · {b}"));
    };
    let (mut sizes, mut rank) = ([0; MAX_RANK], batch.rank());
    sizes[..rank].copy_from_slice(&batch);
    let rows = (a.rank() > 1).then(|| a[a.rank() - 2]);
    let cols = (b.rank() > 1).then(|| b.last());
    for size in rows.into_iter().chain(cols) {
        sizes[rank] = size;
        rank += 1;
    }
    Ok(Shape::new(&sizes[..rank]))
}

/// The dimensions before the matrix.
fn leading(shape: &Shape) -> Shape {
    Shape::new(&shape[..shape.rank().saturating_sub(2)])
}

/// The matrix product of views of any layout; `out` holds the shape that [`matmul_shape`] gives, row by row.
///
/// # Panics
/// If the shapes do not fit, or `out` has another size.
#[track_caller]
pub fn matmul<T: Real>(a: View<'_, T>, b: View<'_, T>, out: &mut [T]) {
    let shape = fit(matmul_shape(&a.shape, &b.shape));
    assert_eq!(out.len(), shape.elements(), "matmul: out does not hold {shape}");
    let a = if a.shape.rank() == 1 { a.unsqueeze(0) } else { a };
    let b = if b.shape.rank() == 1 { b.unsqueeze(1) } else { b };
    // One matrix on the right takes all rows on the left at once, if they lie row by row.
    if let (2, true, Some(rows)) = (b.shape.rank(), a.shape.rank() > 2, a.as_slice()) {
        let a = View::new(rows, [a.shape.rows(), a.shape.last()].into());
        return product(a, b, out);
    }
    let matrix = |x: &View<'_, T>| [x.shape[x.shape.rank() - 2], x.shape.last()];
    let batch = leading(&a.shape).broadcast(&leading(&b.shape)).expect("checked by matmul_shape");
    let len = matrix(&a)[0] * matrix(&b)[1];
    if len == 0 || batch.elements() == 0 {
        return;
    }
    if batch.rank() == 0 {
        return product(a, b, out);
    }
    let stretched = |x: View<'_, T>| x.strides_over(&batch);
    let (strides_a, strides_b) = (stretched(a), stretched(b));
    for (i, out) in out.chunks_exact_mut(len).enumerate() {
        // Matrix number i of the batch, its index taken apart from the last dimension on.
        let (mut at_a, mut at_b, mut rest) = (0, 0, i);
        for axis in (0..batch.rank()).rev() {
            let index = rest % batch[axis];
            rest /= batch[axis];
            at_a += index * strides_a[axis];
            at_b += index * strides_b[axis];
        }
        product(a.matrix_at(at_a), b.matrix_at(at_b), out);
    }
}

impl<'a, T: Real> View<'a, T> {
    /// The strides of the leading dimensions once they are broadcast to `batch`.
    fn strides_over(&self, batch: &Shape) -> [usize; MAX_RANK] {
        let own = self.shape.rank() - 2;
        let mut strides = [0; MAX_RANK];
        for axis in 0..own {
            let to = batch.rank() - own + axis;
            strides[to] = if self.shape[axis] == 1 { 0 } else { self.strides[axis] };
        }
        strides
    }

    /// The matrix of the last two dimensions that begins `at` elements in.
    fn matrix_at(&self, at: usize) -> Self {
        let rank = self.shape.rank();
        let mut strides = [0; MAX_RANK];
        strides[..2].copy_from_slice(&self.strides[rank - 2..rank]);
        View {
            data: &self.data[at.min(self.data.len())..],
            shape: Shape::new(&self.shape[rank - 2..]),
            strides,
        }
    }
}

/// One product of matrices.
fn product<'a, T: Real>(a: View<'a, T>, b: View<'a, T>, out: &mut [T]) {
    let mat = |x: View<'a, T>| Mat::with_strides(x.data, x.shape[0], x.shape[1], x.strides[0], x.strides[1]);
    let (m, n) = (a.shape[0], b.shape[1]);
    gemm::matmul(mat(a), mat(b), MatMut::new(out, m, n), Epilogue::default());
}
