//! Visiting the elements of several strided arrays of one shape in row-major order.

use std::ops::Range;

use crate::shape::{MAX_RANK, Shape};

/// A shape with the strides of `N` arrays, reduced to as few dimensions as describe it.
#[derive(Clone, Copy)]
pub(super) struct Walk<const N: usize> {
    rank: usize,
    sizes: [usize; MAX_RANK],
    strides: [[usize; N]; MAX_RANK],
}

impl<const N: usize> Walk<N> {
    /// Dimensions of size 1 dropped, and neighbours merged where all arrays run on from one into the other.
    pub(super) fn new(shape: &Shape, strides: [&[usize; MAX_RANK]; N]) -> Self {
        let dims = (0..shape.rank()).map(|axis| (shape[axis], strides.map(|strides| strides[axis])));
        Walk::of_dims(dims, true)
    }

    /// `len` elements that lie one after another in every array.
    pub(super) fn flat(len: usize) -> Self {
        let mut walk = Walk { rank: 1, sizes: [1; MAX_RANK], strides: [[0; N]; MAX_RANK] };
        (walk.sizes[0], walk.strides[0]) = (len, [1; N]);
        walk
    }

    /// The dimensions (size, strides) in order; merged as by [`Walk::new`] if `merge`, else only without those of size 1.
    pub(super) fn of_dims(dims: impl Iterator<Item = (usize, [usize; N])>, merge: bool) -> Self {
        let mut walk = Walk { rank: 0, sizes: [1; MAX_RANK], strides: [[0; N]; MAX_RANK] };
        for (size, strides) in dims.filter(|(size, _)| *size != 1) {
            let last = walk.rank.wrapping_sub(1);
            if merge && walk.rank > 0 && (0..N).all(|i| walk.strides[last][i] == strides[i] * size) {
                walk.sizes[last] *= size;
                walk.strides[last] = strides;
            } else {
                walk.sizes[walk.rank] = size;
                walk.strides[walk.rank] = strides;
                walk.rank += 1;
            }
        }
        // A scalar is one dimension of size 1.
        walk.rank = walk.rank.max(1);
        walk
    }

    /// The number of elements.
    pub(super) fn elements(&self) -> usize {
        self.sizes[..self.rank].iter().product()
    }

    /// The strides of the last dimension: those within a run.
    pub(super) fn inner(&self) -> [usize; N] {
        self.strides[self.rank - 1]
    }

    /// The runs along the last dimension that cover elements `range`, counted row by row.
    #[inline(always)]
    pub(super) fn runs(&self, range: Range<usize>) -> Runs<'_, N> {
        let mut runs = Runs { walk: self, index: [0; MAX_RANK], offsets: [0; N], left: range.len() };
        if runs.left == 0 || range.start == 0 {
            return runs;
        }
        let mut position = range.start;
        for axis in (0..self.rank).rev() {
            runs.index[axis] = position % self.sizes[axis];
            position /= self.sizes[axis];
            for i in 0..N {
                runs.offsets[i] += runs.index[axis] * self.strides[axis][i];
            }
        }
        runs
    }
}

/// See [`Walk::runs`]: gives the position of the run's first element in each array, and its length.
pub(super) struct Runs<'a, const N: usize> {
    walk: &'a Walk<N>,
    index: [usize; MAX_RANK],
    offsets: [usize; N],
    left: usize,
}

impl<const N: usize> Iterator for Runs<'_, N> {
    type Item = ([usize; N], usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let walk = self.walk;
        let mut axis = walk.rank - 1;
        let start = self.offsets;
        let len = (walk.sizes[axis] - self.index[axis]).min(self.left);
        self.left -= len;
        self.step(axis, len);
        // Carry into the dimensions before, as an odometer does.
        while self.index[axis] == walk.sizes[axis] && axis > 0 {
            self.index[axis] = 0;
            for i in 0..N {
                self.offsets[i] -= walk.sizes[axis] * walk.strides[axis][i];
            }
            axis -= 1;
            self.step(axis, 1);
        }
        Some((start, len))
    }
}

impl<const N: usize> Runs<'_, N> {
    #[inline(always)]
    fn step(&mut self, axis: usize, by: usize) {
        self.index[axis] += by;
        for i in 0..N {
            self.offsets[i] += by * self.walk.strides[axis][i];
        }
    }
}
