//! The operations: one file each, with shape rule, forward, backward, formula and checks.
//!
//! There are two kinds. A *primitive* (`Primitive`) states its derivative in [`Var`]s, so it can be differentiated to any
//! order. A *fused* op (`Fused`) states it as a kernel, for speed, and carries the same function in primitives as its
//! reference: what the checks compare with, and the route to higher derivatives. The list at the end of this file names every
//! op; the gradient checks run over it.

use weft_tensor::kernels::gemm::PackedWeight;
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

pub use activation::Kind as Activation;
pub use cross_entropy::IGNORE;
pub use rotary::{BASE as ROTARY_BASE, rotary_table};
pub use weft_tensor::kernels::Heads;

use crate::gradcheck::Cases;
use crate::profile::Work;
use crate::tape::Var;

/// The most inputs an op has.
pub(crate) const MAX_INPUTS: usize = 4;

/// A value that an op reads: its elements lie row by row.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a, T: Real> {
    pub(crate) data: &'a [T],
    pub(crate) shape: &'a Shape,
    /// The packed form of a parameter, if it has one.
    pub(crate) packed: Option<&'a PackedWeight<T>>,
}

impl<'a, T: Real> Input<'a, T> {
    /// For the functions of [`weft_tensor::strided`].
    fn view(self) -> View<'a, T> {
        View::new(self.data, *self.shape)
    }
}

/// What every op says of itself. `N` is the number of inputs; one that is absent has shape `[0]`.
pub(crate) trait Op<const N: usize>: Clone {
    /// Every name that [`Op::name`] can give.
    const NAMES: &'static [&'static str];

    /// The op's name in messages and tables.
    fn name(&self) -> &'static str {
        Self::NAMES[0]
    }

    /// The shape rule: a pure function of the inputs' shapes.
    fn shape(&self, inputs: [&Shape; N]) -> Result<Shape, ShapeError>;

    /// What forward and backward owe the machine, for profiles.
    fn work(&self, inputs: [&Shape; N], y: &Shape) -> [Work; 2] {
        Work::passing_over(&inputs, y)
    }

    /// Adds the op's gradient checks: functions of random inputs at shapes that cover its rule.
    fn cases(cases: &mut Cases);
}

