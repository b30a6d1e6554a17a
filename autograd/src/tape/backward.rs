//! The walk back: gradients of the parameters, in memory that is given back as it goes.

use weft_tensor::kernels::elementwise::axpy;
use weft_tensor::{Buffer, Grad, Real};

use super::{ABSENT, Tape, Value, Var};
use crate::anomaly::{Anomaly, Extent, is_finite};
use crate::ops::{AnyOp, MAX_INPUTS, accumulate};
use crate::params::{Grads, ParamId};

/// Where the gradient of an input goes.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    /// Nobody needs it.
    Nowhere,
    /// To the caller's flat buffer.
    Param(ParamId),
    /// To a node further back.
    Node(u32),
}

impl<'t, T: Real> Var<'t, T> {
    /// Adds the gradient of this scalar by every parameter it depends on to `grads`.
    ///
    /// The walk releases values as it passes them; only this scalar's stays.
    ///
    /// # Panics
    /// If this is not a single element, if the tape was walked before or does not record, or if `grads` belongs to
    /// other parameters.
    #[track_caller]
    pub fn backward(self, grads: &mut Grads<T>) {
        let tape = self.tape;
        assert!(
            self.shape().elements() == 1,
            "backward: the loss must be one number, not of shape {}",
            self.shape()
        );
        assert!(!tape.spent.get(), "backward: this tape has been walked already; record the step again");
        assert!(tape.is_recording(), "backward: this tape does not record");
        assert!(
            grads.flat().len() == tape.params().flat().len(),
            "backward: grads belong to other parameters"
        );
        let mut dy = tape.take(1);
        dy.fill(T::ONE);
        tape.spent.set(true);
        tape.recording.set(false);
        Walk::new(tape, self.id).run(dy, grads);
    }
}

/// The state of one walk.
struct Walk<'t, T: Real> {
    tape: &'t Tape<'t, T>,
    root: u32,
    slots: Vec<Option<Buffer<T>>>,
}

impl<'t, T: Real> Walk<'t, T> {
    fn new(tape: &'t Tape<'t, T>, root: u32) -> Self {
        let mut slots = std::mem::take(&mut tape.inner.borrow_mut().slots);
        slots.resize_with(root as usize + 1, || None);
        Walk { tape, root, slots }
    }

    fn run(mut self, dy: Buffer<T>, grads: &mut Grads<T>) {
        self.slots[self.root as usize] = Some(dy);
        // The loss may be a reshape of the value that stays.
        let kept = [self.root, self.tape.inner.borrow().root(self.root)];
        for id in (0..=self.root).rev() {
            if let Some(dy) = self.slots[id as usize].take() {
                self.recompute(id);
                if let Some(dy) = self.step(id, dy, grads) {
                    self.tape.give(dy);
                }
            }
            if !kept.contains(&id) {
                self.tape.inner.borrow_mut().release(id, self.tape.pool);
            }
        }
        self.tape.inner.borrow_mut().slots = self.slots;
    }

    /// Hands the gradient of node `id` to its inputs; returns its buffer, unless an input took it.
    fn step(&mut self, id: u32, mut dy: Buffer<T>, grads: &mut Grads<T>) -> Option<Buffer<T>> {
        let (op, inputs) = {
            let inner = self.tape.inner.borrow();
            let node = &inner.nodes[id as usize];
            match (&node.op, &node.value) {
                (Some(op), _) if node.needs_grad => (op.clone(), node.inputs),
                // A parameter that is itself the loss.
                (None, Value::Param(param)) => {
                    let [grad] = grads.disjoint_mut([Some(*param)]);
                    accumulate(grad.expect("one gradient for one id"), &dy);
                    return Some(dy);
                }
                // The loss depends on no parameter, and its op has given up what it saved.
                _ => return Some(dy),
            }
        };
        let mut targets = inputs.map(|input| self.target(input));
        if op.is_reshape() {
            return self.put(targets[0], dy, grads);
        }
        if op.is_primitive() {
            self.primitive(&op, id, inputs, targets, dy, grads);
            return None;
        }
        let passed = op.passes().map(|i| std::mem::replace(&mut targets[i], Target::Nowhere));
        self.fused(&op, id, inputs, targets, &mut dy, grads);
        self.put(passed.unwrap_or(Target::Nowhere), dy, grads)
    }

