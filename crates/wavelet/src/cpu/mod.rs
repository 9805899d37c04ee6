//! The transforms on slices: one pass for Haar, sparse matrices along one axis or two for every other wavelet and mode.

mod combine;
mod dispatch;
pub(crate) mod haar;
mod kernel;
pub(crate) mod separable;

pub(crate) use kernel::Kernel;

use crate::matrix::Matrix;
use candle_core::{CpuStorage, WithDType};
use std::mem::MaybeUninit;
use std::ops::{Add, Mul, Sub};

/// f32 or f64.
pub(crate) trait Real:
    WithDType + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// The matrix as the kernels of this type take it.
    fn kernel(matrix: &Matrix) -> &Kernel<Self>;
    /// The values of a storage of this type.
    fn values(storage: &CpuStorage) -> Option<&[Self]>;
    /// self * a + b, rounded once.
    fn fused(self, a: Self, b: Self) -> Self;
}

macro_rules! real {
    ($t:ty, $variant:ident, $kernel:ident) => {
        impl Real for $t {
            fn kernel(matrix: &Matrix) -> &Kernel<Self> {
                matrix.$kernel.get_or_init(|| Kernel::new(matrix))
            }

            fn values(storage: &CpuStorage) -> Option<&[Self]> {
                match storage {
                    CpuStorage::$variant(v) => Some(v),
                    _ => None,
                }
            }

            #[inline(always)]
            fn fused(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
        }
    };
}

real!(f32, F32, kernel_f32);
real!(f64, F64, kernel_f64);

/// Where a kernel puts a value: memory with or without one.
pub(crate) trait Slot<T>: Send {
    fn put(&mut self, value: T);
}

impl<T: Real> Slot<T> for T {
    #[inline(always)]
    fn put(&mut self, value: T) {
        *self = value;
    }
}

impl<T: Real> Slot<T> for MaybeUninit<T> {
    #[inline(always)]
    fn put(&mut self, value: T) {
        self.write(value);
    }
}

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

    /// The planes `[LL, LH, HL, HH]` of a picture's plane.
    pub fn bands<'a, T>(&self, low: &'a [T], high: &'a [T], plane: usize) -> [&'a [T]; 4] {
        let px = self.band_px();
        let high = |b| &high[self.high_at(plane, b)..][..px];
        [&low[self.low_at(plane)..][..px], high(0), high(1), high(2)]
    }

    /// The same of every plane, to write.
    fn split<'a, T>(&self, low: &'a mut [T], high: &'a mut [T]) -> Vec<[&'a mut [T]; 4]> {
        let px = self.band_px().max(1);
        let mut out = Vec::with_capacity(self.planes());
        let mut lows = low.chunks_exact_mut(px);
        for picture in high.chunks_exact_mut((3 * self.channels * px).max(1)) {
            let (lh, rest) = picture.split_at_mut(self.channels * px);
            let (hl, hh) = rest.split_at_mut(self.channels * px);
            let bands = lh.chunks_exact_mut(px).zip(hl.chunks_exact_mut(px));
            let bands = bands.zip(hh.chunks_exact_mut(px));
            let planes = lows.by_ref().take(self.channels).zip(bands);
            out.extend(planes.map(|(ll, ((lh, hl), hh))| [ll, lh, hl, hh]));
        }
        out
    }
}

/// A vector of `len` values that `fill` writes, every one of them; not zeroed first.
///
/// # Safety
/// `fill` must write every element of the slice it is given.
pub(crate) unsafe fn filled<T: Copy>(
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and by this function's contract `fill` wrote all of it.
    unsafe { out.set_len(len) };
    out
}
