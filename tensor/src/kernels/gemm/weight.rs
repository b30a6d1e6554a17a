//! The weight of a linear layer, and the three products it takes part in.

use super::{
    Epilogue, Mat, MatMut, Packed, PackedBf16, matmul, matmul_bf16, matmul_packed, matmul_packed_bf16,
    pack_bf16_into, pack_into, packed_bf16_len, packed_len,
};
use crate::{Buffer, Grad, Real};

/// What the operands of a layer's products are rounded to. Sums are always those of the element type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nothing: they are multiplied as they are.
    #[default]
    F32,
    /// bf16, halves to even.
    Bf16,
}

/// Which products get the weight in packed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// None: for a weight that is used once before it changes.
    None,
    /// x Wᵀ: for inference.
    Forward,
    /// x Wᵀ, and dy W where that gains by it.
    Both,
}

/// What a weight looks like to its products, made once for as long as it does not change.
///
/// In `f32` that is its transpose in strips, the right-hand factor of x Wᵀ, which lies column by column in W. The other two
/// products read W, dy and x as they lie and gain nothing from a copy. In bf16 the rounded W serves dy W as well.
#[derive(Clone)]
pub struct PackedWeight<T: Real> {
    precision: Precision,
    packing: Packing,
    forward: Buffer<T>,
    forward_bf16: Buffer<u32>,
    backward_bf16: Buffer<u32>,
}

impl<T: Real> PackedWeight<T> {
    /// Memory for a weight of (`n_out`, `n_in`).
    pub fn new(n_out: usize, n_in: usize, precision: Precision, packing: Packing) -> Self {
        let bf16 = precision == Precision::Bf16;
        let len = |wanted: bool, len: usize| if wanted { len } else { 0 };
        let forward = packing != Packing::None;
        PackedWeight {
            precision,
            packing,
            forward: Buffer::zeros(len(forward && !bf16, packed_len(n_in, n_out))),
            forward_bf16: Buffer::zeros(len(forward && bf16, packed_bf16_len(n_in, n_out))),
            backward_bf16: Buffer::zeros(len(packing == Packing::Both && bf16, packed_bf16_len(n_out, n_in))),
        }
    }

    /// Whether this is what [`PackedWeight::new`] would make with these.
    pub fn is(&self, precision: Precision, packing: Packing) -> bool {
        (self.precision, self.packing) == (precision, packing)
    }

    /// Packs `weight`.
    ///
    /// # Panics
    /// If it has not the shape that this was made for.
    #[track_caller]
    pub fn pack(&mut self, weight: Mat<'_, T>) {
        match (self.precision, self.packing) {
            (_, Packing::None) => {}
            (Precision::F32, _) => pack_into(weight.t(), &mut self.forward),
            (Precision::Bf16, packing) => {
                pack_bf16_into(weight.t(), &mut self.forward_bf16);
                if packing == Packing::Both {
                    pack_bf16_into(weight, &mut self.backward_bf16);
                }
            }
        }
    }
}

/// The weight W (out, in) of a linear layer: as it lies, and packed if that was done.
#[derive(Clone, Copy)]
pub struct Weight<'a, T: Real> {
    matrix: Mat<'a, T>,
    packed: Option<&'a PackedWeight<T>>,
}

impl<'a, T: Real> Weight<'a, T> {
    /// `matrix`, of which `packed` is the packed form.
    pub fn new(matrix: Mat<'a, T>, packed: Option<&'a PackedWeight<T>>) -> Self {
        Weight { matrix, packed }
    }

    fn precision(self) -> Precision {
        self.packed.map_or(Precision::F32, |packed| packed.precision)
    }

    /// y = x Wᵀ, plus what `epilogue` says. Shapes: `x` (m, in), `y` (m, out).
    ///
    /// # Panics
    /// As [`matmul`].
    #[track_caller]
    pub fn forward(self, x: Mat<'_, T>, y: MatMut<'_, T>, epilogue: Epilogue<'_, T>) {
        let (n_out, n_in) = (self.matrix.rows(), self.matrix.cols());
        match (self.precision(), self.packed.filter(|packed| packed.packing != Packing::None)) {
            (Precision::F32, None) => matmul(x, self.matrix.t(), y, epilogue),
            (Precision::F32, Some(packed)) => {
                matmul_packed(x, Packed::new(&packed.forward, n_in, n_out), y, epilogue);
            }
            (Precision::Bf16, None) => matmul_bf16(x, self.matrix.t(), y, epilogue),
            (Precision::Bf16, Some(packed)) => {
                matmul_packed_bf16(x, PackedBf16::new(&packed.forward_bf16, n_in, n_out), y, epilogue);
            }
        }
    }

    /// dx = dy W. Shapes: `dy` (m, out), `dx` (m, in).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn backward(self, dy: Mat<'_, T>, dx: Grad<'_, T>) {
        let (n_out, n_in) = (self.matrix.rows(), self.matrix.cols());
        let dx_matrix = MatMut::new(dx.data, dy.rows(), n_in);
        let epilogue = Epilogue { add: dx.add, ..Epilogue::default() };
        match (self.precision(), self.packed.filter(|packed| packed.packing == Packing::Both)) {
            (Precision::F32, _) => matmul(dy, self.matrix, dx_matrix, epilogue),
            (Precision::Bf16, None) => matmul_bf16(dy, self.matrix, dx_matrix, epilogue),
            (Precision::Bf16, Some(packed)) => {
                matmul_packed_bf16(
                    dy,
                    PackedBf16::new(&packed.backward_bf16, n_out, n_in),
                    dx_matrix,
                    epilogue,
                );
            }
        }
    }

    /// dW = dyᵀ x. Shapes: `dy` (m, out), `x` (m, in), `dweight` (out, in).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn gradient(self, dy: Mat<'_, T>, x: Mat<'_, T>, dweight: Grad<'_, T>) {
        let dweight_matrix = MatMut::new(dweight.data, dy.cols(), x.cols());
        let epilogue = Epilogue { add: dweight.add, ..Epilogue::default() };
        match self.precision() {
            Precision::F32 => matmul(dy.t(), x, dweight_matrix, epilogue),
            Precision::Bf16 => matmul_bf16(dy.t(), x, dweight_matrix, epilogue),
        }
    }
}
