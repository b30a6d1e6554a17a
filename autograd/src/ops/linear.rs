//! Linear layer with what surrounds it in a block: the activation of its input, bias and residual.
//!
//! y = act(x) Wᵀ + b + r
//!
//! The activation belongs to the layer that reads it, not to the one before: its value then lives in scratch memory, and the
//! walk back computes it again in the sweep that needs its slope anyway (16 cycles for 16 numbers), so that of the widest
//! rows of a block only one copy is kept.

use weft_tensor::buffer::with_scratch;
use weft_tensor::kernels::gemm::{Epilogue, Mat, MatMut, Weight};
use weft_tensor::kernels::{activation, norm};
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::activation::Kind;
use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::profile::Work;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Linear {
    /// Of the input.
    activation: Option<Kind>,
    bias: bool,
    residual: bool,
}

impl Op<4> for Linear {
    const NAMES: &'static [&'static str] = &["linear"];

    fn shape(&self, [x, weight, bias, residual]: [&Shape; 4]) -> Result<Shape, ShapeError> {
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
        if self.bias && **bias != [weight[0]] {
            return fail(format!("bias {bias} with weight {weight}, which expects [{}]", weight[0]));
        }
        if self.residual && *residual != y {
            return fail(format!("residual {residual} does not have the output's shape {y}"));
        }
        Ok(y)
    }

    // Three products of the same size: y, dx, dW.
    fn work(&self, [x, weight, _, _]: [&Shape; 4], _y: &Shape) -> [Work; 2] {
        let product = 2 * x.rows() * weight.elements();
        [Work::Flops(product), Work::Flops(2 * product)]
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
    fn forward<T: Real>(&self, [x, weight, bias, residual]: [Input<'_, T>; 4], y: &mut [T], _saved: &mut [T]) {
        let (m, k, n) = (x.shape.rows(), x.shape.last(), weight.shape[0]);
        let epilogue = Epilogue {
            add: false,
            bias: self.bias.then_some(bias.data),
            residual: self.residual.then_some(residual.data),
        };
        let mut product = |x: &[T]| matrix(weight).forward(Mat::new(x, m, k), MatMut::new(y, m, n), epilogue);
        match self.activation {
            None => product(x.data),
            Some(kind) => with_scratch(m * k, |a| {
                activation::activation(kind, x.data, a);
                product(a);
            }),
        }
    }

    /// dr = dy.
    fn passes(&self) -> Option<usize> {
        self.residual.then_some(3)
    }

    // With a = act(x):  dx = dy W ∘ act′(x),  dW = dyᵀ a,  db = Σ rows of dy.
    fn backward<T: Real>(
        &self,
        [x, weight, _, _]: [Input<'_, T>; 4],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dx, dweight, dbias, _]: [Option<Grad<'_, T>>; 4],
    ) {
        let (m, k, n) = (x.shape.rows(), x.shape.last(), weight.shape[0]);
        if let Some(dbias) = dbias {
            norm::column_sums(dy, n, dbias);
        }
        let (weight, dy) = (matrix(weight), Mat::new(dy, m, n));
        let weight_gradient = |a: &[T]| {
            if let Some(dweight) = dweight {
                weight.gradient(dy, Mat::new(a, m, k), dweight);
            }
        };
        match (self.activation, dx) {
            (None, dx) => {
                if let Some(dx) = dx {
                    weight.backward(dy, dx);
                }
                weight_gradient(x.data);
            }
            (Some(kind), None) => with_scratch(m * k, |a| {
                activation::activation(kind, x.data, a);
                weight_gradient(a);
            }),
            (Some(kind), Some(dx)) => with_scratch(2 * m * k, |scratch| {
                let (da, a) = scratch.split_at_mut(m * k);
                weight.backward(dy, Grad { data: &mut *da, add: false });
                activation::activation_backward_with_value(kind, x.data, da, dx, a);
                weight_gradient(a);
            }),
        }
    }

    fn reference<'t, T: Real>(&self, [x, weight, bias, residual]: [Var<'t, T>; 4]) -> Var<'t, T> {
        let (shape, n) = (x.shape(), weight.shape()[0]);
        let a = self.activation.map_or(x, |kind| super::activation::reference(kind, x));
        let mut y = a.reshape([shape.rows(), shape.last()]).matmul_transposed(weight, false, true);
        y = y.reshape(shape.with_last(n));
        if self.bias {
            y = y + bias;
        }
        if self.residual { y + residual } else { y }
    }
}

/// A view of (out, in) as the weight of a layer.
fn matrix<T: Real>(weight: Input<'_, T>) -> Weight<'_, T> {
    Weight::new(Mat::new(weight.data, weight.shape[0], weight.shape[1]), weight.packed)
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

    /// act(x) Wᵀ + b + r in one op. Shapes as in [`Var::linear`]; `residual` has the shape of the result.
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
