//! Softmax and its logarithm over the last dimension.
//!
//! yᵢ = e^(xᵢ) / Σⱼ e^(xⱼ)

use weft_tensor::kernels::softmax;
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) enum Softmax {
    Plain,
    Log,
}

impl Op<1> for Softmax {
    const NAMES: &'static [&'static str] = &["softmax", "log_softmax"];

    fn name(&self) -> &'static str {
        match self {
            Softmax::Plain => "softmax",
            Softmax::Log => "log_softmax",
        }
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        if x.rank() == 0 {
            return Err(ShapeError(format!("{}: a scalar has no dimension to normalise", self.name())));
        }
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES.iter().filter(|shape| !shape.is_empty()) {
            let x = cases.normal(*shape);
            cases.add("softmax", [x.clone()], |[x]| x.softmax());
            cases.add("softmax", [x.clone()], |[x]| x * x.softmax());
            cases.add("log_softmax", [x.clone()], |[x]| x.log_softmax());
            cases.add("log_softmax", [x], |[x]| (x * 3.0).log_softmax() * x);
        }
    }
}

impl Primitive<1> for Softmax {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        let cols = x.shape.last();
        match self {
            Softmax::Plain => softmax::softmax(x.data, y, cols),
            Softmax::Log => softmax::log_softmax(x.data, y, cols),
        }
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        let last = [x.shape().rank() - 1];
        [Some(match self {
            // dx = y ∘ (dy − Σ dy ∘ y)
            Softmax::Plain => y * (dy - (dy * y).sum(&last, true)),
            // dx = dy − e^y Σ dy
            Softmax::Log => dy - y.exp() * dy.sum(&last, true),
        })]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// e^(xᵢ) / Σⱼ e^(xⱼ) over the last dimension.
    ///
    /// # Panics
    /// If this is a scalar.
    #[track_caller]
    pub fn softmax(self) -> Var<'t, T> {
        self.tape.apply(Softmax::Plain, &[Some(self)])
    }

    /// xᵢ − ln Σⱼ e^(xⱼ) over the last dimension.
    ///
    /// # Panics
    /// If this is a scalar.
    #[track_caller]
    pub fn log_softmax(self) -> Var<'t, T> {
        self.tape.apply(Softmax::Log, &[Some(self)])
    }
}
