//! Functions of one number, elementwise: exp, ln, √, tanh, erf, sigmoid, relu.

use weft_tensor::kernels::activation::{self, Unary as Kind};
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Unary(Kind);

const TWO_OVER_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;

impl Op<1> for Unary {
    const NAMES: &'static [&'static str] = &[
        "exp", "exp2", "ln", "tanh", "sigmoid", "erf", "sqrt", "recip", "neg", "abs", "square", "relu", "step", "sign",
    ];

    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Exp => "exp",
            Kind::Exp2 => "exp2",
            Kind::Ln => "ln",
            Kind::Tanh => "tanh",
            Kind::Sigmoid => "sigmoid",
            Kind::Erf => "erf",
            Kind::Sqrt => "sqrt",
            Kind::Recip => "recip",
            Kind::Neg => "neg",
            Kind::Abs => "abs",
            Kind::Square => "square",
            Kind::Relu => "relu",
            Kind::Step => "step",
            Kind::Sign => "sign",
        }
    }

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Ok(*x)
    }

    fn cases(cases: &mut Cases) {
        for shape in super::SHAPES {
            let (x, z) = (cases.normal(*shape), cases.positive(*shape));
            cases.add("exp", [x.clone()], |[x]| x.exp());
            cases.add("exp2", [x.clone()], |[x]| x.exp2());
            cases.add("ln", [z.clone()], |[x]| x.ln());
            cases.add("sqrt", [z], |[x]| x.sqrt());
            cases.add("tanh", [x.clone()], |[x]| x.tanh());
            cases.add("erf", [x.clone()], |[x]| x.erf());
            cases.add("sigmoid", [x.clone()], |[x]| x.sigmoid());
            cases.add("relu", [x.clone()], |[x]| x.relu());
            cases.add("neg", [x.clone()], |[x]| -x);
            cases.add("abs", [x.clone()], |[x]| x.abs());
            cases.add("square", [x.clone()], |[x]| x.square());
            // Masks are constant where they are smooth: the gradient is that of the other factor.
            cases.add("step", [x.clone()], |[x]| x * x.step());
            cases.add("sign", [x], |[x]| x * x * x.sign());
            let z = cases.positive(*shape);
            cases.add("recip", [z], |[x]| x.recip());
        }
        let x = cases.normal([4]);
        cases.add("tanh", [x], |[x]| x * x.tanh());
    }
}

impl Primitive<1> for Unary {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        activation::unary(self.0, x.data, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        let dx = match self.0 {
            Kind::Exp => dy * y,
            Kind::Exp2 => dy * y * std::f64::consts::LN_2,
            Kind::Ln => dy / x,
            // tanh′ = 1 − tanh²
            Kind::Tanh => dy * (1.0 - y.square()),
            // σ′ = σ (1 − σ)
            Kind::Sigmoid => dy * y * (1.0 - y),
            // erf′ = 2/√π · e^(−x²)
            Kind::Erf => dy * (-x.square()).exp() * TWO_OVER_SQRT_PI,
            Kind::Sqrt => dy / y * 0.5,
            Kind::Recip => -(dy * y.square()),
            Kind::Neg => -dy,
            Kind::Abs => dy * x.sign(),
            Kind::Square => dy * x * 2.0,
            // 0 at 0, as everywhere to its left
            Kind::Relu => dy * x.step(),
            Kind::Step | Kind::Sign => return [None],
        };
        [Some(dx)]
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
    /// 2ˣ, elementwise.
    exp2 = Exp2;
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
    /// 1/x, elementwise.
    recip = Recip;
    /// |x|, elementwise; its derivative at 0 is taken as 0.
    abs = Abs;
    /// x², elementwise.
    square = Square;
    /// max(x, 0), elementwise; its derivative at 0 is taken as 0.
    relu = Relu;
    /// 1 above zero, else 0. Its derivative is taken as zero.
    step = Step;
    /// 1 above zero, −1 below, 0 at zero. Its derivative is taken as zero.
    sign = Sign;
}

impl<'t, T: Real> std::ops::Neg for Var<'t, T> {
    type Output = Var<'t, T>;

    fn neg(self) -> Self {
        self.tape.apply(Unary(Kind::Neg), &[Some(self)])
    }
}
