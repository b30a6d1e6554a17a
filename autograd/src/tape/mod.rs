//! The tape: a growing array of nodes, and the walk back along it.

mod backward;
mod higher;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use weft_tensor::{Buffer, Real, Shape, View};

use crate::anomaly::{Anomaly, Extent, is_finite};
use crate::ops::{AnyOp, Input, MAX_INPUTS};
use crate::params::{ParamId, Params};
use crate::profile::{Profile, Work};

/// Stands for an input that an op does not have.
pub(crate) const ABSENT: u32 = u32::MAX;

/// Marks the handle of a parameter on a tape that does not record: the rest is the number of the parameter, which has no node.
const PARAM: u32 = 1 << 31;

/// Where the value of a node is.
enum Value<T> {
    /// In a buffer of the node's own.
    Owned(Buffer<T>),
    /// Among the parameters.
    Param(ParamId),
    /// In another node, which is no alias itself, under another shape.
    Alias(u32),
    /// Gone back to the pool.
    Released,
}

/// One recorded operation.
struct Node<T> {
    /// The op as a value, so that it can run again; `None` for a leaf.
    op: Option<AnyOp>,
    inputs: [u32; MAX_INPUTS],
    shape: Shape,
    value: Value<T>,
    /// What the op's forward keeps for its backward.
    saved: Option<Buffer<T>>,
    /// A gradient may be asked for: the node depends on a parameter or a variable.
    needs_grad: bool,
}

/// The storage of a tape.
struct Inner<T> {
    nodes: Vec<Node<T>>,
    /// The node of each parameter, once it is used.
    param_nodes: Vec<u32>,
    /// Ranges of nodes whose values were given up and are computed again when the walk back reaches the node after
    /// them, the result of the checkpoint.
    checkpoints: Vec<std::ops::Range<u32>>,
    /// Gradients on their way back, by node.
    slots: Vec<Option<Buffer<T>>>,
}

/// Memory that outlives a tape: buffers and node storage. One a thread; a steady-state step allocates nothing.
pub struct Pool<T = f32> {
    buffers: weft_tensor::Pool<T>,
    spare: RefCell<Option<Inner<T>>>,
    /// The ops of its tapes are timed.
    profile: Option<RefCell<Profile>>,
    /// The ops of its tapes are watched; the first that made a number which is not finite.
    watch: Option<RefCell<Option<Anomaly>>>,
}

impl<T: Real> Default for Pool<T> {
    fn default() -> Self {
        Pool::new()
    }
}

impl<T: Real> Pool<T> {
    /// An empty pool.
    pub fn new() -> Self {
        Pool { buffers: weft_tensor::Pool::new(), spare: RefCell::new(None), profile: None, watch: None }
    }

    /// The same pool, which from now on times the ops of its tapes. What they compute stays the same.
    pub fn profiled(self) -> Self {
        Pool { profile: Some(RefCell::default()), ..self }
    }

    /// What the ops of its tapes have taken so far, if it is a [`Pool::profiled`] one.
    pub fn profile(&self) -> Option<Profile> {
        self.profile.as_ref().map(|profile| profile.borrow().clone())
    }

    /// The same pool, which from now on looks at what the ops of its tapes make. What they compute stays the same.
    pub fn watched(self) -> Self {
        Pool { watch: Some(RefCell::default()), ..self }
    }

    /// The first op that made a number which is not finite, if this is a [`Pool::watched`] one.
    pub fn anomaly(&self) -> Option<Anomaly> {
        self.watch.as_ref().and_then(|first| first.borrow().clone())
    }

    /// Notes what an op has done, if someone wants to know and it is the first whose result `is_bad`.
    #[inline]
    fn notice(&self, is_bad: impl FnOnce() -> bool, anomaly: impl FnOnce() -> Anomaly) {
        let Some(first) = &self.watch else { return };
        if first.borrow().is_none() && is_bad() {
            first.replace(Some(anomaly()));
        }
    }

