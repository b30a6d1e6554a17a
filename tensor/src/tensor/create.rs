//! Tensors from nothing.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use super::Tensor;
use crate::buffer::Buffer;
use crate::random::{Purpose, Random};
use crate::real::Real;
use crate::shape::Shape;
use crate::strided;

impl<T: Real> Tensor<T> {
    /// Zeros.
    ///
    /// Where nothing else tells the element type: `Tensor::<f32>::zeros([2, 3])`.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        Tensor::build(shape.into(), |_| ())
    }

    /// Ones.
    #[track_caller]
    pub fn ones(shape: impl Into<Shape>) -> Self {
        Tensor::full(shape, T::ONE)
    }

    /// `value` everywhere.
    #[track_caller]
    pub fn full(shape: impl Into<Shape>, value: T) -> Self {
        Tensor::build(shape.into(), |y| y.fill(value))
    }

    /// One number, without dimensions.
    pub fn scalar(value: T) -> Self {
        Tensor::full(Shape::SCALAR, value)
    }

    /// `values` row by row.
    ///
    /// # Panics
    /// If there are not as many as `shape` holds.
    #[track_caller]
    pub fn from_slice(values: &[T], shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let (have, want) = (values.len(), shape.elements());
        assert!(have == want, "from_slice: {have} values, {shape} wants {want}");
        Tensor::new(Buffer::from(values), shape)
    }

    /// `values` row by row. They are copied once, into aligned memory.
    ///
    /// # Panics
    /// If there are not as many as `shape` holds.
    #[track_caller]
    pub fn from_vec(values: Vec<T>, shape: impl Into<Shape>) -> Self {
        Tensor::from_slice(&values, shape)
    }

    /// `start`, `start + step`, … below `end` (above, for a negative step); shape (⌈(end − start) / step⌉).
    ///
    /// # Panics
    /// If `step` is zero.
    #[track_caller]
    pub fn arange(start: T, end: T, step: T) -> Self {
        assert!(step != T::ZERO, "arange: step {step} never arrives");
        let (start, step) = (start.to_f64(), step.to_f64());
        let n = ((end.to_f64() - start) / step).ceil().max(0.0) as usize;
        Tensor::build([n].into(), |y| {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = T::from_f64(start + i as f64 * step));
        })
    }

    /// The identity matrix (n, n).
    #[track_caller]
    pub fn eye(n: usize) -> Self {
        Tensor::build([n, n].into(), |y| y.iter_mut().step_by(n + 1).for_each(|y| *y = T::ONE))
    }

    /// One row of `classes` numbers for every id, 1 at the id and 0 elsewhere: (ids, classes).
    ///
    /// # Panics
    /// If an id is not below `classes`.
    #[track_caller]
    pub fn one_hot(ids: &[u32], classes: usize) -> Self {
        strided::fit(strided::check_ids("one_hot", ids, classes));
        Tensor::build([ids.len(), classes].into(), |y| strided::one_hot(ids, classes, y))
    }

    /// Independent draws from `distribution`, row by row.
    #[track_caller]
    pub fn sample(
        shape: impl Into<Shape>,
        distribution: &impl Distribution<f64>,
        random: &mut impl Rng,
    ) -> Self {
        Tensor::build(shape.into(), |y| {
            y.iter_mut().for_each(|y| *y = T::from_f64(distribution.sample(random)))
        })
    }

    /// Independent numbers uniform in [0, 1], a function of the seed alone. (1 itself may come of rounding.)
    #[track_caller]
    pub fn uniform(shape: impl Into<Shape>, seed: u64) -> Self {
        Tensor::sample(shape, &StandardUniform, &mut Random::new(seed, Purpose::Init, 0, 0))
    }

    /// Independent numbers of mean 0 and variance 1, normally distributed, a function of the seed alone.
    #[track_caller]
    pub fn normal(shape: impl Into<Shape>, seed: u64) -> Self {
        Tensor::sample(shape, &StandardNormal, &mut Random::new(seed, Purpose::Init, 0, 0))
    }
}

/// A scalar.
impl<T: Real> From<T> for Tensor<T> {
    fn from(value: T) -> Self {
        Tensor::scalar(value)
    }
}
