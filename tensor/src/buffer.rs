//! Memory for numbers: aligned buffers, and a pool that hands the hottest one out again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// What a buffer can hold: the numbers of kernels, and the packed pairs of bf16 that some read.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// What memory is filled with, where debug assertions are on, so that whoever reads before writing is found out.
    const GARBAGE: Self;

    /// This thread's pool behind [`with_scratch`].
    fn with_scratch_pool<R>(f: impl FnOnce(&Pool<Self>) -> R) -> R;
}

macro_rules! elements {
    ($($t:ident: $garbage:expr),*) => {$(
        impl Element for $t {
            const GARBAGE: Self = $garbage;

            fn with_scratch_pool<R>(f: impl FnOnce(&Pool<Self>) -> R) -> R {
                thread_local! {
                    static POOL: Pool<$t> = Pool::new();
                }
                POOL.with(f)
            }
        }
    )*};
}
// As a pair of bf16, the last is NaN twice.
elements!(f32: f32::NAN, f64: f64::NAN, u32: u32::MAX);

/// Sixteen numbers on a boundary that holds a cache line and a vector register.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line<T>([T; 16]);

/// A fixed-size array of numbers, aligned to 64 bytes.
#[derive(Default)]
pub struct Buffer<T> {
    lines: Vec<Line<T>>,
    len: usize,
}

impl<T: Element> Buffer<T> {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Buffer { lines: vec![Line([T::default(); 16]); len.div_ceil(16)], len }
    }
}

impl<T: Element> From<&[T]> for Buffer<T> {
    fn from(values: &[T]) -> Self {
        let mut buffer = Buffer::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer::from(&**self)
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `len` initialised numbers in a row: 16 numbers fill a line without padding.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Buffers waiting to be used again: last in, first out, by exact size.
///
/// Training asks for the same sizes at every step, so after the first step nothing comes from the system allocator, and
/// what is handed out is what was used last and is still in the cache.
#[derive(Default)]
pub struct Pool<T> {
    free: RefCell<BTreeMap<usize, Vec<Buffer<T>>>>,
    /// Numbers in all buffers that this pool has made.
    made: Cell<usize>,
}

impl<T: Element> Pool<T> {
    /// An empty pool.
    pub fn new() -> Self {
        Pool::default()
    }

    /// A buffer of `len` numbers whose values are left from earlier use.
    ///
    /// With debug assertions they are [`Element::GARBAGE`].
    pub fn take(&self, len: usize) -> Buffer<T> {
        let recycled = self.free.borrow_mut().get_mut(&len).and_then(Vec::pop);
        let mut buffer = recycled.unwrap_or_else(|| {
            self.made.set(self.made.get() + len);
            Buffer::zeros(len)
        });
        if cfg!(debug_assertions) {
            buffer.fill(T::GARBAGE);
        }
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Buffer<T>) {
        self.free.borrow_mut().entry(buffer.len()).or_default().push(buffer);
    }

    /// Numbers in all buffers made so far: the high-water mark of the pool's use.
    pub fn made(&self) -> usize {
        self.made.get()
    }
}

/// Runs `f` with `len` numbers of scratch space, their values left from earlier use.
///
/// Each thread keeps its own, so a kernel that is split over threads needs no workspace argument, and nothing is
/// allocated once every thread has run the kernel.
pub fn with_scratch<T: Element, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let mut buffer = T::with_scratch_pool(|pool| pool.take(len));
    let result = f(&mut buffer);
    T::with_scratch_pool(|pool| pool.give(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_exact() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let buffer = Buffer::<f32>::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0, "length {len} is not aligned");
        }
    }

    #[test]
    fn the_pool_hands_out_what_came_back_last() {
        let pool = Pool::<f32>::new();
        let (a, b) = (pool.take(8), pool.take(8));
        let last = a.as_ptr();
        pool.give(b);
        pool.give(a);
        let (a, b) = (pool.take(8), pool.take(8));
        assert_eq!(a.as_ptr(), last, "not the last buffer given");
        assert_eq!(b.len(), 8);
        assert_eq!(pool.made(), 16, "a recycled buffer was made anew");
    }
}
