//! Layer normalisation (Ba et al. 2016, arXiv:1607.06450).
//!
//! y = weight ∘ (x − μ) / √(σ² + eps) + bias, with μ and σ² (biased) over the last dimension.

use weft_tensor::kernels::norm;
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct LayerNorm {
    eps: f64,
    bias: bool,
}

impl Op<3> for LayerNorm {
    const NAMES: &'static [&'static str] = &["layer_norm"];

    fn shape(&self, [x, weight, bias]: [&Shape; 3]) -> Result<Shape, ShapeError> {
        check("layer_norm", x, weight, "weight")?;
        if self.bias {
            check("layer_norm", x, bias, "bias")?;
        }
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::ROWS {
            let x = cases.normal(*shape);
            let (w, b) = (cases.normal([x.shape().last()]), cases.normal([x.shape().last()]));
            cases.add("layer_norm", [x.clone(), w.clone(), b], |[x, w, b]| x.layer_norm(w, Some(b), 1e-2));
            cases.add("layer_norm", [x, w], |[x, w]| x.layer_norm(w, None, 1e-2) * x);
        }
        let x = cases.normal([4]);
        cases.add("layer_norm", [x], |[x]| x.layer_norm(x, Some(x), 1e-2));
    }
}

/// The rule of both norms: one number for every column.
pub(super) fn check(op: &str, x: &Shape, vector: &Shape, what: &str) -> Result<(), ShapeError> {
    if x.rank() == 0 {
        return Err(ShapeError(format!("{op}: a scalar has no dimension to normalise")));
    }
    if **vector != [x.last()] {
        return Err(ShapeError(format!("{op}: {what} {vector} with input {x}, which expects [{}]", x.last())));
    }
    Ok(())
}

impl Fused<3> for LayerNorm {
    /// μ and 1/σ of every row.
    fn saved_len(&self, [x, _, _]: [&Shape; 3]) -> usize {
        2 * x.rows()
    }

    fn forward<T: Real>(&self, [x, weight, bias]: [Input<'_, T>; 3], y: &mut [T], saved: &mut [T]) {
        let (mean, rstd) = saved.split_at_mut(x.shape.rows());
        let bias = self.bias.then_some(bias.data);
        norm::layer_norm(x.data, weight.data, bias, T::from_f64(self.eps), y, mean, rstd);
    }

    // With x̂ = (x − μ)/σ and g = dy ∘ weight:  dx = (g − mean(g) − x̂ ∘ mean(g ∘ x̂)) / σ,
    // dweight = Σ dy ∘ x̂,  dbias = Σ dy over the rows.
    fn backward<T: Real>(
        &self,
        [x, weight, _]: [Input<'_, T>; 3],
        _y: &[T],
        saved: &[T],
        dy: &mut [T],
        [dx, dweight, dbias]: [Option<Grad<'_, T>>; 3],
    ) {
        let (mean, rstd) = saved.split_at(x.shape.rows());
        norm::layer_norm_backward(x.data, weight.data, mean, rstd, dy, dx, dweight, dbias);
    }

    fn reference<'t, T: Real>(&self, [x, weight, bias]: [Var<'t, T>; 3]) -> Var<'t, T> {
        let last = [x.shape().rank() - 1];
        let centred = x - x.mean(&last, true);
        let variance = (centred * centred).mean(&last, true);
        let y = centred / (variance + self.eps).sqrt() * weight;
        if self.bias { y + bias } else { y }
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Normalises each row to zero mean and unit variance, then scales and shifts.
    ///
    /// Shapes: x (…, C), `weight` and `bias` (C); gives the shape of x.
    ///
    /// # Panics
    /// If `weight` or `bias` is not (C).
    #[track_caller]
    pub fn layer_norm(self, weight: Var<'t, T>, bias: Option<Var<'t, T>>, eps: f64) -> Var<'t, T> {
        self.tape.apply(LayerNorm { eps, bias: bias.is_some() }, &[Some(self), Some(weight), bias])
    }
}
