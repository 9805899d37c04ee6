//! What follows a convolution while its results are still in registers or the first cache: bias, the sum with a
//! residual path, an activation.

use super::blocked::BLOCK;
use super::planes::View;
use crate::simd::exp;

/// A function of every element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Act {
    None,
    Silu,
    /// x where positive, else the slope times x; 0 is ReLU.
    Leaky(f32),
    Sigmoid,
    Tanh,
}

impl Act {
    /// Of one element.
    #[inline(always)]
    pub(crate) fn of(self, x: f32) -> f32 {
        match self {
            Self::None => x,
            Self::Silu => x / (1.0 + exp(-x)),
            Self::Leaky(slope) => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + exp(-x)),
            Self::Tanh => 2.0 / (1.0 + exp(-2.0 * x)) - 1.0,
        }
    }

    /// Of every element. The choice stands outside of the loops, so that they vectorise.
    #[inline(always)]
    pub(crate) fn apply(self, x: &mut [f32]) {
        macro_rules! every {
            ($act:expr) => {
                for v in x.iter_mut() {
                    *v = $act.of(*v);
                }
            };
        }
        match self {
            Self::None => {}
            Self::Silu => every!(Self::Silu),
            Self::Leaky(slope) => every!(Self::Leaky(slope)),
            Self::Sigmoid => every!(Self::Sigmoid),
            Self::Tanh => every!(Self::Tanh),
        }
    }
}

/// `act((y + bias + residual) * factor)`.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// One value per output channel, filled up to whole blocks.
    pub bias: Option<&'a [f32]>,
    /// Added, pixel by pixel.
    pub residual: Option<View<'a>>,
    pub factor: f32,
    pub act: Act,
}

impl<'a> Epilogue<'a> {
    /// A bias alone.
    pub(crate) fn bias(bias: Option<&'a [f32]>) -> Self {
        Self {
            bias,
            residual: None,
            factor: 1.0,
            act: Act::None,
        }
    }

    /// Finishes `sums` (pixels x 16), which are those of block `block` of picture `n` from line `y`, column `x` on.
    ///
    /// # Safety
    /// Nobody may write the residual meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn finish(
        &self,
        sums: &mut [f32],
        (n, block): (usize, usize),
        (y, x): (usize, usize),
    ) {
        if let Some(bias) = self.bias {
            let bias = &bias[block * BLOCK..][..BLOCK];
            for pixel in sums.chunks_exact_mut(BLOCK) {
                for (v, b) in pixel.iter_mut().zip(bias) {
                    *v += b;
                }
            }
        }
        if let Some(view) = &self.residual {
            let p = &view.planes;
            let at = ((y + p.before) * p.pw + x + p.before) * BLOCK;
            // SAFETY: the caller's promise.
            let residual = unsafe { &view.read(n, block)[at..][..sums.len()] };
            for (v, r) in sums.iter_mut().zip(residual) {
                *v += r;
            }
        }
        if self.factor != 1.0 {
            for v in sums.iter_mut() {
                *v *= self.factor;
            }
        }
        self.act.apply(sums);
    }
}
