//! Linear layer with everything that follows it in a block: bias, activation and residual.
//!
//! y = act(x Wᵀ + b) + r

use weft_tensor::buffer::with_scratch;
use weft_tensor::kernels::elementwise::axpy;
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, matmul};
use weft_tensor::kernels::{activation, norm};
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::activation::Kind;
use super::{Fused, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Linear {
    activation: Option<Kind>,
    bias: bool,
    residual: bool,
}

impl Op<4> for Linear {
    const NAMES: &'static [&'static str] = &["linear"];

    fn shape(&self, [x, weight, bias, residual]: [Shape; 4]) -> Result<Shape, ShapeError> {
        let fail = |what: String| Err(ShapeError(format!("linear: {what}")));
        if weight.rank() != 2 {
            return fail(format!("weight {weight} is no matrix"));
        }
        if x.rank() == 0 || x.last() != weight[1] {
            return fail(format!(
                "input {x} has last dimension {}, weight {weight} expects {}",
                x.last(),
                weight[1]
            ));
        }
        let y = x.with_last(weight[0]);
        if self.bias && *bias != [weight[0]] {
            return fail(format!("bias {bias} with weight {weight}, which expects [{}]", weight[0]));
        }
        if self.residual && residual != y {
            return fail(format!("residual {residual} does not have the output's shape {y}"));
        }
        Ok(y)
    }

    fn cases(cases: &mut Cases) {
        const SHAPES: [(&[usize], usize); 8] =
            [(&[1], 1), (&[3], 2), (&[0, 3], 2), (&[2, 3], 4), (&[2, 1], 3), (&[2, 2, 5], 3), (&[4, 2], 1), (&[1, 17], 18)];
        for (shape, n) in SHAPES {
            let x = cases.normal(shape);
            let k = x.shape().last();
            let (w, b, r) = (cases.normal([n, k]), cases.normal([n]), cases.normal(x.shape().with_last(n)));
            cases.add("linear", [x.clone(), w.clone()], |[x, w]| x.linear(w, None));
            cases.add("linear", [x.clone(), w.clone(), b.clone()], |[x, w, b]| x.linear(w, Some(b)));
            cases.add("linear", [x.clone(), w.clone(), b.clone()], |[x, w, b]| {
                x.linear_with(w, Some(b), Some(Kind::GeluTanh), None)
            });
            cases.add("linear", [x, w, b, r], |[x, w, b, r]| x.linear_with(w, Some(b), None, Some(r)));
        }
        // The same value as input, weight and residual.
        let x = cases.normal([3, 3]);
        cases.add("linear", [x], |[x]| x.linear_with(x, None, Some(Kind::Silu), Some(x)));
    }
}

impl Fused<4> for Linear {
    /// The values before the activation.
    fn saved_len(&self, [x, weight, _, _]: [Shape; 4]) -> usize {
        if self.activation.is_some() { x.rows() * weight[0] } else { 0 }
    }

    fn forward<T: Real>(&self, [x, weight, bias, residual]: [View<'_, T>; 4], y: &mut [T], saved: &mut [T]) {
        let (m, k, n) = (x.shape.rows(), x.shape.last(), weight.shape[0]);
        let x = Mat::new(x.data, m, k);
        let weight = Mat::new(weight.data, n, k);
        let bias = self.bias.then_some(bias.data);
        let residual = self.residual.then_some(residual.data);
        match self.activation {
            None => matmul(x, weight.t(), MatMut::new(y, m, n), Epilogue { add: false, bias, residual }),
            Some(kind) => {
                let epilogue = Epilogue { add: false, bias, residual: None };
                matmul(x, weight.t(), MatMut::new(saved, m, n), epilogue);
                activation::activation(kind, saved, y);
                if let Some(residual) = residual {
                    axpy(T::ONE, residual, y);
                }
            }
        }
    }

    // With u = x Wᵀ + b and du = dy ∘ act′(u):  dx = du W,  dW = duᵀ x,  db = Σ rows of du,  dr = dy.
    fn backward<T: Real>(
        &self,
        [x, weight, _, _]: [View<'_, T>; 4],
        _y: &[T],
        saved: &[T],
        dy: &mut [T],
        [dx, dweight, dbias, dresidual]: [Option<Grad<'_, T>>; 4],
    ) {
        let (m, k, n) = (x.shape.rows(), x.shape.last(), weight.shape[0]);
        let (x, weight) = (Mat::new(x.data, m, k), Mat::new(weight.data, n, k));
        if let Some(dresidual) = dresidual {
            super::accumulate(dresidual, dy);
        }
        let products = |du: &[T]| {
            let du_matrix = Mat::new(du, m, n);
            if let Some(Grad { data, add }) = dx {
                matmul(du_matrix, weight, MatMut::new(data, m, k), Epilogue { add, ..Epilogue::default() });
            }
            if let Some(Grad { data, add }) = dweight {
                matmul(du_matrix.t(), x, MatMut::new(data, n, k), Epilogue { add, ..Epilogue::default() });
            }
            if let Some(dbias) = dbias {
                norm::column_sums(du, n, dbias);
            }
        };
        match self.activation {
            None => products(dy),
            Some(kind) => with_scratch(dy.len(), |du| {
                activation::activation_backward(kind, saved, dy, Grad { data: &mut *du, add: false });
                products(du);
            }),
        }
    }

    fn reference<'t, T: Real>(&self, [x, weight, bias, residual]: [Var<'t, T>; 4]) -> Var<'t, T> {
        let (shape, n) = (x.shape(), weight.shape()[0]);
        let mut y = x.reshape([shape.rows(), shape.last()]).matmul_transposed(weight, false, true);
        y = y.reshape(shape.with_last(n));
        if self.bias {
            y = y + bias;
        }
        if let Some(kind) = self.activation {
            y = super::activation::reference(kind, y);
        }
        if self.residual { y + residual } else { y }
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// x Wᵀ + b. Shapes: x (…, in), `weight` (out, in), `bias` (out); gives (…, out).
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn linear(self, weight: Var<'t, T>, bias: Option<Var<'t, T>>) -> Var<'t, T> {
        self.linear_with(weight, bias, None, None)
    }

    /// act(x Wᵀ + b) + r in one op. Shapes as in [`Var::linear`]; `residual` has the shape of the result.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn linear_with(
        self,
        weight: Var<'t, T>,
        bias: Option<Var<'t, T>>,
        activation: Option<Kind>,
        residual: Option<Var<'t, T>>,
    ) -> Var<'t, T> {
        let op = Linear { activation, bias: bias.is_some(), residual: residual.is_some() };
        self.tape.apply(op, &[Some(self), Some(weight), bias, residual])
    }
}
