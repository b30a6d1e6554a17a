//! Matrix products of vectors, matrices and batches of them.

use super::{Tensor, naive};
use crate::real::Real;
use crate::shape::{MAX_RANK, Shape, ShapeError};
use crate::strided::fit;

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
    let batch = |shape: &Shape| Shape::new(&shape[..shape.rank().saturating_sub(2)]);
    let Some(batch) = batch(a).broadcast(&batch(b)) else {
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

impl<T: Real> Tensor<T> {
    /// The matrix product: (…, m, k) · (…, k, n) gives (…, m, n), where the leading dimensions broadcast.
    ///
    /// A vector on the left is a row and a vector on the right a column, whose dimension the result lacks: (k) · (k) is
    /// a scalar. Any layout will do: a transposed tensor is multiplied where it lies.
    ///
    /// # Panics
    /// If the inner dimensions differ, the leading ones do not broadcast, or either is a scalar.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor<T>) -> Self {
        let shape = fit(matmul_shape(&self.shape(), &other.shape()));
        let a = if self.rank() == 1 { self.unsqueeze(0) } else { self.clone() };
        let b = if other.rank() == 1 { other.unsqueeze(1) } else { other.clone() };
        // One matrix on the right takes all rows on the left at once, if they lie row by row.
        let a = if b.rank() == 2 && a.rank() > 2 && a.is_contiguous() {
            a.reshape([a.shape().rows(), a.shape().last()])
        } else {
            a
        };
        Tensor::build(shape, |c| products(&a, &b, c))
    }
}

/// Matrix by matrix over the broadcast leading dimensions.
fn products<T: Real>(a: &Tensor<T>, b: &Tensor<T>, c: &mut [T]) {
    let leading = |x: &Tensor<T>| Shape::new(&x.shape()[..x.rank() - 2]);
    let batch = leading(a).broadcast(&leading(b)).expect("checked by matmul_shape");
    let matrix = |x: &Tensor<T>| [x.shape()[x.rank() - 2], x.shape().last()];
    let stretched = |x: &Tensor<T>| x.broadcast_to(Shape::new(&[&batch[..], &matrix(x)].concat()));
    let (m, n) = (matrix(a)[0], matrix(b)[1]);
    if m * n == 0 {
        return;
    }
    let (a, b) = (stretched(a), stretched(b));
    for (i, c) in c.chunks_exact_mut(m * n).enumerate() {
        // Matrix number i of the batch, its index taken apart from the last dimension on.
        let (mut a, mut b, mut rest) = (a.view(), b.view(), i);
        for axis in (0..batch.rank()).rev() {
            let index = rest % batch[axis];
            rest /= batch[axis];
            [a, b] = [a, b].map(|x| x.slice(axis, index..index + 1).squeeze(axis));
        }
        naive::matmul(a, b, c);
    }
}
