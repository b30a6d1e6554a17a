//! Functions of each element, and operators.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Tensor;
use crate::kernels::Grad;
use crate::kernels::activation::{Unary, unary};
use crate::real::Real;
use crate::strided::{Binary, binary, broadcast_shape, fit, select};
use crate::view::View;

impl<T: Real> Tensor<T> {
    /// `kind` of the elements of both, with broadcasting.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn zip(&self, kind: Binary, other: &Tensor<T>) -> Self {
        self.zip_view(kind, other.view())
    }

    #[track_caller]
    fn zip_view(&self, kind: Binary, other: View<'_, T>) -> Self {
        let shape = fit(broadcast_shape(kind.name(), &self.shape(), &other.shape));
        Tensor::build(shape, |y| binary(kind, self.view(), other, Grad { data: y, add: false }))
    }

    /// The larger of both, elementwise, with broadcasting; the other's where either is NaN.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn maximum(&self, other: &Tensor<T>) -> Self {
        self.zip(Binary::Max, other)
    }

    /// The smaller of both, elementwise, with broadcasting; the other's where either is NaN.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn minimum(&self, other: &Tensor<T>) -> Self {
        self.zip(Binary::Min, other)
    }

    /// 1 where this is less than the other, else 0, with broadcasting: a mask.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn less(&self, other: &Tensor<T>) -> Self {
        self.zip(Binary::Less, other)
    }

    /// 1 where both are equal, else 0, with broadcasting: a mask.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn equal(&self, other: &Tensor<T>) -> Self {
        self.zip(Binary::Equal, other)
    }

    /// The elements of this where `mask` is not zero, else of `other`; all three broadcast.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn select(&self, mask: &Tensor<T>, other: &Tensor<T>) -> Self {
        let shape = fit(broadcast_shape("select", &self.shape(), &other.shape()));
        let shape = fit(broadcast_shape("select", &mask.shape(), &shape));
        let [mask, a, b] = [mask, self, other].map(Tensor::view);
        Tensor::build(shape, |y| select(mask, a, b, Grad { data: y, add: false }))
    }

    /// `value` where `mask` is not zero, else the elements of this; the two broadcast.
    ///
    /// # Panics
    /// If the shapes do not broadcast to one.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor<T>, value: T) -> Self {
        Tensor::scalar(value).select(mask, self)
    }

    fn map(&self, kind: Unary) -> Self {
        let x = self.contiguous();
        Tensor::build(self.shape(), |y| unary(kind, x.as_slice().expect("contiguous"), y))
    }

    /// eˣ.
    pub fn exp(&self) -> Self {
        self.map(Unary::Exp)
    }

    /// The natural logarithm: NaN below zero, −∞ at zero.
    pub fn log(&self) -> Self {
        self.map(Unary::Ln)
    }

    /// √x: NaN below zero.
    pub fn sqrt(&self) -> Self {
        self.map(Unary::Sqrt)
    }

    /// tanh x.
    pub fn tanh(&self) -> Self {
        self.map(Unary::Tanh)
    }

    /// erf x = 2/√π ∫₀ˣ e^(−t²) dt.
    pub fn erf(&self) -> Self {
        self.map(Unary::Erf)
    }

    /// 1 / (1 + e⁻ˣ).
    pub fn sigmoid(&self) -> Self {
        self.map(Unary::Sigmoid)
    }

    /// |x|.
    pub fn abs(&self) -> Self {
        self.map(Unary::Abs)
    }

    /// max(x, 0).
    pub fn relu(&self) -> Self {
        self.map(Unary::Relu)
    }

    /// xᵖ: NaN where x is negative and p not integral.
    pub fn powf(&self, p: T) -> Self {
        let x = self.contiguous();
        let x = x.as_slice().expect("contiguous");
        Tensor::build(self.shape(), |y| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.powf(p)))
    }
}

/// An operator between tensors, owned or borrowed, and with a number on either side.
macro_rules! operator {
    ($($trait:ident $method:ident $kind:ident;)*) => {$(
        operator!(@tensors $trait $method $kind, &Tensor<T>, &Tensor<T>);
        operator!(@tensors $trait $method $kind, &Tensor<T>, Tensor<T>);
        operator!(@tensors $trait $method $kind, Tensor<T>, &Tensor<T>);
        operator!(@tensors $trait $method $kind, Tensor<T>, Tensor<T>);
        operator!(@right $trait $method $kind, &Tensor<T>);
        operator!(@right $trait $method $kind, Tensor<T>);
        operator!(@left $trait $method $kind, f32);
        operator!(@left $trait $method $kind, f64);
    )*};
    (@tensors $trait:ident $method:ident $kind:ident, $a:ty, $b:ty) => {
        /// Elementwise, with broadcasting. Panics if the shapes do not broadcast to one.
        impl<T: Real> $trait<$b> for $a {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: $b) -> Tensor<T> {
                self.zip_view(Binary::$kind, other.view())
            }
        }
    };
    (@right $trait:ident $method:ident $kind:ident, $a:ty) => {
        /// With one number for all elements.
        impl<T: Real> $trait<T> for $a {
            type Output = Tensor<T>;
            fn $method(self, other: T) -> Tensor<T> {
                self.zip_view(Binary::$kind, View::scalar(&other))
            }
        }
    };
    (@left $trait:ident $method:ident $kind:ident, $t:ty) => {
        /// One number with all elements.
        impl $trait<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn $method(self, other: &Tensor<$t>) -> Tensor<$t> {
                Tensor::scalar(self).zip(Binary::$kind, other)
            }
        }
        /// One number with all elements.
        impl $trait<Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn $method(self, other: Tensor<$t>) -> Tensor<$t> {
                $trait::$method(self, &other)
            }
        }
    };
}

operator! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
}

/// The sign of each element flipped.
impl<T: Real> Neg for &Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        self.map(Unary::Neg)
    }
}

/// The sign of each element flipped.
impl<T: Real> Neg for Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        self.map(Unary::Neg)
    }
}