    /// Runs `f`, a call of `op` on inputs of these shapes, and times it if someone wants to know.
    #[inline]
    fn timed(
        &self,
        op: &AnyOp,
        backward: bool,
        (inputs, y): (&[&Shape; MAX_INPUTS], &Shape),
        work: impl FnOnce([Work; 2]) -> Work,
        f: impl FnOnce(),
    ) {
        let Some(profile) = &self.profile else { return f() };
        let time = Profile::time(f);
        profile.borrow_mut().count(op.name(), backward, time, work(op.work(inputs, y)), size_of::<T>());
    }

    /// Numbers in all buffers made so far: what activations and their gradients needed at most.
    pub fn made(&self) -> usize {
        self.buffers.made()
    }
}

/// Records operations as they run; [`Var::backward`] walks it in reverse.
///
/// A tape borrows the parameters, so they cannot change while it is alive, and a [`Var`] cannot outlive it. The values
/// on a tape are contiguous; they are released as the walk back passes them.
pub struct Tape<'p, T: Real = f32> {
    params: &'p Params<T>,
    pool: &'p Pool<T>,
    inner: RefCell<Inner<T>>,
    recording: Cell<bool>,
    /// The walk back has been done.
    spent: Cell<bool>,
    /// Fused ops run as their references.
    references: Cell<bool>,
}

/// A value on a tape: a `Copy` handle with operators.
pub struct Var<'t, T: Real = f32> {
    pub(crate) tape: &'t Tape<'t, T>,
    pub(crate) id: u32,
}

impl<T: Real> Clone for Var<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Real> Copy for Var<'_, T> {}

impl<'p, T: Real> Tape<'p, T> {
    /// A tape that records, to be walked back once.
    pub fn new(params: &'p Params<T>, pool: &'p Pool<T>) -> Self {
        let inner = pool.spare.take().unwrap_or_else(|| Inner {
            nodes: Vec::new(),
            param_nodes: Vec::new(),
            checkpoints: Vec::new(),
            slots: Vec::new(),
        });
        let tape = Tape {
            params,
            pool,
            inner: RefCell::new(inner),
            recording: Cell::new(true),
            spent: Cell::new(false),
            references: Cell::new(false),
        };
        tape.inner.borrow_mut().param_nodes.resize(params.layout().ids().len(), ABSENT);
        tape
    }

    /// A tape that computes and keeps nothing for a walk back.
    pub fn inference(params: &'p Params<T>, pool: &'p Pool<T>) -> Self {
        let tape = Tape::new(params, pool);
        tape.recording.set(false);
        tape
    }

    /// Will the walk back be possible?
    pub fn is_recording(&self) -> bool {
        self.recording.get()
    }

