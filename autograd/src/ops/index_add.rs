//! Entries added up where their ids say, along an axis: the adjoint of selecting them.

use std::sync::Arc;

use weft_tensor::{Grad, Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone)]
pub(crate) struct IndexAdd {
    axis: usize,
    ids: Arc<[u32]>,
    size: usize,
}

impl IndexAdd {
    fn result(&self, x: &Shape) -> Shape {
        let mut sizes = x.to_vec();
        sizes[self.axis] = self.size;
        Shape::new(&sizes)
    }
}

impl Op<1> for IndexAdd {
    const NAMES: &'static [&'static str] = &["index_add"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        strided::Layout::axis("index_add", x, self.axis)?;
        strided::check_ids("index_add", &self.ids, self.size)?;
        if x[self.axis] != self.ids.len() {
            let ids = self.ids.len();
            return Err(ShapeError(format!("index_add: {ids} ids for the entries of {x} along axis {}", self.axis)));
        }
        Ok(self.result(x))
    }

    fn cases(cases: &mut Cases) {
        for (shape, axis, ids) in super::index_select::PICKS {
            let (ids, size): (Arc<[u32]>, usize) = (ids.into(), shape[axis]);
            let mut entries = shape.to_vec();
            entries[axis] = ids.len();
            let x = cases.normal(entries.as_slice());
            cases.add("index_add", [x], move |[x]| (x * x).index_add(axis, ids.clone(), size));
        }
    }
}

impl Primitive<1> for IndexAdd {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        let shape = self.result(x.shape);
        strided::index_select_backward(x.view(), self.axis, &self.ids, shape, Grad { data: y, add: false });
    }

    fn derivative<'t, T: Real>(
        &self,
        _inputs: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.index_select(self.axis, self.ids.clone()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Zeros of size `size` along `axis`, to which entry i of this value is added at `ids[i]`.
    ///
    /// # Panics
    /// If there is no such axis, an id is out of range, or there are not as many ids as entries.
    #[track_caller]
    pub fn index_add(self, axis: usize, ids: impl Into<Arc<[u32]>>, size: usize) -> Var<'t, T> {
        self.tape.apply(IndexAdd { axis, ids: ids.into(), size }, &[Some(self)])
    }
}
