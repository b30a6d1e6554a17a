//! Softmax cross-entropy: the negative log-probability of the targets.
//!
//! y = scale · Σᵢ (ln Σⱼ e^(xᵢⱼ) − xᵢ,ₜᵢ) over the rows i whose target t is not ignored.

use std::sync::Arc;

use weft_tensor::kernels::cross_entropy;
use weft_tensor::{Grad, Real, Shape, ShapeError, View};

use super::{Fused, Input, Op};
use crate::gradcheck::Cases;
use crate::tape::Var;

/// The target of a row that does not count.
pub const IGNORE: u32 = u32::MAX;

#[derive(Clone)]
pub(crate) struct CrossEntropy {
    targets: Arc<[u32]>,
    scale: f64,
}

impl Op<1> for CrossEntropy {
    const NAMES: &'static [&'static str] = &["cross_entropy"];

    fn shape(&self, [logits]: [&Shape; 1]) -> Result<Shape, ShapeError> {
        let fail = |what: String| Err(ShapeError(format!("cross_entropy: {what}")));
        if logits.rank() == 0 || logits.rows() != self.targets.len() {
            return fail(format!("{} targets for logits {logits}", self.targets.len()));
        }
        let vocab_size = logits.last();
        let wrong = self.targets.iter().position(|&t| t != IGNORE && t as usize >= vocab_size);
        match wrong {
            Some(i) => fail(format!("target {} at position {i} is out of range: vocab_size is {vocab_size}", self.targets[i])),
            None => Ok(Shape::SCALAR),
        }
    }

    fn cases(cases: &mut Cases) {
        const I: u32 = IGNORE;
        const BATCHES: [(&[usize], &[u32]); 8] = [
            (&[1], &[0]),
            (&[1, 1], &[0]),
            (&[0, 3], &[]),
            (&[1, 4], &[3]),
            (&[3, 2], &[0, 1, 1]),
            (&[3, 5], &[4, I, 0]),
            (&[2, 2, 3], &[I, 2, 1, I]),
            (&[2, 18], &[17, 3]),
        ];
        for (shape, targets) in BATCHES {
            let x = cases.normal(shape);
            let targets: Arc<[u32]> = targets.into();
            let again = targets.clone();
            cases.add("cross_entropy", [x.clone()], move |[x]| x.cross_entropy(targets.clone(), 0.5));
            cases.add("cross_entropy", [x], move |[x]| (x * x * 2.0).cross_entropy(again.clone(), 1.0));
        }
    }
}

impl Fused<1> for CrossEntropy {
    /// ln Σ e^x of every row.
    fn saved_len(&self, [logits]: [&Shape; 1]) -> usize {
        logits.rows()
    }

    fn forward<T: Real>(&self, [logits]: [Input<'_, T>; 1], y: &mut [T], saved: &mut [T]) {
        let sum = cross_entropy::cross_entropy(logits.data, &self.targets, IGNORE, saved);
        y[0] = T::from_f64(self.scale * sum);
    }

    // dx = dy · scale · (softmax(x) − onehot(t)), zero in the rows that are ignored.
    fn backward<T: Real>(
        &self,
        [logits]: [Input<'_, T>; 1],
        _y: &[T],
        saved: &[T],
        dy: &mut [T],
        [dlogits]: [Option<Grad<'_, T>>; 1],
    ) {
        if let Some(dlogits) = dlogits {
            let scale = dy[0] * T::from_f64(self.scale);
            cross_entropy::cross_entropy_backward(logits.data, &self.targets, IGNORE, saved, scale, dlogits);
        }
    }

    fn reference<'t, T: Real>(&self, [logits]: [Var<'t, T>; 1]) -> Var<'t, T> {
        if self.targets.is_empty() {
            return logits.sum_all(); // of nothing: 0
        }
        let rows = [logits.shape().rows(), logits.shape().last()];
        let ids: Vec<u32> = self.targets.iter().map(|&t| if t == IGNORE { 0 } else { t }).collect();
        let counts = self.targets.iter().map(|&t| if t == IGNORE { T::ZERO } else { T::ONE });
        let counts: Vec<T> = counts.collect();
        let counts = logits.tape.constant(View::new(&counts, [rows[0], 1].into()));
        let picked = logits.reshape(rows).log_softmax().gather(1, ids);
        (picked * counts).sum_all() * -self.scale
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// `scale` · Σ −ln softmax(x)ₜ over the rows whose target is not [`IGNORE`]: with `scale` = 1 / number of such rows, the mean
    /// negative log-probability of the targets in nats.
    ///
    /// Shapes: x (…, V), one target for every row; gives a scalar.
    ///
    /// # Panics
    /// If there is not one target for each row, or a target is not below V.
    #[track_caller]
    pub fn cross_entropy(self, targets: impl Into<Arc<[u32]>>, scale: f64) -> Var<'t, T> {
        self.tape.apply(CrossEntropy { targets: targets.into(), scale }, &[Some(self)])
    }
}