/// An op whose derivative is a graph of ops.
pub(crate) trait Primitive<const N: usize>: Op<N> {
    /// Computes `y`, which may hold anything before.
    fn forward<T: Real>(&self, inputs: [Input<'_, T>; N], y: &mut [T]);

    /// The gradient of each input that `needs` one, of the input's shape, from the gradient `dy` of the output.
    fn derivative<'t, T: Real>(
        &self,
        inputs: [Var<'t, T>; N],
        y: Var<'t, T>,
        dy: Var<'t, T>,
        needs: [bool; N],
    ) -> [Option<Var<'t, T>>; N];
}

/// An op whose derivative is a kernel.
pub(crate) trait Fused<const N: usize>: Op<N> {
    /// How many numbers forward saves for backward.
    fn saved_len(&self, _inputs: [&Shape; N]) -> usize {
        0
    }

    /// Computes `y` and `saved`, which may hold anything before.
    fn forward<T: Real>(&self, inputs: [Input<'_, T>; N], y: &mut [T], saved: &mut [T]);

    /// The input whose gradient is `dy` itself, which `backward` then neither writes nor changes.
    fn passes(&self) -> Option<usize> {
        None
    }

    /// Writes or adds the gradient of each input that needs one. It is the last use of `dy`, which may be destroyed, unless
    /// an input gets it ([`Fused::passes`]).
    fn backward<T: Real>(
        &self,
        inputs: [Input<'_, T>; N],
        y: &[T],
        saved: &[T],
        dy: &mut [T],
        grads: [Option<Grad<'_, T>>; N],
    );

    /// The same function in primitive ops. An absent input's handle must not be touched.
    fn reference<'t, T: Real>(&self, inputs: [Var<'t, T>; N]) -> Var<'t, T>;
}

/// The first `N` of an op's inputs.
#[inline]
fn first<A: Copy, const N: usize>(all: &[A; MAX_INPUTS]) -> [A; N] {
    *all.first_chunk().expect("no op has more than MAX_INPUTS inputs")
}

/// The gradients of the first `N` of an op's inputs.
fn first_grads<A, const N: usize>(all: [A; MAX_INPUTS]) -> [A; N] {
    let mut all = all.into_iter();
    std::array::from_fn(|_| all.next().expect("no op has more than MAX_INPUTS inputs"))
}

/// Writes the modules, the enum over all ops, and its methods, which hand on to the op.
macro_rules! ops {
    (
        primitive { $($(#[$pmeta:meta])* $pmod:ident::$P:ident($pn:literal);)* }
        fused { $($(#[$fmeta:meta])* $fmod:ident::$F:ident($fn:literal);)* }
    ) => {
        $($(#[$pmeta])* pub(crate) mod $pmod;)*
        $($(#[$fmeta])* pub(crate) mod $fmod;)*

        /// Any op, as a value.
        #[derive(Clone)]
        pub(crate) enum AnyOp {
            $($(#[$pmeta])* $P($pmod::$P),)*
            $($(#[$fmeta])* $F($fmod::$F),)*
        }

        $($(#[$pmeta])* impl From<$pmod::$P> for AnyOp {
            fn from(op: $pmod::$P) -> Self {
                AnyOp::$P(op)
            }
        })*
        $($(#[$fmeta])* impl From<$fmod::$F> for AnyOp {
            fn from(op: $fmod::$F) -> Self {
                AnyOp::$F(op)
            }
        })*

        impl AnyOp {
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(op) => Op::<$pn>::name(op),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Op::<$fn>::name(op),)*
                }
            }

            pub(crate) fn is_primitive(&self) -> bool {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(_) => true,)*
                    $($(#[$fmeta])* AnyOp::$F(_) => false,)*
                }
            }

            pub(crate) fn is_reshape(&self) -> bool {
                matches!(self, AnyOp::Reshape(_))
            }

            pub(crate) fn shape(&self, inputs: &[&Shape; MAX_INPUTS]) -> Result<Shape, ShapeError> {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(op) => Op::<$pn>::shape(op, first(inputs)),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Op::<$fn>::shape(op, first(inputs)),)*
                }
            }

            pub(crate) fn work(&self, inputs: &[&Shape; MAX_INPUTS], y: &Shape) -> [Work; 2] {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(op) => Op::<$pn>::work(op, first(inputs), y),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Op::<$fn>::work(op, first(inputs), y),)*
                }
            }

            pub(crate) fn saved_len(&self, inputs: &[&Shape; MAX_INPUTS]) -> usize {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(_) => 0,)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Fused::<$fn>::saved_len(op, first(inputs)),)*
                }
            }

            pub(crate) fn forward<T: Real>(&self, inputs: &[Input<'_, T>; MAX_INPUTS], y: &mut [T], saved: &mut [T]) {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(op) => Primitive::<$pn>::forward(op, first(inputs), y),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Fused::<$fn>::forward(op, first(inputs), y, saved),)*
                }
            }

            pub(crate) fn passes(&self) -> Option<usize> {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(_) => None,)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Fused::<$fn>::passes(op),)*
                }
            }

            pub(crate) fn backward<T: Real>(
                &self,
                inputs: &[Input<'_, T>; MAX_INPUTS],
                y: &[T],
                saved: &[T],
                dy: &mut [T],
                grads: [Option<Grad<'_, T>>; MAX_INPUTS],
            ) {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(_) => unreachable!("a primitive's derivative is a graph"),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Fused::<$fn>::backward(op, first(inputs), y, saved, dy, first_grads(grads)),)*
                }
            }

            pub(crate) fn derivative<'t, T: Real>(
                &self,
                inputs: [Var<'t, T>; MAX_INPUTS],
                y: Var<'t, T>,
                dy: Var<'t, T>,
                needs: [bool; MAX_INPUTS],
            ) -> [Option<Var<'t, T>>; MAX_INPUTS] {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(op) => {
                        let derivatives = Primitive::<$pn>::derivative(op, first(&inputs), y, dy, first(&needs));
                        let mut derivatives = derivatives.into_iter();
                        std::array::from_fn(|_| derivatives.next().flatten())
                    })*
                    $($(#[$fmeta])* AnyOp::$F(_) => unreachable!("a fused op's derivative is a kernel"),)*
                }
            }

            pub(crate) fn reference<'t, T: Real>(&self, inputs: [Var<'t, T>; MAX_INPUTS]) -> Var<'t, T> {
                match self {
                    $($(#[$pmeta])* AnyOp::$P(_) => unreachable!("a primitive is its own reference"),)*
                    $($(#[$fmeta])* AnyOp::$F(op) => Fused::<$fn>::reference(op, first(&inputs)),)*
                }
            }
        }

        /// The names of all ops, in the order of the list.
        pub fn names() -> impl Iterator<Item = &'static str> {
            let lists: [&[&'static str]; _] =
                [$($(#[$pmeta])* <$pmod::$P as Op<$pn>>::NAMES,)* $($(#[$fmeta])* <$fmod::$F as Op<$fn>>::NAMES,)*];
            lists.into_iter().flatten().copied()
        }

        /// The gradient checks of all ops.
        pub(crate) fn cases(cases: &mut Cases) {
            $($(#[$pmeta])* <$pmod::$P as Op<$pn>>::cases(cases);)*
            $($(#[$fmeta])* <$fmod::$F as Op<$fn>>::cases(cases);)*
        }
    };
}

ops! {
    primitive {
        affine::Affine(1);
        binary::Binary(2);
        unary::Unary(1);
        pow::Pow(1);
        compare::Compare(2);
        select::Select(3);
        reshape::Reshape(1);
        permute::Permute(1);
        slice::Slice(1);
        pad::Pad(1);
        concat::Concat(2);
        broadcast::Broadcast(1);
        sum::SumTo(1);
        max::Max(1);
        index_select::IndexSelect(1);
        index_add::IndexAdd(1);
        gather::Gather(1);
        scatter_add::ScatterAdd(1);
        matmul::Matmul(2);
        softmax::Softmax(1);
        #[cfg(test)]
        planted_graph::PlantedGraph(2);
    }
    fused {
        linear::Linear(4);
        embedding::Embedding(2);
        layer_norm::LayerNorm(3);
        rms_norm::RmsNorm(2);
        activation::Activation(1);
        gated::Gated(1);
        rotary::Rotary(2);
        cosine_heads::CosineHeads(2);
        attention::Attention(1);
        dropout::Dropout(1);
        cross_entropy::CrossEntropy(1);
        #[cfg(test)]
        planted_kernel::PlantedKernel(2);
    }
}

/// Shapes for elementwise ops: scalar, one element, none, odd, ragged, longer than a vector.
pub(crate) const SHAPES: &[&[usize]] = &[&[], &[1], &[0], &[5], &[2, 3], &[3, 0, 2], &[2, 1, 4], &[19]];

/// Shapes for ops on rows.
pub(crate) const ROWS: &[&[usize]] = &[&[1], &[5], &[0, 3], &[3, 1], &[2, 3], &[2, 2, 4], &[2, 18], &[1, 33]];

/// Writes or adds `dy` to `grad`.
pub(crate) fn accumulate<T: Real>(grad: Grad<'_, T>, dy: &[T]) {
    if grad.add {
        weft_tensor::kernels::elementwise::axpy(T::ONE, dy, grad.data);
    } else {
        grad.data.copy_from_slice(dy);
    }
}
