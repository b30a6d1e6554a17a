//! One output, many writers: heads lie side by side in a row, so a head's part of `y` is not one slice.

use std::marker::PhantomData;

/// A mutable slice of which several threads write different elements.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: whoever calls `range` promises that no two threads hold the same element.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Shared { start: data.as_mut_ptr(), len: data.len(), lifetime: PhantomData }
    }

    /// Elements `start..start + len`. Panics if they are not all there.
    ///
    /// # Safety
    /// While the result lives, no other slice of the same elements may.
    #[inline(always)]
    pub(super) unsafe fn range(self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a range outside of the shared slice");
        // SAFETY: the elements lie in the slice that is borrowed for 'a, and nobody else holds them, by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
