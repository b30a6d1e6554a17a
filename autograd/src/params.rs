//! Parameters and their gradients: one flat buffer each, with named views.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use weft_tensor::kernels::gemm::{Mat, PackedWeight, Packing, Precision};
use weft_tensor::{Buffer, Real, Shape, View};

/// Which parameter of a [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub(crate) u32);

/// Where a parameter lies.
#[derive(Debug)]
struct Entry {
    name: String,
    shape: Shape,
    range: Range<usize>,
}

/// Names, shapes and places of parameters in a flat buffer, in the order in which they were added.
#[derive(Debug, Default)]
pub struct ParamLayout {
    entries: Vec<Entry>,
    len: usize,
}

impl ParamLayout {
    /// A layout of no parameters.
    pub fn new() -> Self {
        ParamLayout::default()
    }

    /// Adds a parameter. It begins on a 64-byte boundary; the gaps stay zero.
    ///
    /// # Panics
    /// If the name is taken.
    #[track_caller]
    pub fn add(&mut self, name: impl Into<String>, shape: impl Into<Shape>) -> ParamId {
        let (name, shape) = (name.into(), shape.into());
        assert!(self.find(&name).is_none(), "parameter `{name}` is added twice");
        let start = self.len.next_multiple_of(16);
        self.len = start + shape.elements();
        self.entries.push(Entry { name, shape, range: start..self.len });
        ParamId(self.entries.len() as u32 - 1)
    }

    /// The parameter of this name.
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.entries.iter().position(|entry| entry.name == name).map(|i| ParamId(i as u32))
    }

    /// Every parameter, in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = ParamId> + use<> {
        (0..self.entries.len() as u32).map(ParamId)
    }

    /// The name of a parameter.
    pub fn name(&self, id: ParamId) -> &str {
        &self.entry(id).name
    }

    /// The shape of a parameter.
    #[inline]
    pub fn shape(&self, id: ParamId) -> &Shape {
        &self.entry(id).shape
    }

    /// Where a parameter lies in the flat buffer.
    #[inline]
    pub fn range(&self, id: ParamId) -> Range<usize> {
        self.entry(id).range.clone()
    }

    /// The length of the flat buffer, gaps included.
    pub fn flat_len(&self) -> usize {
        self.len
    }

    /// The number of parameters, gaps not counted.
    pub fn elements(&self) -> usize {
        self.entries.iter().map(|entry| entry.shape.elements()).sum()
    }

    fn entry(&self, id: ParamId) -> &Entry {
        &self.entries[id.0 as usize]
    }
}

/// The parameters of a model: what a [`Tape`](crate::Tape) reads.
///
/// The weights of linear layers may be held in packed form as well ([`Params::prepare`]). Whoever gets to change a parameter
/// thereby puts the packed forms out of use, so they cannot be stale.
#[derive(Clone)]
pub struct Params<T: Real = f32> {
    layout: Arc<ParamLayout>,
    data: Buffer<T>,
    /// The packed form of each parameter that was prepared.
    packed: Vec<Option<PackedWeight<T>>>,
    /// The packed forms are those of the parameters as they stand.
    is_prepared: bool,
}

impl<T: Real> Params<T> {
    /// Parameters of value zero.
    pub fn zeros(layout: impl Into<Arc<ParamLayout>>) -> Self {
        let layout = layout.into();
        Params {
            data: Buffer::zeros(layout.flat_len()),
            packed: vec![None; layout.entries.len()],
            is_prepared: false,
            layout,
        }
    }

    /// Makes `weights`, matrices of (out, in), ready for use as weights of linear layers until a parameter changes: their products
    /// round to `precision`, and those that `packing` names find them packed. Packing changes no bits; it is worth its time
    /// where a weight is used more than once.
    ///
    /// # Panics
    /// If one of them is no matrix.
    pub fn prepare(&mut self, weights: &[ParamId], precision: Precision, packing: Packing) {
        for &id in weights {
            let shape = self.layout.shape(id);
            assert!(shape.rank() == 2, "prepare: parameter `{}` {shape} is no matrix", self.layout.name(id));
            let packed = &mut self.packed[id.0 as usize];
            if !packed.as_ref().is_some_and(|packed| packed.is(precision, packing)) {
                *packed = Some(PackedWeight::new(shape[0], shape[1], precision, packing));
            }
        }
        let Params { layout, data, packed, .. } = self;
        packed.par_iter_mut().zip(&layout.entries).for_each(|(packed, Entry { shape, range, .. })| {
            if let Some(packed) = packed {
                packed.pack(Mat::new(&data[range.clone()], shape[0], shape[1]));
            }
        });
        self.is_prepared = true;
    }

