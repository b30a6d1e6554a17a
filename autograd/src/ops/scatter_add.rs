//! Elements added up where their ids say, along an axis: the adjoint of gathering them.

use std::sync::Arc;

use weft_tensor::{Grad, Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone)]
pub(crate) struct ScatterAdd {
    axis: usize,
    ids: Arc<[u32]>,
    /// Boxed, or this rare op would set the size of every node.
    shape: Box<Shape>,
}

impl Op<1> for ScatterAdd {
    const NAMES: &'static [&'static str] = &["scatter_add"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        let gathered = strided::gather_shape(&self.shape, self.axis, &self.ids)?;
        if gathered != *x {
            return Err(ShapeError(format!("scatter_add: the ids want shape {gathered}, not {x}")));
        }
        Ok(*self.shape)
    }

    fn cases(cases: &mut Cases) {
        for (shape, axis, ids) in super::gather::PICKS {
            let shape = Shape::new(shape);
            let gathered = strided::gather_shape(&shape, axis, ids).expect("a case that fits");
            let x = cases.normal(gathered);
            let ids: Arc<[u32]> = ids.into();
            cases.add("scatter_add", [x], move |[x]| (x * x).scatter_add(axis, ids.clone(), shape));
        }
    }
}

impl Primitive<1> for ScatterAdd {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::gather_backward(x.view(), self.axis, &self.ids, *self.shape, Grad { data: y, add: false });
    }

    fn derivative<'t, T: Real>(
        &self,
        _inputs: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.gather(self.axis, self.ids.clone()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Zeros of shape `shape`, to which each element of this value is added where [`Var::gather`] would have taken it from.
    ///
    /// # Panics
    /// If the shapes do not fit or an id is out of range.
    #[track_caller]
    pub fn scatter_add(self, axis: usize, ids: impl Into<Arc<[u32]>>, shape: impl Into<Shape>) -> Var<'t, T> {
        self.tape.apply(ScatterAdd { axis, ids: ids.into(), shape: Box::new(shape.into()) }, &[Some(self)])
    }
}
