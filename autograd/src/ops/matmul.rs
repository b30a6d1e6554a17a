//! Matrix products, batched, either side transposed.

use weft_tensor::{Real, Shape, ShapeError, View, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::profile::Work;
use crate::tape::Var;

/// C = op(A) · op(B) over the last two dimensions, where op transposes or not; the dimensions before them broadcast.
#[derive(Clone, Copy)]
pub(crate) struct Matmul {
    transpose_a: bool,
    transpose_b: bool,
}

/// A view with its last two axes exchanged, or not.
fn turned<T: Real>(x: View<'_, T>, transpose: bool) -> View<'_, T> {
    let rank = x.shape.rank();
    if transpose { x.transpose(rank - 2, rank - 1) } else { x }
}

fn turned_shape(x: &Shape, transpose: bool) -> Shape {
    let mut sizes = x.to_vec();
    if transpose && x.rank() >= 2 {
        sizes.swap(x.rank() - 2, x.rank() - 1);
    }
    Shape::new(&sizes)
}

impl Op<2> for Matmul {
    const NAMES: &'static [&'static str] = &["matmul"];

    fn shape(&self, [a, b]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        if a.rank() < 2 || b.rank() < 2 {
            return Err(ShapeError(format!("matmul: {a} · {b}: the tape multiplies matrices")));
        }
        strided::matmul_shape(&turned_shape(a, self.transpose_a), &turned_shape(b, self.transpose_b))
    }

    fn work(&self, [a, _]: [&Shape; 2], y: &Shape) -> [Work; 2] {
        let k = a[a.rank() - if self.transpose_a { 2 } else { 1 }];
        let product = 2 * y.elements() * k;
        [Work::Flops(product), Work::Flops(2 * product)]
    }

    fn cases(cases: &mut Cases) {
        // m, k, n and the dimensions before them.
        const PATTERNS: [(&[usize], &[usize], [usize; 3]); 11] = [
            (&[], &[], [2, 3, 4]),
            (&[], &[], [1, 1, 1]),
            (&[], &[], [1, 5, 1]),
            (&[], &[], [3, 0, 2]),
            (&[], &[], [3, 2, 0]),
            (&[2], &[2], [2, 3, 2]),
            (&[2], &[], [3, 2, 2]),
            (&[], &[2], [1, 2, 3]),
            (&[2, 1], &[3], [2, 2, 2]),
            (&[1, 2], &[3, 1], [2, 1, 2]),
            (&[0], &[1], [2, 2, 2]),
        ];
        for (batch_a, batch_b, [m, k, n]) in PATTERNS {
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let shape = |batch: &[usize], [rows, cols]: [usize; 2], turn: bool| {
                    let ends = if turn { [cols, rows] } else { [rows, cols] };
                    Shape::new(&[batch, &ends].concat())
                };
                let (a, b) = (shape(batch_a, [m, k], ta), shape(batch_b, [k, n], tb));
                let (a, b) = (cases.normal(a), cases.normal(b));
                cases.add("matmul", [a, b], move |[a, b]| a.matmul_transposed(b, ta, tb));
            }
        }
        let (x, u, v) = (cases.normal([3, 3]), cases.normal([3]), cases.normal([3]));
        cases.add("matmul", [x.clone()], |[x]| x.matmul_transposed(x, false, true));
        cases.add("matmul", [x.clone()], |[x]| x.matmul(x.matmul(x)));
        cases.add("matmul", [x.clone(), v.clone()], |[x, v]| x.matmul(v));
        cases.add("matmul", [u.clone(), x], |[u, x]| u.matmul(x));
        cases.add("matmul", [u, v], |[u, v]| u.matmul(v));
    }
}

impl Primitive<2> for Matmul {
    fn forward<T: Real>(&self, [a, b]: [Input<'_, T>; 2], y: &mut [T]) {
        strided::matmul(turned(a.view(), self.transpose_a), turned(b.view(), self.transpose_b), y);
    }

    // C = A B: dA = dC Bᵀ, dB = Aᵀ dC; where an input is transposed, so is its gradient.
    fn derivative<'t, T: Real>(
        &self,
        [a, b]: [Var<'t, T>; 2],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        [need_a, need_b]: [bool; 2],
    ) -> [Option<Var<'t, T>>; 2] {
        let da = || match self.transpose_a {
            false => dy.matmul_transposed(b, false, !self.transpose_b),
            true => b.matmul_transposed(dy, self.transpose_b, true),
        };
        let db = || match self.transpose_b {
            false => a.matmul_transposed(dy, !self.transpose_a, false),
            true => dy.matmul_transposed(a, true, self.transpose_a),
        };
        [need_a.then(|| da().sum_to(a.shape())), need_b.then(|| db().sum_to(b.shape()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The product of matrices in the last two dimensions; those before them broadcast. A vector on the left is a row, on the
    /// right a column, and its dimension is dropped from the result.
    ///
    /// # Panics
    /// If the inner dimensions differ, the others do not broadcast, or an input is a scalar.
    #[track_caller]
    pub fn matmul(self, other: Var<'t, T>) -> Var<'t, T> {
        let (a, b) = (self.shape(), other.shape());
        let y = match (a.rank(), b.rank()) {
            (0, _) | (_, 0) => panic!("matmul: {a} · {b}: a scalar is no matrix"),
            (1, 1) => return self.reshape([1, a[0]]).matmul(other.reshape([b[0], 1])).reshape(Shape::SCALAR),
            (1, _) => self.reshape([1, a[0]]).matmul(other),
            (_, 1) => self.matmul(other.reshape([b[0], 1])),
            _ => return self.matmul_transposed(other, false, false),
        };
        let dropped = if a.rank() == 1 { y.shape().rank() - 2 } else { y.shape().rank() - 1 };
        let sizes: Vec<usize> = (0..y.shape().rank()).filter(|&axis| axis != dropped).map(|axis| y.shape()[axis]).collect();
        y.reshape(sizes.as_slice())
    }

    /// The product of matrices, either of them transposed first, without a copy.
    ///
    /// # Panics
    /// As [`Var::matmul`], and if an input is a vector.
    #[track_caller]
    pub fn matmul_transposed(self, other: Var<'t, T>, transpose_a: bool, transpose_b: bool) -> Var<'t, T> {
        self.tape.apply(Matmul { transpose_a, transpose_b }, &[Some(self), Some(other)])
    }
}
