//! Functions of one number, elementwise: exp, ln, √, tanh, erf, sigmoid, relu.

use weft_tensor::kernels::activation::{self, Unary as Kind};
use weft_tensor::{Real, Shape, ShapeError, View};

use super::{Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Unary(Kind);

const TWO_OVER_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;

impl Op<1> for Unary {
    const NAMES: &'static [&'static str] = &["exp", "ln", "sqrt", "tanh", "erf", "sigmoid", "relu"];

    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Exp => "exp",
            Kind::Ln => "ln",
            Kind::Sqrt => "sqrt",
            Kind::Tanh => "tanh",
            Kind::Erf => "erf",
            Kind::Sigmoid => "sigmoid",
            Kind::Relu => "relu",
        }
    }

    fn shape(&self, [x]: [Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let (x, z) = (cases.normal(*shape), cases.positive(*shape));
            cases.add("exp", [x.clone()], |[x]| x.exp());
            cases.add("ln", [z.clone()], |[x]| x.ln());
            cases.add("sqrt", [z], |[x]| x.sqrt());
            cases.add("tanh", [x.clone()], |[x]| x.tanh());
            cases.add("erf", [x.clone()], |[x]| x.erf());
            cases.add("sigmoid", [x.clone()], |[x]| x.sigmoid());
            cases.add("relu", [x], |[x]| x.relu());
        }
        let x = cases.normal([4]);
        cases.add("tanh", [x], |[x]| x * x.tanh());
    }
}

impl Primitive<1> for Unary {
    fn forward<T: Real>(&self, [x]: [View<'_, T>; 1], y: &mut [T]) {
        activation::unary(self.0, x.data, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(match self.0 {
            Kind::Exp => dy * y,
            Kind::Ln => dy / x,
            Kind::Sqrt => dy / y * 0.5,
            // tanh′ = 1 − tanh²
            Kind::Tanh => dy * (1.0 - y * y),
            // erf′ = 2/√π · e^(−x²)
            Kind::Erf => dy * (-(x * x)).exp() * TWO_OVER_SQRT_PI,
            // σ′ = σ (1 − σ)
            Kind::Sigmoid => dy * y * (1.0 - y),
            // 0 at 0, as everywhere to its left
            Kind::Relu => dy * x.greater_than(0.0),
        })]
    }
}

/// Writes the methods.
macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {
        impl<'t, T: Real> Var<'t, T> {
            $($(#[$doc])* pub fn $name(self) -> Var<'t, T> {
                self.tape.apply(Unary(Kind::$kind), &[Some(self)])
            })*
        }
    };
}

methods! {
    /// eˣ, elementwise.
    exp = Exp;
    /// The natural logarithm, elementwise: NaN below zero, −∞ at zero.
    ln = Ln;
    /// √x, elementwise.
    sqrt = Sqrt;
    /// The hyperbolic tangent, elementwise.
    tanh = Tanh;
    /// erf x = 2/√π ∫₀ˣ e^(−t²) dt, elementwise.
    erf = Erf;
    /// 1 / (1 + e⁻ˣ), elementwise.
    sigmoid = Sigmoid;
    /// max(x, 0), elementwise.
    relu = Relu;
}
