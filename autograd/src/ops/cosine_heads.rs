//! Queries and keys of unit length, so that their product is a cosine similarity (Henry et al. 2020, arXiv:2010.04245).
//!
//! q̂ = s_h q / √(Σ q² + 1e-6) with a learned scale s_h for each query head,  k̂ = k / √(Σ k² + 1e-6),  v unchanged.

use weft_tensor::kernels::cosine;
use weft_tensor::{Grad, Real, Shape, ShapeError};

use weft_tensor::kernels::Heads;

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

/// Keeps the length of a zero vector away from zero.
const EPS: f64 = 1e-6;

#[derive(Clone, Copy)]
pub(crate) struct CosineHeads {
    heads: Heads,
}

impl Op<2> for CosineHeads {
    const NAMES: &'static [&'static str] = &["cosine_heads"];

    fn shape(&self, [qkv, scale]: [&Shape; 2]) -> Result<Shape, ShapeError> {
        super::attention::check("cosine_heads", &self.heads, qkv)?;
        if **scale != [self.heads.n_head] {
            return Err(ShapeError(format!("cosine_heads: scale {scale} is not [{}]", self.heads.n_head)));
        }
        Ok(*qkv)
    }

    fn cases(cases: &mut Cases) {
        for (heads, batch, seq_len) in super::attention::HEADS {
            let (qkv, scale) = (cases.normal([batch, seq_len, heads.width()]), cases.normal([heads.n_head]));
            // Away from zero length, where the direction turns quickly.
            cases.add("cosine_heads", [qkv, scale], move |[qkv, scale]| (qkv + 3.0).cosine_heads(scale, heads));
        }
    }
}

impl Fused<2> for CosineHeads {
    fn forward<T: Real>(&self, [qkv, scale]: [Input<'_, T>; 2], y: &mut [T], _saved: &mut [T]) {
        cosine::l2_normalize_heads(qkv.data, scale.data, self.heads, y);
    }

    // With r = 1/√(Σ x² + eps) and g = Σ x ∘ dy over a head:  dx = s r (dy − r² g x),  ds = Σ r g.
    fn backward<T: Real>(
        &self,
        [qkv, scale]: [Input<'_, T>; 2],
        _y: &[T],
        _saved: &[T],
        dy: &mut [T],
        [dqkv, dscale]: [Option<Grad<'_, T>>; 2],
    ) {
        cosine::l2_normalize_heads_backward(qkv.data, scale.data, self.heads, dy, dqkv, dscale);
    }

    fn reference<'t, T: Real>(&self, [qkv, scale]: [Var<'t, T>; 2]) -> Var<'t, T> {
        let Heads { n_head, n_kv_head, head_size } = self.heads;
        let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
        let (queries, keys) = (n_head * head_size, (n_head + n_kv_head) * head_size);
        let unit = |x: Var<'t, T>, n: usize| {
            let x = x.reshape([batch, seq_len, n, head_size]);
            x / ((x * x).sum(&[3], true) + EPS).sqrt()
        };
        let q = unit(qkv.slice(2, 0..queries), n_head) * scale.reshape([n_head, 1]);
        let k = unit(qkv.slice(2, queries..keys), n_kv_head);
        let (q, k) = (q.reshape([batch, seq_len, queries]), k.reshape([batch, seq_len, keys - queries]));
        Var::concat(&[q, k, qkv.slice(2, keys..self.heads.width())], 2)
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Divides every query and key of fused rows by its length and scales the queries of each head.
    ///
    /// Shapes: (B, T, (H + 2 H_kv) D), `scale` (H); gives the same shape.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn cosine_heads(self, scale: Var<'t, T>, heads: Heads) -> Var<'t, T> {
        self.tape.apply(CosineHeads { heads }, &[Some(self), Some(scale)])
    }
}
