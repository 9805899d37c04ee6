//! The transforms on slices: one pass for Haar, sparse matrices along two axes for every other wavelet and mode.

mod dispatch;
pub(crate) mod haar;
pub(crate) mod sparse;

use candle_core::WithDType;
use std::mem::MaybeUninit;
use std::ops::{Add, Mul, Sub};

/// f32 or f64.
pub(crate) trait Real: WithDType + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {}

impl Real for f32 {}
impl Real for f64 {}

/// The sizes of one two-dimensional transform: `outer * channels` planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub outer: usize,
    pub channels: usize,
    /// Height and width of the picture.
    pub size: [usize; 2],
    /// Height and width of a band.
    pub band: [usize; 2],
}

impl Frame {
    pub fn planes(&self) -> usize {
        self.outer * self.channels
    }

    /// Values of a plane of the picture.
    pub fn picture_px(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Values of a plane of a band.
    pub fn band_px(&self) -> usize {
        self.band[0] * self.band[1]
    }

    /// Where the plane of LL begins in the low band.
    pub fn low_at(&self, plane: usize) -> usize {
        plane * self.band_px()
    }

    /// Where the plane of LH (0), HL (1) or HH (2) begins in the high bands.
    pub fn high_at(&self, plane: usize, which: usize) -> usize {
        let (n, c) = (plane / self.channels, plane % self.channels);
        ((n * 3 + which) * self.channels + c) * self.band_px()
    }

    /// Splits a buffer of all bands, the low one first, into `[LL, LH, HL, HH]` of each plane.
    fn split<'a, T>(&self, flat: &'a mut [T]) -> Vec<[&'a mut [T]; 4]> {
        let px = self.band_px().max(1);
        let (low, high) = flat.split_at_mut(self.planes() * self.band_px());
        let mut out = Vec::with_capacity(self.planes());
        let mut lows = low.chunks_exact_mut(px);
        for picture in high.chunks_exact_mut((3 * self.channels * px).max(1)) {
            let (lh, rest) = picture.split_at_mut(self.channels * px);
            let (hl, hh) = rest.split_at_mut(self.channels * px);
            let bands = lh.chunks_exact_mut(px).zip(hl.chunks_exact_mut(px)).zip(hh.chunks_exact_mut(px));
            out.extend(lows.by_ref().zip(bands).map(|(ll, ((lh, hl), hh))| [ll, lh, hl, hh]));
        }
        out
    }
}

/// A vector of `len` values that `fill` writes, every one of them; not zeroed first.
///
/// # Safety
/// `fill` must write every element of the slice it is given.
unsafe fn filled<T: Copy>(len: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and by this function's contract `fill` wrote all of it.
    unsafe { out.set_len(len) };
    out
}

/// Copies into memory not yet written; both have the same length.
#[inline(always)]
fn write<T: Copy>(dst: &mut [MaybeUninit<T>], src: &[T]) {
    for (d, s) in dst.iter_mut().zip(src) {
        d.write(*s);
    }
}