    /// The parameters that this tape reads.
    pub fn params(&self) -> &'p Params<T> {
        self.params
    }

    /// A parameter. The same handle however often it is asked for.
    pub fn param(&self, id: ParamId) -> Var<'_, T> {
        if !self.recording.get() {
            return self.var(PARAM | id.0);
        }
        let known = self.inner.borrow().param_nodes[id.0 as usize];
        if known != ABSENT {
            return self.var(known);
        }
        let var = self.push(Node {
            op: None,
            inputs: [ABSENT; MAX_INPUTS],
            shape: *self.params.layout().shape(id),
            value: Value::Param(id),
            saved: None,
            needs_grad: true,
        });
        self.inner.borrow_mut().param_nodes[id.0 as usize] = var.id;
        var
    }

    /// A value that nothing is differentiated by, copied from a view of any layout.
    pub fn constant(&self, view: View<'_, T>) -> Var<'_, T> {
        self.leaf(view, false)
    }

    /// A value to differentiate by with [`Var::grad`], copied from a view of any layout.
    pub fn variable(&self, view: View<'_, T>) -> Var<'_, T> {
        self.leaf(view, true)
    }

    /// The same number everywhere; nothing is differentiated by it.
    pub fn full(&self, shape: impl Into<Shape>, value: T) -> Var<'_, T> {
        let shape = shape.into();
        let mut buffer = self.take(shape.elements());
        buffer.fill(value);
        self.push_leaf(shape, buffer, false)
    }

    /// Numbers known in `f64`, rounded once; nothing is differentiated by them.
    ///
    /// # Panics
    /// If there are not as many as `shape` has elements.
    #[track_caller]
    pub fn constant_from_f64(&self, values: &[f64], shape: impl Into<Shape>) -> Var<'_, T> {
        let shape = shape.into();
        assert!(values.len() == shape.elements(), "constant: {} values for shape {shape}", values.len());
        let mut buffer = self.take(values.len());
        for (y, x) in buffer.iter_mut().zip(values) {
            *y = T::from_f64(*x);
        }
        self.push_leaf(shape, buffer, false)
    }

    fn leaf(&self, view: View<'_, T>, needs_grad: bool) -> Var<'_, T> {
        let mut buffer = self.take(view.shape.elements());
        weft_tensor::strided::copy_into(view, &mut buffer);
        self.push_leaf(view.shape, buffer, needs_grad)
    }

    fn push_leaf(&self, shape: Shape, buffer: Buffer<T>, needs_grad: bool) -> Var<'_, T> {
        let value = Value::Owned(buffer);
        self.push(Node { op: None, inputs: [ABSENT; MAX_INPUTS], shape, value, saved: None, needs_grad })
    }

    /// From now on fused ops run as their references in primitives, or again as themselves.
    pub(crate) fn use_references(&self, references: bool) {
        self.references.set(references);
    }

    /// Adds the names of the recorded ops to `names`.
    pub(crate) fn op_names(&self, names: &mut BTreeSet<&'static str>) {
        names.extend(self.inner.borrow().nodes.iter().filter_map(|node| Some(node.op.as_ref()?.name())));
    }

    /// Runs `op` and records it.
    #[track_caller]
    pub(crate) fn apply(&self, op: impl Into<AnyOp>, inputs: &[Option<Var<'_, T>>]) -> Var<'_, T> {
        let op = op.into();
        let mut ids = [ABSENT; MAX_INPUTS];
        for (id, input) in ids.iter_mut().zip(inputs) {
            if let Some(input) = input {
                assert!(std::ptr::addr_eq(self, input.tape), "{}: an input lies on another tape", op.name());
                *id = input.id;
            }
        }
        let (shape, saved_len, needs_grad) = {
            let inner = self.inner.borrow();
            let shapes = of_each(ids, |id| inner.shape(self.params, id));
            let shape = match op.shape(&shapes) {
                Ok(shape) => shape,
                // Not in a closure, so that the panic is at the caller's line.
                Err(error) => panic!("{error}"),
            };
            let needs_grad = |&id: &u32| id != ABSENT && inner.nodes[id as usize].needs_grad;
            (shape, op.saved_len(&shapes), self.recording.get() && ids.iter().any(needs_grad))
        };
        if op.is_reshape() {
            let value = Value::Alias(self.inner.borrow().root(ids[0]));
            return self.push(Node { op: Some(op), inputs: ids, shape, value, saved: None, needs_grad });
        }
        if self.references.get() && !op.is_primitive() {
            return op.reference(ids.map(|id| self.var(id)));
        }
        let (y, saved) = self.run(&op, ids, shape, saved_len);
        let saved = if needs_grad { saved } else { saved.and_then(|saved| self.give(saved)) };
        self.push(Node { op: Some(op), inputs: ids, shape, value: Value::Owned(y), saved, needs_grad })
    }

    /// The forward of `op`: its value, and what it saves.
    fn run(
        &self,
        op: &AnyOp,
        ids: [u32; MAX_INPUTS],
        shape: Shape,
        saved_len: usize,
    ) -> (Buffer<T>, Option<Buffer<T>>) {
        let mut y = self.take(shape.elements());
        let mut saved = (saved_len > 0).then(|| self.take(saved_len));
        let inner = self.inner.borrow();
        let inputs = of_each(ids, |id| inner.input(self.params, id));
        let shapes = of_each(inputs, |input| input.shape);
        // What the walk back computes forward, derivatives of primitives and lost values, is its expense.
        self.pool.timed(
            op,
            self.spent.get(),
            (&shapes, &shape),
            |[forward, _]| forward,
            || {
                op.forward(&inputs, &mut y, saved.as_deref_mut().unwrap_or_default());
            },
        );
        self.pool.notice(
            || !is_finite(&y),
            || Anomaly {
                op: op.name(),
                backward: self.spent.get(),
                inputs: inner.extents(self.params, ids).collect(),
            },
        );
        (y, saved)
    }

    /// Runs `f` and gives up the values of all it recorded but its result.
    ///
    /// They are computed again when the walk back comes to them: memory for one more forward pass (Chen et al. 2016,
    /// arXiv:1604.06174). Only the result of `f` may be used afterwards. Without recording, this frees memory early.
    pub fn checkpoint<'t>(&'t self, f: impl FnOnce() -> Var<'t, T>) -> Var<'t, T> {
        let start = self.inner.borrow().nodes.len() as u32;
        let y = f();
        if y.id >= start {
            let mut inner = self.inner.borrow_mut();
            let kept = inner.root(y.id);
            for id in (start..inner.nodes.len() as u32).filter(|&id| id != kept && id != y.id) {
                // A leaf cannot be computed again.
                if inner.nodes[id as usize].op.is_some() || !self.recording.get() {
                    inner.release(id, self.pool);
                }
            }
            if self.recording.get() {
                inner.checkpoints.push(start..y.id);
            }
        }
        y
    }

    /// Runs `f`; on a tape that does not record, gives up all values but its result, which saves memory for nothing.
    pub fn frugally<'t>(&'t self, f: impl FnOnce() -> Var<'t, T>) -> Var<'t, T> {
        if self.recording.get() { f() } else { self.checkpoint(f) }
    }

    fn push(&self, node: Node<T>) -> Var<'_, T> {
        let mut inner = self.inner.borrow_mut();
        inner.nodes.push(node);
        self.var(inner.nodes.len() as u32 - 1)
    }

    fn var(&self, id: u32) -> Var<'_, T> {
        Var { tape: self, id }
    }

    pub(crate) fn take(&self, len: usize) -> Buffer<T> {
        self.pool.buffers.take(len)
    }

    /// Gives a buffer back; `None`, so that an `Option` can be emptied in passing.
    fn give(&self, buffer: Buffer<T>) -> Option<Buffer<T>> {
        self.pool.buffers.give(buffer);
        None
    }
}

