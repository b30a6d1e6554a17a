//! Token embedding, with learned positions added.
//!
//! yᵢ = table[idᵢ] + positions[first + t], for token t of a sequence.

use std::sync::Arc;

use weft_tensor::kernels::embedding::{self, Positions};
use weft_tensor::{Grad, Real, Shape, ShapeError, strided};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::profile::Work;
use crate::tape::Var;

#[derive(Clone)]
pub(crate) struct Embedding {
    ids: Arc<[u32]>,
    seq_len: usize,
    /// The position of the first token of every sequence, if there are positions.
    first: Option<usize>,
}

impl Op<2> for Embedding {
    const NAMES: &'static [&'static str] = &["embedding"];

    fn shape(&self, [table, positions]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        let fail = |what: String| Err(ShapeError(format!("embedding: {what}")));
        if table.rank() != 2 {
            return fail(format!("table {table} is no matrix"));
        }
        if self.seq_len == 0 || !self.ids.len().is_multiple_of(self.seq_len) {
            return fail(format!("{} ids are not sequences of {}", self.ids.len(), self.seq_len));
        }
        strided::check_ids("embedding", &self.ids, table[0])?;
        if let Some(first) = self.first {
            let end = first + self.seq_len;
            if positions.rank() != 2 || positions[1] != table[1] || positions[0] < end {
                return fail(format!("positions {positions} with table {table}, {end} positions wanted"));
            }
        }
        Ok(Shape::from([self.ids.len() / self.seq_len, self.seq_len, table[1]]))
    }

    // Of the table only the rows that are looked up.
    fn work(&self, _inputs: [&Shape; 2], y: &Shape) -> [Work; 2] {
        [Work::Numbers(2 * y.elements()), Work::Numbers(3 * y.elements())]
    }

    fn cases(cases: &mut Cases) {
        const IDS: [(&[u32], usize, [usize; 2]); 8] = [
            (&[0], 1, [1, 1]),
            (&[2, 0], 1, [3, 2]),
            (&[1, 1, 1], 3, [2, 3]),
            (&[0, 3, 3, 1], 2, [4, 2]),
            (&[], 2, [2, 2]),
            (&[4, 0, 4, 2, 1, 0], 3, [5, 1]),
            (&[1, 0], 2, [2, 17]),
            (&[0, 1, 2, 3], 4, [4, 4]),
        ];
        for (ids, seq_len, [vocab_size, cols]) in IDS {
            let (table, positions) = (cases.normal([vocab_size, cols]), cases.normal([seq_len + 1, cols]));
            let ids: Arc<[u32]> = ids.into();
            let again = ids.clone();
            cases.add("embedding", [table.clone()], move |[table]| table.embedding(ids.clone(), seq_len, None));
            cases.add("embedding", [table, positions], move |[table, positions]| {
                table.embedding(again.clone(), seq_len, Some((positions, 1)))
            });
        }
    }
}

impl Fused<2> for Embedding {
    fn forward<T: Real>(&self, [table, positions]: [Input<'_, T>; 2], y: &mut [T], _saved: &mut [T]) {
        let positions = self.first.map(|first| Positions { table: positions.data, seq_len: self.seq_len, first });
        embedding::embedding(&self.ids, table.data, table.shape.last(), positions, y);
    }

    // Row i of dy is added to row idᵢ of dtable and to the row of its position, in order of i.
    fn backward<T: Real>(
        &self,
        [table, _]: [Input<'_, T>; 2],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dtable, dpositions]: [Option<Grad<'_, T>>; 2],
    ) {
        let cols = table.shape.last();
        if let Some(dtable) = dtable {
            embedding::embedding_backward(&self.ids, dy, cols, dtable);
        }
        if let (Some(dpositions), Some(first)) = (dpositions, self.first) {
            embedding::positions_backward(dy, self.seq_len, first, cols, dpositions);
        }
    }

    fn reference<'t, T: Real>(&self, [table, positions]: [Var<'t, T>; 2]) -> Var<'t, T> {
        let y = table.index_select(0, self.ids.clone());
        let y = y.reshape([self.ids.len() / self.seq_len, self.seq_len, table.shape()[1]]);
        match self.first {
            Some(first) => y + positions.slice(0, first..first + self.seq_len),
            None => y,
        }
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The rows of this table that `ids` name; with `positions`, plus the row of that table for the place of each token in its
    /// sequence, counted from the number beside it.
    ///
    /// Shapes: table (V, C), ids (B · `seq_len`), positions (at least first + `seq_len`, C); gives (B, `seq_len`, C).
    ///
    /// # Panics
    /// If the shapes do not fit, or an id is not below V.
    #[track_caller]
    pub fn embedding(
        self,
        ids: impl Into<Arc<[u32]>>,
        seq_len: usize,
        positions: Option<(Var<'t, T>, usize)>,
    ) -> Var<'t, T> {
        let first = positions.map(|(_, first)| first);
        let op = Embedding { ids: ids.into(), seq_len, first };
        self.tape.apply(op, &[Some(self), positions.map(|(table, _)| table)])
    }
}