    /// A fused op writes the gradients of its inputs where they belong.
    fn fused(
        &mut self,
        op: &AnyOp,
        id: u32,
        inputs: [u32; MAX_INPUTS],
        targets: [Target; MAX_INPUTS],
        dy: &mut [T],
        grads: &mut Grads<T>,
    ) {
        // One of two equal targets is written apart and added afterwards.
        let repeated: [bool; MAX_INPUTS] = std::array::from_fn(|i| targets[..i].contains(&targets[i]));
        let mut apart: [Option<(Buffer<T>, bool)>; MAX_INPUTS] = std::array::from_fn(|i| {
            let len = self.tape.inner.borrow().shape(self.tape.params, inputs[i]).elements();
            match targets[i] {
                Target::Nowhere => None,
                _ if repeated[i] => Some((self.tape.take(len), false)),
                Target::Param(_) => None,
                Target::Node(node) => match self.slots[node as usize].take() {
                    Some(buffer) => Some((buffer, true)),
                    None => Some((self.tape.take(len), false)),
                },
            }
        });
        {
            let inner = self.tape.inner.borrow();
            let node = &inner.nodes[id as usize];
            let values = inputs.map(|input| inner.input(self.tape.params, input));
            let shapes = values.map(|value| value.shape);
            let y = inner.data(self.tape.params, id);
            let params = std::array::from_fn(|i| match targets[i] {
                Target::Param(param) if !repeated[i] => Some(param),
                _ => None,
            });
            let mut outputs = grads.disjoint_mut(params);
            for (output, apart) in outputs.iter_mut().zip(&mut apart) {
                if let Some((data, add)) = apart {
                    *output = Some(Grad { data, add: *add });
                }
            }
            self.tape.pool.timed(
                op,
                true,
                (&shapes, &node.shape),
                |[_, backward]| backward,
                || {
                    op.backward(&values, y, node.saved.as_deref().unwrap_or_default(), dy, outputs);
                },
            );
            let layout = self.tape.params.layout();
            self.tape.pool.notice(
                || {
                    let inner = apart.iter().flatten().all(|(data, _)| is_finite(data));
                    let mut params = params.iter().flatten().map(|&id| &grads.flat()[layout.range(id)]);
                    !(inner && params.all(is_finite))
                },
                || {
                    let of_y = Extent::of(None, node.shape, dy);
                    let inputs = inner.extents(self.tape.params, inputs).chain([of_y]).collect();
                    Anomaly { op: op.name(), backward: true, inputs }
                },
            );
        }
        for i in 0..MAX_INPUTS {
            if let Some((buffer, _)) = apart[i].take()
                && let Some(buffer) = self.put(targets[i], buffer, grads)
            {
                self.tape.give(buffer);
            }
        }
    }