impl<T: Real> Drop for Tape<'_, T> {
    /// Gives every buffer and the node storage back to the pool.
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        for id in 0..inner.nodes.len() as u32 {
            inner.release(id, self.pool);
        }
        let mut inner = std::mem::replace(
            inner,
            Inner { nodes: Vec::new(), param_nodes: Vec::new(), checkpoints: Vec::new(), slots: Vec::new() },
        );
        inner.nodes.clear();
        inner.param_nodes.clear();
        inner.checkpoints.clear();
        inner.slots.clear();
        self.pool.spare.replace(Some(inner));
    }
}

/// `f` of every input. Written out, since `array::map` calls it through a loop and moves what it makes twice.
#[inline(always)]
fn of_each<A, R>([a, b, c, d]: [A; MAX_INPUTS], f: impl Fn(A) -> R) -> [R; MAX_INPUTS] {
    [f(a), f(b), f(c), f(d)]
}

/// The parameter that a handle without a node stands for.
#[inline]
fn without_node(id: u32) -> Option<ParamId> {
    (id & PARAM != 0 && id != ABSENT).then_some(ParamId(id & !PARAM))
}

impl<T: Real> Inner<T> {
    #[inline]
    fn shape<'a>(&'a self, params: &'a Params<T>, id: u32) -> &'a Shape {
        match (id, without_node(id)) {
            (ABSENT, _) => &Shape::EMPTY,
            (_, Some(param)) => params.layout().shape(param),
            _ => &self.nodes[id as usize].shape,
        }
    }

    /// The node that holds the value of `id`.
    fn root(&self, id: u32) -> u32 {
        if without_node(id).is_some() {
            return id;
        }
        match self.nodes[id as usize].value {
            Value::Alias(root) => root,
            _ => id,
        }
    }

