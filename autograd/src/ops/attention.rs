//! Causal self-attention over fused queries, keys and values (Vaswani et al. 2017, arXiv:1706.03762), with keys and values
//! shared by groups of query heads (Ainslie et al. 2023, arXiv:2305.13245).
//!
//! Sᵢⱼ = scale · qᵢ · kⱼ for j ≤ i,  P = softmax(S),  yᵢ = Σⱼ Pᵢⱼ vⱼ, in every head.

use weft_tensor::kernels::{Heads, attention};
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::profile::Work;
use crate::tape::Var;

/// The rule of the ops on fused rows: (B, T, (H + 2 H_kv) D).
pub(super) fn check(op: &str, heads: &Heads, qkv: &Shape) -> Result<(), ShapeError> {
    if qkv.rank() != 3 || qkv.last() != heads.width() {
        return Err(ShapeError(format!("{op}: input {qkv} is not (B, T, {}) for {heads:?}", heads.width())));
    }
    if heads.n_kv_head == 0 || !heads.n_head.is_multiple_of(heads.n_kv_head) {
        return Err(ShapeError(format!("{op}: {heads:?}: the key heads do not divide the query heads")));
    }
    Ok(())
}

/// Queries (B, H_kv, H/H_kv, T, D), keys and values (B, H_kv, 1, T, D) in primitives.
fn split_heads<'t, T: Real>(heads: &Heads, qkv: Var<'t, T>) -> [Var<'t, T>; 3] {
    let Heads { n_head, n_kv_head, head_size } = *heads;
    let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
    let mut start = 0;
    [n_head / n_kv_head, 1, 1].map(|group| {
        let width = n_kv_head * group * head_size;
        start += width;
        let part = qkv.slice(2, start - width..start);
        part.reshape([batch, seq_len, n_kv_head, group, head_size]).permute(&[0, 2, 3, 1, 4])
    })
}

/// Heads and row counts that cover groups, single rows and odd sizes.
pub(super) const HEADS: [(Heads, usize, usize); 8] = {
    const fn heads(n_head: usize, n_kv_head: usize, head_size: usize) -> Heads {
        Heads { n_head, n_kv_head, head_size }
    }
    [
        (heads(1, 1, 2), 1, 1),
        (heads(1, 1, 2), 1, 3),
        (heads(2, 2, 2), 2, 2),
        (heads(2, 1, 4), 1, 4),
        (heads(4, 2, 2), 1, 3),
        (heads(3, 1, 2), 1, 2),
        (heads(1, 1, 6), 0, 2),
        (heads(1, 1, 2), 1, 18),
    ]
};

#[derive(Clone, Copy)]
pub(crate) struct Attention {
    heads: Heads,
    scale: f64,
}

impl Attention {
    fn kernel(&self, qkv: &Shape) -> attention::Attention {
        attention::Attention {
            batch: qkv[0],
            seq_len: qkv[1],
            n_head: self.heads.n_head,
            n_kv_head: self.heads.n_kv_head,
            head_size: self.heads.head_size,
            scale: self.scale,
        }
    }
}

impl Op<1> for Attention {
    const NAMES: &'static [&'static str] = &["attention"];

    fn shape(&self, [qkv]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        check("attention", &self.heads, qkv)?;
        Ok(qkv.with_last(self.heads.n_head * self.heads.head_size))
    }

    // 4·D for each query and key that it sees forward, 10·D backward: the scores are computed again.
    fn work(&self, [qkv]: [&Shape; 1], _y: &Shape) -> [Work; 2] {
        let Heads { n_head, head_size, .. } = self.heads;
        let pairs = qkv[0] * n_head * qkv[1] * (qkv[1] + 1) / 2;
        [Work::Flops(4 * head_size * pairs), Work::Flops(10 * head_size * pairs)]
    }

    fn cases(cases: &mut Cases) {
        for (heads, batch, seq_len) in HEADS {
            let qkv = cases.normal([batch, seq_len, heads.width()]);
            cases.add("attention", [qkv.clone()], move |[qkv]| qkv.attention(heads, 0.7));
            cases.add("attention", [qkv], move |[qkv]| (qkv * qkv).attention(heads, 0.3));
        }
    }
}

impl Fused<1> for Attention {
    /// ln Σ e^S of every row of every head.
    fn saved_len(&self, [qkv]: [&Shape; 1]) -> usize {
        self.kernel(qkv).lse_len()
    }

    fn forward<T: Real>(&self, [qkv]: [Input<'_, T>; 1], y: &mut [T], saved: &mut [T]) {
        attention::attention(self.kernel(qkv.shape), qkv.data, y, saved);
    }

    // dV = Pᵀ dY,  dP = dY Vᵀ,  dS = P ∘ (dP − rowsum(dY ∘ Y)),  dQ = scale · dS K,  dK = scale · dSᵀ Q.
    fn backward<T: Real>(
        &self,
        [qkv]: [Input<'_, T>; 1],
        y: &[T],
        saved: &[T],
        dy: &mut [T],
        [dqkv]: [Option<Grad<'_, T>>; 1],
    ) {
        if let Some(dqkv) = dqkv {
            attention::attention_backward(self.kernel(qkv.shape), qkv.data, y, saved, dy, dqkv);
        }
    }

    fn reference<'t, T: Real>(&self, [qkv]: [Var<'t, T>; 1]) -> Var<'t, T> {
        let tape = qkv.tape;
        let (batch, seq_len) = (qkv.shape()[0], qkv.shape()[1]);
        let [q, k, v] = split_heads(&self.heads, qkv);
        let visible: Vec<T> =
            (0..seq_len * seq_len).map(|i| if i % seq_len <= i / seq_len { T::ONE } else { T::ZERO }).collect();
        let visible = tape.constant(View::new(&visible, [seq_len, seq_len].into()));
        let scores = q.matmul_transposed(k, false, true) * self.scale; // (B, Hkv, H/Hkv, T, T)
        let weights = visible.select(scores, tape.full(Shape::SCALAR, T::NEG_INFINITY)).softmax();
        let y = weights.matmul(v); // (B, Hkv, H/Hkv, T, D)
        y.permute(&[0, 3, 1, 2, 4]).reshape([batch, seq_len, self.heads.n_head * self.heads.head_size])
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// Causal attention of rows of fused queries, keys and values, with scores scale · q · k.
    ///
    /// Shape (B, T, (H + 2 H_kv) D); gives (B, T, H D).
    ///
    /// # Panics
    /// If the shape does not fit `heads`.
    #[track_caller]
    pub fn attention(self, heads: Heads, scale: f64) -> Var<'t, T> {
        self.tape.apply(Attention { heads, scale }, &[Some(self)])
    }
}
