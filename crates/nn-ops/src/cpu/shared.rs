//! Writing disjoint parts of one buffer from several threads, and buffers that need no zeroing first.

use std::marker::PhantomData;

/// A mutable slice that threads may write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice`, whose caller promises disjoint ranges, and `read`, whose caller that nobody writes.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            ptr: slice.as_mut_ptr(),
            len: slice.len(),
            life: PhantomData,
        }
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other live slice may overlap this range.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: in bounds by the assert; disjointness is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// The part `start..start + len`, which others may read, too.
    ///
    /// # Safety
    /// Nobody may write it meanwhile.
    pub(crate) unsafe fn read(&self, start: usize, len: usize) -> &'a [T] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: in bounds by the assert; that it is not written is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr.add(start), len) }
    }

    /// A pointer to `start`, from which `reach` floats lie within the buffer.
    ///
    /// # Safety
    /// What is written through it no other thread may read or write meanwhile.
    pub(crate) unsafe fn slice_at(&self, start: usize, reach: usize) -> *mut T {
        assert!(start.checked_add(reach).is_some_and(|end| end <= self.len));
        // SAFETY: in bounds by the assert.
        unsafe { self.ptr.add(start) }
    }
}

/// A vector of `len` floats with arbitrary content, for kernels that write every element.
pub(crate) fn scratch(len: usize) -> Vec<f32> {
    let mut v = Vec::<f32>::with_capacity(len);
    // SAFETY: the capacity was just reserved and every bit pattern is a valid f32; the callers overwrite all of it
    // (debug builds fill it with NaN, so that a missed element shows in the tests).
    #[allow(clippy::uninit_vec)]
    unsafe {
        v.set_len(len);
    }
    if cfg!(debug_assertions) {
        v.fill(f32::NAN);
    }
    v
}

/// One line of the caches.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _floats: [f32; 16],
}

/// Floats with arbitrary content that begin where a line of the caches does: a register of 16 never needs two lines.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

/// `len` of them, for kernels that write every element they read.
pub(crate) fn aligned(len: usize) -> Aligned {
    let count = len.div_ceil(16);
    let mut lines = Vec::<Line>::with_capacity(count);
    // SAFETY: as in `scratch`.
    #[allow(clippy::uninit_vec)]
    unsafe {
        lines.set_len(count);
    }
    if cfg!(debug_assertions) {
        lines.fill(Line {
            _floats: [f32::NAN; 16],
        });
    }
    Aligned { lines, len }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the lines are at least `len` floats, one after another without gaps.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
