//! The weight of a linear layer, and the three products it takes part in.

use super::{Epilogue, Mat, MatMut, Packed, matmul, matmul_packed, pack_into, packed_len};
use crate::{Buffer, Grad, Real};

/// What a weight looks like to its products, made once for as long as it does not change: its transpose in strips.
///
/// That is the right-hand factor of x Wᵀ, which lies column by column in W. The other two products read W, dy and x as
/// they lie and gain nothing from a copy.
pub struct PackedWeight<T> {
    forward: Buffer<T>,
}

impl<T: Real> PackedWeight<T> {
    /// Memory for a weight of (`n_out`, `n_in`).
    pub fn new(n_out: usize, n_in: usize) -> Self {
        PackedWeight { forward: Buffer::zeros(packed_len(n_in, n_out)) }
    }

    /// Packs `weight`.
    ///
    /// # Panics
    /// If it has not the shape that this was made for.
    #[track_caller]
    pub fn pack(&mut self, weight: Mat<'_, T>) {
        pack_into(weight.t(), &mut self.forward);
    }
}

impl<T: Real> Clone for PackedWeight<T> {
    fn clone(&self) -> Self {
        PackedWeight { forward: self.forward.clone() }
    }
}

/// The weight W (out, in) of a linear layer: as it lies, and packed if that was done.
#[derive(Clone, Copy)]
pub struct Weight<'a, T> {
    matrix: Mat<'a, T>,
    packed: Option<&'a PackedWeight<T>>,
}

impl<'a, T: Real> Weight<'a, T> {
    /// `matrix`, of which `packed` is the packed form.
    pub fn new(matrix: Mat<'a, T>, packed: Option<&'a PackedWeight<T>>) -> Self {
        Weight { matrix, packed }
    }

    /// y = x Wᵀ, plus what `epilogue` says. Shapes: `x` (m, in), `y` (m, out).
    ///
    /// # Panics
    /// As [`matmul`].
    #[track_caller]
    pub fn forward(self, x: Mat<'_, T>, y: MatMut<'_, T>, epilogue: Epilogue<'_, T>) {
        match self.packed {
            Some(PackedWeight { forward }) => {
                let packed = Packed::new(forward, self.matrix.cols(), self.matrix.rows());
                matmul_packed(x, packed, y, epilogue);
            }
            None => matmul(x, self.matrix.t(), y, epilogue),
        }
    }

    /// dx = dy W. Shapes: `dy` (m, out), `dx` (m, in).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(self, dy: Mat<'_, T>, dx: Grad<'_, T>) {
        let dx_matrix = MatMut::new(dx.data, dy.rows(), self.matrix.cols());
        matmul(dy, self.matrix, dx_matrix, Epilogue { add: dx.add, ..Epilogue::default() });
    }

    /// dW = dyᵀ x. Shapes: `dy` (m, out), `x` (m, in), `dweight` (out, in).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn gradient(self, dy: Mat<'_, T>, x: Mat<'_, T>, dweight: Grad<'_, T>) {
        let dweight_matrix = MatMut::new(dweight.data, dy.cols(), x.cols());
        matmul(dy.t(), x, dweight_matrix, Epilogue { add: dweight.add, ..Epilogue::default() });
    }
}
