//! Matrix products of vectors, matrices and batches of them.

use super::Tensor;
use crate::real::Real;
use crate::strided::{self, fit, matmul_shape};

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
        Tensor::build(shape, |y| strided::matmul(self.view(), other.view(), y))
    }
}