    #[track_caller]
    fn data<'a>(&'a self, params: &'a Params<T>, id: u32) -> &'a [T] {
        let root = self.root(id);
        if let Some(param) = without_node(root) {
            return params.get(param);
        }
        let root = &self.nodes[root as usize];
        match &root.value {
            Value::Owned(buffer) => buffer,
            Value::Param(id) => params.get(*id),
            Value::Alias(_) => unreachable!("a root is no alias"),
            Value::Released => panic!(
                "the value of this `{}` has been released: read it before the walk back, or outside of its checkpoint",
                root.op.as_ref().map_or("leaf", |op| op.name())
            ),
        }
    }

    /// The parameter that `id` is.
    #[inline]
    fn param(&self, id: u32) -> Option<ParamId> {
        without_node(id).or_else(|| match self.nodes[id as usize].value {
            Value::Param(id) => Some(id),
            _ => None,
        })
    }

    #[inline]
    fn input<'a>(&'a self, params: &'a Params<T>, id: u32) -> Input<'a, T> {
        if id == ABSENT {
            return Input { data: &[], shape: &Shape::EMPTY, packed: None };
        }
        match self.param(id) {
            Some(id) => {
                Input { data: params.get(id), shape: params.layout().shape(id), packed: params.packed(id) }
            }
            None => {
                Input { data: self.data(params, id), shape: &self.nodes[id as usize].shape, packed: None }
            }
        }
    }

    /// What the inputs of an op are like.
    fn extents(&self, params: &Params<T>, ids: [u32; MAX_INPUTS]) -> impl Iterator<Item = Extent> {
        ids.into_iter().filter(|&id| id != ABSENT).map(|id| {
            let name = self.param(id).map(|param| params.layout().name(param));
            Extent::of(name, *self.shape(params, id), self.data(params, id))
        })
    }

    fn release(&mut self, id: u32, pool: &Pool<T>) {
        let node = &mut self.nodes[id as usize];
        if let Some(saved) = node.saved.take() {
            pool.buffers.give(saved);
        }
        if matches!(node.value, Value::Owned(_))
            && let Value::Owned(buffer) = std::mem::replace(&mut node.value, Value::Released)
        {
            pool.buffers.give(buffer);
        }
    }
}

impl<'t, T: Real> Var<'t, T> {
    /// The tape that this value lies on.
    pub fn tape(self) -> &'t Tape<'t, T> {
        self.tape
    }

    /// The shape.
    pub fn shape(self) -> Shape {
        *self.tape.inner.borrow().shape(self.tape.params, self.id)
    }

    /// Lets `f` read the values, row by row.
    ///
    /// # Panics
    /// If the walk back or a checkpoint has released them, or if `f` records.
    #[track_caller]
    pub fn with_values<R>(self, f: impl FnOnce(&[T]) -> R) -> R {
        f(self.tape.inner.borrow().data(self.tape.params, self.id))
    }

    /// The values, row by row, copied.
    #[track_caller]
    pub fn to_vec(self) -> Vec<T> {
        self.with_values(<[T]>::to_vec)
    }

    /// A value computed outside of the ops, from this one, without a derivative: for inference.
    ///
    /// `f` gets this value and the memory of the result, which may hold anything.
    ///
    /// # Panics
    /// If the tape records and a gradient could be asked for.
    #[track_caller]
    pub fn compute(self, shape: impl Into<Shape>, f: impl FnOnce(&[T], &mut [T])) -> Var<'t, T> {
        let (tape, shape) = (self.tape, shape.into());
        assert!(!tape.is_recording(), "compute: there is no derivative; use a tape for inference");
        let mut y = tape.take(shape.elements());
        self.with_values(|x| f(x, &mut y));
        tape.push_leaf(shape, y, false)
    }

    /// The value of a single element.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[track_caller]
    pub fn item(self) -> T {
        assert!(self.shape().elements() == 1, "item: shape {} has not exactly one element", self.shape());
        self.with_values(|values| values[0])
    }
}
