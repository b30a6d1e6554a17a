//! Entries along an axis by their ids: rows of a table, for one.

use std::sync::Arc;

use weft_tensor::{Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone)]
pub(crate) struct IndexSelect {
    axis: usize,
    ids: Arc<[u32]>,
}

/// Shapes, axes and ids, some of them repeated or left out.
pub(super) const PICKS: [(&[usize], usize, &[u32]); 8] = [
    (&[1], 0, &[0]),
    (&[3], 0, &[2, 0, 2]),
    (&[3], 0, &[]),
    (&[4, 3], 0, &[1, 1, 3]),
    (&[4, 3], 1, &[2, 0, 2, 2, 1]),
    (&[2, 3, 2], 1, &[0, 2]),
    (&[2, 3, 2], 2, &[1]),
    (&[2, 3, 2], 0, &[1, 0, 1]),
];

impl Op<1> for IndexSelect {
    const NAMES: &'static [&'static str] = &["index_select"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        strided::Layout::axis("index_select", x, self.axis)?;
        strided::check_ids("index_select", &self.ids, x[self.axis])?;
        let mut sizes = x.to_vec();
        sizes[self.axis] = self.ids.len();
        Ok(Shape::new(&sizes))
    }

    fn cases(cases: &mut Cases) {
        for (shape, axis, ids) in PICKS {
            let x = cases.normal(shape);
            let ids: Arc<[u32]> = ids.into();
            cases.add("index_select", [x], move |[x]| (x * x).index_select(axis, ids.clone()));
        }
    }
}

impl Primitive<1> for IndexSelect {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::index_select(x.view(), self.axis, &self.ids, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.index_add(self.axis, self.ids.clone(), x.shape()[self.axis]))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The entries `ids` along `axis`, in that order.
    ///
    /// # Panics
    /// If there is no such axis, or an id is out of range.
    #[track_caller]
    pub fn index_select(self, axis: usize, ids: impl Into<Arc<[u32]>>) -> Var<'t, T> {
        self.tape.apply(IndexSelect { axis, ids: ids.into() }, &[Some(self)])
    }
}
