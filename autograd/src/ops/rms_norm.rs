//! Root-mean-square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467).
//!
//! y = weight ∘ x / √(mean(x²) + eps), the mean over the last dimension.

use weft_tensor::kernels::norm;
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct RmsNorm {
    eps: f64,
}

impl Op<2> for RmsNorm {
    const NAMES: &'static [&'static str] = &["rms_norm"];

    fn shape(&self, [x, weight]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        super::layer_norm::check("rms_norm", x, weight, "weight")?;
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::ROWS {
            let x = cases.normal(*shape);
            let w = cases.normal([x.shape().last()]);
            cases.add("rms_norm", [x, w], |[x, w]| x.rms_norm(w, 1e-2));
        }
        let x = cases.normal([4]);
        cases.add("rms_norm", [x], |[x]| x.rms_norm(x, 1e-2) * x);
    }
}

impl Fused<2> for RmsNorm {
    /// 1 / root mean square of every row.
    fn saved_len(&self, [x, _]: [&Shape; 2]) -> usize {
        x.rows()
    }

    fn forward<T: Real>(&self, [x, weight]: [Input<'_, T>; 2], y: &mut [T], saved: &mut [T]) {
        norm::rms_norm(x.data, weight.data, T::from_f64(self.eps), y, saved);
    }

    // With x̂ = x/rms and g = dy ∘ weight:  dx = (g − x̂ ∘ mean(g ∘ x̂)) / rms,  dweight = Σ dy ∘ x̂ over the rows.
    fn backward<T: Real>(
        &self,
        [x, weight]: [Input<'_, T>; 2],
        _y: &[T],
        saved: &[T],
        dy: &mut [T],
        [dx, dweight]: [Option<Grad<'_, T>>; 2],
    ) {
        norm::rms_norm_backward(x.data, weight.data, saved, dy, dx, dweight);
    }

    fn reference<'t, T: Real>(&self, [x, weight]: [Var<'t, T>; 2]) -> Var<'t, T> {
        let mean_square = (x * x).mean(&[x.shape().rank() - 1], true);
        x / (mean_square + self.eps).sqrt() * weight
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Divides each row by its root mean square, then scales.
    ///
    /// Shapes: x (…, C), `weight` (C); gives the shape of x.
    ///
    /// # Panics
    /// If `weight` is not (C).
    #[track_caller]
    pub fn rms_norm(self, weight: Var<'t, T>, eps: f64) -> Var<'t, T> {
        self.tape.apply(RmsNorm { eps }, &[Some(self), Some(weight)])
    }
}