    /// A primitive states its gradients in `Var`s: they run at the end of the tape, and what they recorded is dropped.
    fn primitive(
        &mut self,
        op: &AnyOp,
        id: u32,
        inputs: [u32; MAX_INPUTS],
        targets: [Target; MAX_INPUTS],
        dy: Buffer<T>,
        grads: &mut Grads<T>,
    ) {
        let tape = self.tape;
        let (mark, shape) = {
            let inner = tape.inner.borrow();
            (inner.nodes.len() as u32, *inner.shape(tape.params, id))
        };
        let dy = tape.push_leaf(shape, dy, false);
        let needs = targets.map(|target| target != Target::Nowhere);
        let derivatives = op.derivative(inputs.map(|input| tape.var(input)), tape.var(id), dy, needs);
        let roots = derivatives.map(|derivative| derivative.map(|var| tape.inner.borrow().root(var.id)));
        for (i, derivative) in derivatives.into_iter().enumerate() {
            let (Some(derivative), true) = (derivative, needs[i]) else { continue };
            let expected = *tape.inner.borrow().shape(tape.params, inputs[i]);
            assert_eq!(derivative.shape(), expected, "derivative {i} of `{}` has the wrong shape", op.name());
            // Two inputs may share one derivative, as those of a sum do: the last of them takes the buffer.
            let last = roots[i].is_some_and(|root| root >= mark) && !roots[i + 1..].contains(&roots[i]);
            let buffer = if last { tape.steal(derivative.id) } else { tape.copy(derivative.id) };
            if let Some(buffer) = self.put(targets[i], buffer, grads) {
                tape.give(buffer);
            }
        }
        let mut inner = tape.inner.borrow_mut();
        for id in mark..inner.nodes.len() as u32 {
            inner.release(id, tape.pool);
        }
        inner.nodes.truncate(mark as usize);
    }

    /// Adds a gradient to its target; returns the buffer, unless the target took it.
    fn put(&mut self, target: Target, buffer: Buffer<T>, grads: &mut Grads<T>) -> Option<Buffer<T>> {
        match target {
            Target::Nowhere => Some(buffer),
            Target::Param(param) => {
                let [grad] = grads.disjoint_mut([Some(param)]);
                accumulate(grad.expect("one gradient for one id"), &buffer);
                Some(buffer)
            }
            Target::Node(node) => match &mut self.slots[node as usize] {
                Some(sum) => {
                    axpy(T::ONE, &buffer, sum);
                    Some(buffer)
                }
                empty => {
                    *empty = Some(buffer);
                    None
                }
            },
        }
    }

    fn target(&self, input: u32) -> Target {
        if input == ABSENT {
            return Target::Nowhere;
        }
        let inner = self.tape.inner.borrow();
        let node = &inner.nodes[input as usize];
        match node.value {
            Value::Param(param) => Target::Param(param),
            _ if node.needs_grad => Target::Node(input),
            _ => Target::Nowhere,
        }
    }

    /// Computes again what the checkpoint whose result is `id` gave up.
    fn recompute(&self, id: u32) {
        let tape = self.tape;
        let next = || tape.inner.borrow_mut().checkpoints.pop_if(|range| range.end >= id);
        // The walk has passed by the results of others on which the loss does not depend: nothing from `id` on is needed.
        for id in std::iter::from_fn(next).flat_map(|range| range.start..range.end.min(id)) {
            let (op, inputs, shape, saved_len) = {
                let inner = tape.inner.borrow();
                let node = &inner.nodes[id as usize];
                let (Value::Released, Some(op)) = (&node.value, &node.op) else { continue };
                let shapes = node.inputs.map(|input| inner.shape(tape.params, input));
                (op.clone(), node.inputs, node.shape, op.saved_len(&shapes))
            };
            let (y, saved) = tape.run(&op, inputs, shape, saved_len);
            let node = &mut tape.inner.borrow_mut().nodes[id as usize];
            (node.value, node.saved) = (Value::Owned(y), saved);
        }
    }
}

impl<T: Real> Tape<'_, T> {
    /// Takes the buffer of a value that nobody else will read.
    fn steal(&self, id: u32) -> Buffer<T> {
        let mut inner = self.inner.borrow_mut();
        let root = inner.root(id) as usize;
        match std::mem::replace(&mut inner.nodes[root].value, Value::Released) {
            Value::Owned(buffer) => buffer,
            _ => unreachable!("what a derivative computes is owned"),
        }
    }

    fn copy(&self, id: u32) -> Buffer<T> {
        let inner = self.inner.borrow();
        let data = inner.data(self.params, id);
        let mut copy = self.take(data.len());
        copy.copy_from_slice(data);
        copy
    }
}
