//! Sum, difference, product and quotient, with broadcasting.

use weft_tensor::strided::{self, Binary as Kind};
use weft_tensor::{Grad, Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Binary(Kind);

impl Op<2> for Binary {
    const NAMES: &'static [&'static str] = &["add", "sub", "mul", "div"];

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn shape(&self, [a, b]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        strided::broadcast_shape(self.name(), a, b)
    }

    fn cases(cases: &mut Cases) {
        const PAIRS: [(&[usize], &[usize]); 11] = [
            (&[], &[]),
            (&[], &[3]),
            (&[1], &[4]),
            (&[3], &[3]),
            (&[2, 3], &[3]),
            (&[2, 3], &[2, 1]),
            (&[2, 1], &[1, 3]),
            (&[2, 3], &[]),
            (&[2, 1, 3], &[4, 1]),
            (&[1, 1, 2], &[2, 3, 1]),
            (&[0, 3], &[3]),
        ];
        for (a, b) in PAIRS.into_iter().chain(PAIRS.map(|(a, b)| (b, a))) {
            let (x, y, z) = (cases.normal(a), cases.normal(b), cases.positive(b));
            cases.add("add", [x.clone(), y.clone()], |[a, b]| a + b);
            cases.add("sub", [x.clone(), y.clone()], |[a, b]| a - b);
            cases.add("mul", [x.clone(), y], |[a, b]| a * b);
            cases.add("div", [x, z], |[a, b]| a / b);
        }
        let (x, z) = (cases.normal([3, 3]), cases.positive([3, 3]));
        cases.add("add", [x.clone()], |[x]| x + x.transpose(0, 1));
        cases.add("sub", [x.clone()], |[x]| x - x.transpose(0, 1) * 0.5);
        cases.add("mul", [x], |[x]| x * x);
        cases.add("div", [z], |[x]| x.transpose(0, 1) / x);
    }
}

impl Primitive<2> for Binary {
    fn forward<T: Real>(&self, [a, b]: [Input<'_, T>; 2], y: &mut [T]) {
        strided::binary(self.0, a.view(), b.view(), Grad { data: y, add: false });
    }

    fn derivative<'t, T: Real>(
        &self,
        [a, b]: [Var<'t, T>; 2],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        [need_a, need_b]: [bool; 2],
    ) -> [Option<Var<'t, T>>; 2] {
        let da = || match self.0 {
            Kind::Add | Kind::Sub => dy,
            Kind::Mul => dy * b,
            Kind::Div => dy / b,
            _ => unreachable!("no op is made of it"),
        };
        // d(a/b)/db = −a/b² = −y/b
        let db = || match self.0 {
            Kind::Add => dy,
            Kind::Sub => -dy,
            Kind::Mul => dy * a,
            Kind::Div => -(dy * y / b),
            _ => unreachable!("no op is made of it"),
        };
        [need_a.then(|| da().sum_to(a.shape())), need_b.then(|| db().sum_to(b.shape()))]
    }
}

/// Writes the operator between two values and between a value and a number.
macro_rules! operators {
    ($($Trait:ident::$method:ident, $kind:ident, |$x:ident, $c:ident| $right:expr, $left:expr;)*) => {$(
        impl<'t, T: Real> std::ops::$Trait for Var<'t, T> {
            type Output = Var<'t, T>;

            #[track_caller]
            fn $method(self, other: Self) -> Self {
                self.tape.apply(Binary(Kind::$kind), &[Some(self), Some(other)])
            }
        }
        impl<'t, T: Real> std::ops::$Trait<f64> for Var<'t, T> {
            type Output = Var<'t, T>;

            #[track_caller]
            fn $method(self, $c: f64) -> Self {
                let $x = self;
                $right
            }
        }
        impl<'t, T: Real> std::ops::$Trait<Var<'t, T>> for f64 {
            type Output = Var<'t, T>;

            #[track_caller]
            fn $method(self, $x: Var<'t, T>) -> Var<'t, T> {
                let $c = self;
                $left
            }
        }
    )*};
}

operators! {
    Add::add, Add, |x, c| x.affine(1.0, c), x.affine(1.0, c);
    Sub::sub, Sub, |x, c| x.affine(1.0, -c), x.affine(-1.0, c);
    Mul::mul, Mul, |x, c| x.affine(c, 0.0), x.affine(c, 0.0);
    Div::div, Div, |x, c| x.affine(1.0 / c, 0.0), x.recip().affine(c, 0.0);
}
