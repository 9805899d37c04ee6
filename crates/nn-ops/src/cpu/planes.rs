//! Where blocks of 16 channels lie within a buffer that many layers share.

use super::blocked::{BLOCK, Blocked};
use super::shared::SharedMut;

/// Blocks of channels of a batch of pictures: block b of picture n begins at `start + (n * total + b) * ph * pw * 16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planes {
    pub start: usize,
    /// Blocks from one picture to the next; more than this one's own where it is part of a wider picture.
    pub total: usize,
    pub h: usize,
    pub w: usize,
    /// Lines and columns above and to the left.
    pub before: usize,
    /// Lines and columns in all.
    pub ph: usize,
    pub pw: usize,
}

impl From<&Blocked> for Planes {
    fn from(b: &Blocked) -> Self {
        Self {
            start: 0,
            total: b.blocks(),
            h: b.h,
            w: b.w,
            before: b.before,
            ph: b.ph,
            pw: b.pw,
        }
    }
}

impl Planes {
    /// Without a border.
    pub(crate) fn bare(start: usize, total: usize, h: usize, w: usize) -> Self {
        Self {
            start,
            total,
            h,
            w,
            before: 0,
            ph: h,
            pw: w,
        }
    }

    /// Floats of one block.
    pub(crate) fn plane(&self) -> usize {
        self.ph * self.pw * BLOCK
    }

    /// Floats of a line.
    pub(crate) fn line(&self) -> usize {
        self.pw * BLOCK
    }

    /// Where a block begins.
    pub(crate) fn at(&self, n: usize, block: usize) -> usize {
        self.start + (n * self.total + block) * self.plane()
    }
}

/// Planes and the buffer they lie in.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: SharedMut<'a, f32>,
    pub planes: Planes,
}

impl<'a> View<'a> {
    /// Pictures that have a buffer of their own.
    pub(crate) fn of(data: &'a mut [f32], layout: &Blocked) -> Self {
        Self {
            data: SharedMut::new(data),
            planes: Planes::from(layout),
        }
    }

    /// A block of a picture.
    ///
    /// # Safety
    /// Nobody may write it meanwhile.
    pub(crate) unsafe fn read(&self, n: usize, block: usize) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe {
            self.data
                .read(self.planes.at(n, block), self.planes.plane())
        }
    }

    /// A block of a picture, to be written.
    ///
    /// # Safety
    /// Nobody may read or write it meanwhile.
    pub(crate) unsafe fn write(&self, n: usize, block: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe {
            self.data
                .slice(self.planes.at(n, block), self.planes.plane())
        }
    }
}
