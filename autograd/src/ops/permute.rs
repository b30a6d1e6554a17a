//! The axes in another order.

use weft_tensor::shape::MAX_RANK;
use weft_tensor::strided::{self, Layout};
use weft_tensor::{Real, Shape, ShapeError};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone, Copy)]
pub(crate) struct Permute {
    order: [usize; MAX_RANK],
    rank: usize,
}

impl Permute {
    fn new(order: &[usize]) -> Self {
        let mut all = [usize::MAX; MAX_RANK];
        all[..order.len().min(MAX_RANK)].copy_from_slice(&order[..order.len().min(MAX_RANK)]);
        Permute { order: all, rank: order.len() }
    }

    fn order(&self) -> &[usize] {
        &self.order[..self.rank.min(MAX_RANK)]
    }
}

impl Op<1> for Permute {
    const NAMES: &'static [&'static str] = &["permute"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        Layout::contiguous(*x).permute(self.order()).map(|layout| layout.shape)
    }

    fn cases(cases: &mut Cases) {
        const ORDERS: [(&[usize], &[usize]); 8] = [
            (&[], &[]),
            (&[1], &[0]),
            (&[0, 2], &[1, 0]),
            (&[2, 3], &[1, 0]),
            (&[2, 3, 4], &[2, 0, 1]),
            (&[2, 3, 4], &[0, 2, 1]),
            (&[1, 3, 2], &[2, 1, 0]),
            (&[2, 1, 3, 2], &[3, 1, 0, 2]),
        ];
        for (shape, order) in ORDERS {
            let x = cases.normal(shape);
            cases.add("permute", [x.clone()], move |[x]| x.permute(order));
            cases.add("permute", [x], move |[x]| (x * x).permute(order));
        }
    }
}

impl Primitive<1> for Permute {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::copy_into(x.view().permute(self.order()), y);
    }

    fn derivative<'t, T: Real>(
        &self,
        _inputs: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        let mut back = [0; MAX_RANK];
        for (to, &from) in self.order().iter().enumerate() {
            back[from] = to;
        }
        [Some(dy.permute(&back[..self.rank]))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The axes in the order given: axis i of the result is axis `order[i]` of this value.
    ///
    /// # Panics
    /// If `order` is not a permutation of the axes.
    #[track_caller]
    pub fn permute(self, order: &[usize]) -> Var<'t, T> {
        self.tape.apply(Permute::new(order), &[Some(self)])
    }

    /// Two axes exchanged.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn transpose(self, a: usize, b: usize) -> Var<'t, T> {
        let rank = self.shape().rank();
        assert!(a < rank && b < rank, "transpose: axes {a} and {b} of shape {}", self.shape());
        let mut order: [usize; MAX_RANK] = std::array::from_fn(|i| i);
        order.swap(a, b);
        self.permute(&order[..rank])
    }
}
