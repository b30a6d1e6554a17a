//! Primitives with a fault each, for the test that the checks find it; `None` has none. y = a² b, b broadcast.

use weft_tensor::strided::{self, Binary};
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    FirstRowInsteadOfSum,
    WrongSign,
    IgnoredUpstream,
    TransposedUpstream,
    CutGraph,
    SquareWithoutTwo,
}

#[derive(Clone, Copy)]
pub(crate) struct PlantedGraph(pub(crate) Fault);

impl PlantedGraph {
    pub(crate) const ALL: [(Fault, &'static str); 7] = [
        (Fault::None, "graph"),
        (Fault::FirstRowInsteadOfSum, "first row instead of the sum"),
        (Fault::WrongSign, "wrong sign"),
        (Fault::IgnoredUpstream, "ignored upstream gradient"),
        (Fault::TransposedUpstream, "transposed upstream gradient"),
        (Fault::CutGraph, "cut graph: wrong second derivative"),
        (Fault::SquareWithoutTwo, "derivative of one factor of a square"),
    ];
}

impl Op<2> for PlantedGraph {
    /// None: the list of ops is that of the library.
    const NAMES: &'static [&'static str] = &[];

    fn name(&self) -> &'static str {
        PlantedGraph::ALL.into_iter().find(|(fault, _)| *fault == self.0).expect("every fault is listed").1
    }

    fn shape(&self, [a, b]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        strided::broadcast_shape("planted", a, b)
    }

    fn cases(_: &mut Cases) {}
}

impl Primitive<2> for PlantedGraph {
    fn forward<T: Real>(&self, [a, b]: [Input<'_, T>; 2], y: &mut [T]) {
        strided::binary(Binary::Mul, a.view(), b.view(), Grad { data: y, add: false });
        let cols = a.shape.elements();
        for (i, y) in y.iter_mut().enumerate() {
            *y *= a.data[i % cols];
        }
    }

    fn derivative<'t, T: Real>(
        &self,
        [a, b]: [Var<'t, T>; 2],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 2],
    ) -> [Option<Var<'t, T>>; 2] {
        let fault = self.0;
        let dy = match fault {
            Fault::IgnoredUpstream => dy.tape.full(dy.shape(), T::ONE),
            Fault::TransposedUpstream if dy.shape()[0] == dy.shape()[1] => dy.transpose(0, 1),
            _ => dy,
        };
        let detached = |x: Var<'t, T>| {
            let values = x.to_vec();
            x.tape.constant(View::new(&values, x.shape()))
        };
        let factor = if fault == Fault::SquareWithoutTwo { 1.0 } else { 2.0 };
        let da = match fault {
            Fault::CutGraph => dy * detached(a) * detached(b) * factor,
            Fault::WrongSign => -(dy * a * b * factor),
            _ => dy * a * b * factor,
        };
        let db = dy * a * a;
        let db = match fault {
            Fault::FirstRowInsteadOfSum if b.shape() != db.shape() => db.slice(0, 0..1).reshape(b.shape()),
            _ => db.sum_to(b.shape()),
        };
        [Some(da.sum_to(a.shape())), Some(db)]
    }
}
