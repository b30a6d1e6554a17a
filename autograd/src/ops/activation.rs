//! Activation functions of the transformer, elementwise.
//!
//! GELU, exact: ½ x (1 + erf(x/√2)); tanh approximation: ½ x (1 + tanh u), u = √(2/π) (x + 0.044715 x³)
//! (Hendrycks & Gimpel 2016, arXiv:1606.08415). SiLU: x σ(x) (Elfwing et al. 2017, arXiv:1702.03118).
//! ReLU²: max(x, 0)² (So et al. 2021, arXiv:2109.08668).

use weft_tensor::kernels::activation;
use weft_tensor::{Grad, Real, Shape, ShapeError};

pub use weft_tensor::kernels::activation::Activation as Kind;

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Activation(Kind);

impl Op<1> for Activation {
    const NAMES: &'static [&'static str] = &["gelu", "gelu_erf", "silu", "fused_relu", "relu_squared"];

    fn name(&self) -> &'static str {
        match self.0 {
            Kind::GeluTanh => "gelu",
            Kind::GeluErf => "gelu_erf",
            Kind::Silu => "silu",
            Kind::Relu => "fused_relu",
            Kind::Relu2 => "relu_squared",
        }
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let x = cases.normal(*shape);
            cases.add("gelu", [x.clone()], |[x]| x.gelu());
            cases.add("gelu_erf", [x.clone()], |[x]| x.gelu_erf());
            cases.add("silu", [x.clone()], |[x]| x.silu());
            cases.add("relu_squared", [x.clone()], |[x]| x.relu_squared());
            cases.add("fused_relu", [x.clone()], |[x]| x.activation(Kind::Relu));
            cases.add("silu", [x], |[x]| (x.silu() * x).silu());
        }
    }
}

impl Fused<1> for Activation {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T], _saved: &mut [T]) {
        activation::activation(self.0, x.data, y);
    }

    fn backward<T: Real>(
        &self,
        [x]: [Input<'_, T>; 1],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dx]: [Option<Grad<'_, T>>; 1],
    ) {
        if let Some(dx) = dx {
            activation::activation_backward(self.0, x.data, dy, dx);
        }
    }

    fn reference<'t, T: Real>(&self, [x]: [Var<'t, T>; 1]) -> Var<'t, T> {
        reference(self.0, x)
    }
}

/// The activation functions in primitives.
pub(super) fn reference<T: Real>(kind: Kind, x: Var<'_, T>) -> Var<'_, T> {
    const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
    match kind {
        Kind::GeluTanh => {
            let u = (x + x * x * x * 0.044715) * SQRT_2_OVER_PI;
            x * 0.5 * (u.tanh() + 1.0)
        }
        Kind::GeluErf => x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0),
        Kind::Silu => x * x.sigmoid(),
        Kind::Relu => x.relu(),
        Kind::Relu2 => x.relu().square(),
    }
}

/// Writes the methods.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {
        impl<'t, T: Real> Var<'t, T> {
            $($(#[$doc])* pub fn $name(self) -> Var<'t, T> {
                self.activation(Kind::$kind)
            })*
        }
    };
}

methods! {
    /// Gaussian error linear unit, tanh approximation, elementwise.
    gelu = GeluTanh;
    /// Gaussian error linear unit by the error function, elementwise.
    gelu_erf = GeluErf;
    /// Sigmoid linear unit, x σ(x), elementwise.
    silu = Silu;
    /// max(x, 0)², elementwise.
    relu_squared = Relu2;
}

impl<'t, T: Real> Var<'t, T> {
    /// The activation function of this kind, elementwise.
    pub fn activation(self, kind: Kind) -> Var<'t, T> {
        self.tape.apply(Activation(kind), &[Some(self)])
    }
}
