//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), on the query and key heads of fused rows.
//!
//! Pair (xᵢ, xᵢ₊ₕ), h = D/2, of a head at position t turns by the angle t · base^(−2i/D):
//! yᵢ = xᵢ cos − xᵢ₊ₕ sin,  yᵢ₊ₕ = xᵢ sin + xᵢ₊ₕ cos.

use weft_tensor::kernels::{Heads, rotary};
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

pub use weft_tensor::kernels::rotary::{BASE, rotary_table};

#[derive(Clone, Copy)]
pub(crate) struct Rotary {
    heads: Heads,
    /// The position of the first token of every sequence.
    first: usize,
}

impl Op<2> for Rotary {
    const NAMES: &'static [&'static str] = &["rotary"];

    fn shape(&self, [qkv, table]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        super::attention::check("rotary", &self.heads, qkv)?;
        let (half, end) = (self.heads.head_size / 2, self.first + qkv[1]);
        if !self.heads.head_size.is_multiple_of(2) {
            return Err(ShapeError(format!("rotary: heads of {} numbers have no pairs", self.heads.head_size)));
        }
        if table.rank() != 3 || table[0] != 2 || table[1] < end || table[2] != half {
            return Err(ShapeError(format!("rotary: table {table} is not (2, at least {end}, {half})")));
        }
        Ok(*qkv)
    }

    fn cases(cases: &mut Cases) {
        for (heads, batch, seq_len) in super::attention::HEADS {
            let qkv = cases.normal([batch, seq_len, heads.width()]);
            for first in [0, 2] {
                cases.add("rotary", [qkv.clone()], move |[qkv]| {
                    let positions = first + seq_len;
                    let table = rotary_table::<f64>(positions, heads.head_size, BASE);
                    let table = View::new(&table, [2, positions, heads.head_size / 2].into());
                    qkv.rotary(qkv.tape.constant(table), heads, first)
                });
            }
        }
    }
}

impl Fused<2> for Rotary {
    fn forward<T: Real>(&self, [qkv, table]: [Input<'_, T>; 2], y: &mut [T], _saved: &mut [T]) {
        let out = Grad { data: y, add: false };
        rotary::rotary(qkv.data, table.data, self.heads, qkv.shape[1], self.first, false, out);
    }

    // The adjoint of a rotation turns back.
    fn backward<T: Real>(
        &self,
        [qkv, table]: [Input<'_, T>; 2],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dqkv, _]: [Option<Grad<'_, T>>; 2],
    ) {
        if let Some(dqkv) = dqkv {
            rotary::rotary(dy, table.data, self.heads, qkv.shape[1], self.first, true, dqkv);
        }
    }

    fn reference<'t, T: Real>(&self, [qkv, table]: [Var<'t, T>; 2]) -> Var<'t, T> {
        let Heads { n_head, n_kv_head, head_size } = self.heads;
        let (batch, seq_len, half) = (qkv.shape()[0], qkv.shape()[1], head_size / 2);
        let turned = (n_head + n_kv_head) * head_size;
        let [cos, sin] = [0, 1].map(|part| {
            let rows = table.slice(0, part..part + 1).slice(1, self.first..self.first + seq_len);
            rows.reshape([seq_len, 1, half])
        });
        let x = qkv.slice(2, 0..turned).reshape([batch, seq_len, n_head + n_kv_head, head_size]);
        let (x0, x1) = (x.slice(3, 0..half), x.slice(3, half..head_size));
        let y = Var::concat(&[x0 * cos - x1 * sin, x0 * sin + x1 * cos], 3);
        Var::concat(&[y.reshape([batch, seq_len, turned]), qkv.slice(2, turned..self.heads.width())], 2)
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Turns queries and keys of fused rows by angles that grow with the position; token t of each sequence is at `first` + t.
    ///
    /// Shapes: (B, T, (H + 2 H_kv) D), `table` (2, positions, D/2) by [`rotary_table`]; gives the same shape. Nothing is
    /// differentiated by the table.
    ///
    /// # Panics
    /// If the shapes do not fit, or a position is beyond the table.
    #[track_caller]
    pub fn rotary(self, table: Var<'t, T>, heads: Heads, first: usize) -> Var<'t, T> {
        self.tape.apply(Rotary { heads, first }, &[Some(self), Some(table)])
    }
}
