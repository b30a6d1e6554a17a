//! At each place, the entry along an axis that an id names.

use std::sync::Arc;

use weft_tensor::{Real, Shape, ShapeError, strided};

use super::{Input, Op, Primitive};
use crate::gradcheck::Cases;
use crate::tape::Var;

#[derive(Clone)]
pub(crate) struct Gather {
    axis: usize,
    ids: Arc<[u32]>,
}

/// Shapes, axes and ids in the shape of the result.
pub(super) const PICKS: [(&[usize], usize, &[u32]); 8] = [
    (&[1], 0, &[0]),
    (&[3], 0, &[2, 2]),
    (&[3], 0, &[]),
    (&[2, 3], 1, &[2, 0]),
    (&[2, 3], 1, &[0, 1, 2, 2, 1, 1, 0, 0]),
    (&[2, 3], 0, &[1, 0, 1]),
    (&[2, 2, 3], 1, &[0, 1, 1, 0, 0, 1]),
    (&[2, 2, 3], 2, &[2, 0, 1, 1]),
];

impl Op<1> for Gather {
    const NAMES: &'static [&'static str] = &["gather"];

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        strided::gather_shape(x, self.axis, &self.ids)
    }

    fn cases(cases: &mut Cases) {
        for (shape, axis, ids) in PICKS {
            let x = cases.normal(shape);
            let ids: Arc<[u32]> = ids.into();
            cases.add("gather", [x], move |[x]| (x * x).gather(axis, ids.clone()));
        }
    }
}

impl Primitive<1> for Gather {
    fn forward<T: Real>(&self, [x]: [Input<'_, T>; 1], y: &mut [T]) {
        strided::gather(x.view(), self.axis, &self.ids, y);
    }

    fn derivative<'t, T: Real>(
        &self,
        [x]: [Var<'t, T>; 1],
        _y: Var<'t, T>,
        dy: Var<'t, T>,
        _needs: [bool; 1],
    ) -> [Option<Var<'t, T>>; 1] {
        [Some(dy.scatter_add(self.axis, self.ids.clone(), x.shape()))]
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// y\[…, i, …\] = x\[…, ids\[…, i, …\], …\], with as many ids as elements of the result, row by row.
    ///
    /// # Panics
    /// If there is no such axis, an id is out of range, or the ids do not fill the other dimensions.
    #[track_caller]
    pub fn gather(self, axis: usize, ids: impl Into<Arc<[u32]>>) -> Var<'t, T> {
        self.tape.apply(Gather { axis, ids: ids.into() }, &[Some(self)])
    }
}
