//! Gradients as values on the tape: to be used in a computation, and to be differentiated again.

use weft_tensor::Real;

use super::{ABSENT, Var};
use crate::ops::MAX_INPUTS;

impl<'t, T: Real> Var<'t, T> {
    /// The gradients of this scalar by `inputs`, as values that are recorded and can be differentiated again.
    ///
    /// Primitive ops state their derivative as a graph; a fused op goes through its reference in primitives. An input
    /// that this scalar does not depend on gets zeros.
    ///
    /// # Panics
    /// If this is not a single element, or if [`Var::backward`] has released the values.
    #[track_caller]
    pub fn grad(self, inputs: &[Var<'t, T>]) -> Vec<Var<'t, T>> {
        assert!(
            self.shape().elements() == 1,
            "grad: the value must be one number, not of shape {}",
            self.shape()
        );
        let tape = self.tape;
        let mut slots = vec![None; self.id as usize + 1];
        slots[self.id as usize] = Some(tape.full(self.shape(), T::ONE));
        pull_back(&mut slots, self.id, 0);
        let grad = |input: &Var<'t, T>| slots.get(input.id as usize).copied().flatten();
        inputs.iter().map(|input| grad(input).unwrap_or_else(|| tape.full(input.shape(), T::ZERO))).collect()
    }
}

/// Spreads the gradients in `slots` (by node) from node `from` back to node `to`, whose own they keep.
fn pull_back<'t, T: Real>(slots: &mut Vec<Option<Var<'t, T>>>, from: u32, to: u32) {
    for id in (to..=from).rev() {
        let Some(dy) = slots[id as usize] else { continue };
        let tape = dy.tape;
        let (op, ids, needs) = {
            let inner = tape.inner.borrow();
            let node = &inner.nodes[id as usize];
            let Some(op) = node.op.as_ref().filter(|_| node.needs_grad) else { continue };
            let needs = node.inputs.map(|id| id != ABSENT && inner.nodes[id as usize].needs_grad);
            (op.clone(), node.inputs, needs)
        };
        let inputs = ids.map(|id| tape.var(id));
        if op.is_primitive() || op.is_reshape() {
            let derivatives = op.derivative(inputs, tape.var(id), dy, needs);
            for i in 0..MAX_INPUTS {
                if let (Some(derivative), true) = (derivatives[i], needs[i]) {
                    add(&mut slots[ids[i] as usize], derivative);
                }
            }
        } else {
            let start = tape.inner.borrow().nodes.len() as u32;
            let y = op.reference(inputs);
            slots.resize(slots.len().max(y.id as usize + 1), None);
            add(&mut slots[y.id as usize], dy);
            if y.id >= start {
                pull_back(slots, y.id, start);
            }
        }
    }
}

fn add<'t, T: Real>(slot: &mut Option<Var<'t, T>>, dx: Var<'t, T>) {
    *slot = Some(slot.map_or(dx, |sum| sum + dx));
}