    /// The packed form of a parameter, if [`Params::prepare`] made it and nothing has changed since.
    pub(crate) fn packed(&self, id: ParamId) -> Option<&PackedWeight<T>> {
        self.packed[id.0 as usize].as_ref().filter(|_| self.is_prepared)
    }

    /// Parameters without names (they are called `0`, `1`, …) from views of any layout.
    pub fn from_views(views: &[View<'_, T>]) -> Self {
        let mut layout = ParamLayout::new();
        let ids: Vec<_> =
            views.iter().enumerate().map(|(i, view)| layout.add(i.to_string(), view.shape)).collect();
        let mut params = Params::zeros(layout);
        for (id, view) in ids.into_iter().zip(views) {
            weft_tensor::strided::copy_into(*view, params.get_mut(id));
        }
        params
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    /// A parameter as a view.
    pub fn view(&self, id: ParamId) -> View<'_, T> {
        View::new(self.get(id), *self.layout.shape(id))
    }

    /// The values of a parameter, row by row.
    pub fn get(&self, id: ParamId) -> &[T] {
        &self.data[self.layout.range(id)]
    }

    /// The values of a parameter, to change.
    pub fn get_mut(&mut self, id: ParamId) -> &mut [T] {
        self.is_prepared = false;
        &mut self.data[self.layout.range(id)]
    }

    /// The flat buffer.
    pub fn flat(&self) -> &[T] {
        &self.data
    }

    /// The flat buffer, to change.
    pub fn flat_mut(&mut self) -> &mut [T] {
        self.is_prepared = false;
        &mut self.data
    }

    /// The same parameters in another element type.
    pub fn cast<U: Real>(&self) -> Params<U> {
        let mut cast = Params::zeros(self.layout.clone());
        for (y, x) in cast.flat_mut().iter_mut().zip(self.flat()) {
            *y = U::from_f64(x.to_f64());
        }
        cast
    }
}

/// Gradients of parameters, laid out like the [`Params`] they belong to.
///
/// A gradient is overwritten at its first write after [`Grads::reset`] and added to afterwards, so nothing is ever
/// zero-filled. Until its first write a parameter has no gradient.
#[derive(Clone)]
pub struct Grads<T: Real = f32> {
    layout: Arc<ParamLayout>,
    data: Buffer<T>,
    written: Vec<bool>,
}

impl<T: Real> Grads<T> {
    /// No gradient for any parameter of `params`.
    pub fn new(params: &Params<T>) -> Self {
        let layout = params.layout.clone();
        Grads { data: Buffer::zeros(layout.flat_len()), written: vec![false; layout.entries.len()], layout }
    }

    /// Forgets every gradient.
    pub fn reset(&mut self) {
        self.written.fill(false);
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    /// The gradient of a parameter, if the loss reached it.
    pub fn get(&self, id: ParamId) -> Option<&[T]> {
        self.written[id.0 as usize].then(|| &self.data[self.layout.range(id)])
    }

    /// The names of the parameters without a gradient.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.layout.ids().filter(|id| !self.written[id.0 as usize]).map(|id| self.layout.name(id))
    }

    /// The flat buffer. Where a parameter has no gradient it holds anything.
    pub fn flat(&self) -> &[T] {
        &self.data
    }

    /// The flat buffer, to change.
    pub fn flat_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// The gradients of several parameters to write at once; an id is `None` where nothing is wanted.
    pub(crate) fn disjoint_mut<const N: usize>(
        &mut self,
        ids: [Option<ParamId>; N],
    ) -> [Option<weft_tensor::Grad<'_, T>>; N] {
        let ranges = ids.map(|id| id.map_or(0..0, |id| self.layout.range(id)));
        let slices = self.data.get_disjoint_mut(ranges).expect("parameters do not overlap");
        let mut ids = ids.into_iter();
        slices.map(|data| {
            let id = ids.next().flatten()?;
            let add = std::mem::replace(&mut self.written[id.0 as usize], true);
            Some(weft_tensor::Grad { data, add })
        })
    }
}
