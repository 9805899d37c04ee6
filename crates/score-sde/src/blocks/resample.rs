//! Halving and doubling of pictures.

use super::layers::{Start, conv};
use super::residual::{DropMask, ResBlock};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{
    Conv2d, Conv2dConfig, avg_pool2x, downsample_fir2x, upfirdn2d, upsample_fir2x,
    upsample_nearest2x, with_sum,
};

/// A change of size without parameters.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    /// Pixels repeated, means of 2 x 2 pixels.
    Box,
    /// A filter with these taps along both axes (Karras et al. 2020); their sum counts as 1.
    Fir(Vec<f64>),
}

impl Filter {
    pub(crate) fn up(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Box => upsample_nearest2x(x),
            Self::Fir(taps) => upsample_fir2x(x, taps),
        }
    }

    pub(crate) fn down(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Box => avg_pool2x(x),
            Self::Fir(taps) => downsample_fir2x(x, taps),
        }
    }
}

const STRIDED: Conv2dConfig = Conv2dConfig {
    stride: 2,
    padding: 0,
    groups: 1,
};

/// Multiply-adds of a convolution by the size of what it makes.
fn at_outputs(conv: &Conv2d, [h, w]: [usize; 2]) -> u64 {
    (conv.weight().elem_count() * h * w) as u64
}

/// Halves a picture.
#[derive(Debug, Clone)]
pub(crate) enum Downsample {
    /// A strided 3 x 3 convolution, padded by one pixel on every side.
    Centred(Conv2d),
    /// The same padded only behind the last row and column, TensorFlow's "same".
    Behind(Conv2d),
    /// A FIR filter and a strided 3 x 3 convolution, the picture padded once for both.
    Filtered(Conv2d, Vec<f64>),
    /// No parameters.
    Plain(Filter),
}

impl Downsample {
    pub(crate) fn centred(ci: usize, co: usize, start: Start, vb: VarBuilder) -> Result<Self> {
        let cfg = Conv2dConfig {
            padding: 1,
            ..STRIDED
        };
        Ok(Self::Centred(conv(ci, co, 3, cfg, start, 1.0, vb)?))
    }

    pub(crate) fn behind(ci: usize, co: usize, start: Start, vb: VarBuilder) -> Result<Self> {
        Ok(Self::Behind(conv(ci, co, 3, STRIDED, start, 1.0, vb)?))
    }

    pub(crate) fn filtered(
        ci: usize,
        co: usize,
        taps: &[f64],
        start: Start,
        vb: VarBuilder,
    ) -> Result<Self> {
        let conv = conv(ci, co, 3, STRIDED, start, 1.0, vb)?;
        Ok(Self::Filtered(conv, taps.to_vec()))
    }

    /// Multiply-adds for one picture that leaves with this size; of a filter none.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        match self {
            Self::Centred(conv) | Self::Behind(conv) | Self::Filtered(conv, _) => {
                at_outputs(conv, size)
            }
            Self::Plain(_) => 0,
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Centred(conv) => conv.forward(x),
            // One tap of 1 is nothing but its padding.
            Self::Behind(conv) => conv.forward(&upfirdn2d(x, &[1.0], 1, 1, [0, 1])?),
            Self::Filtered(conv, taps) => {
                // The filter's own length less the step, and what a 3 x 3 kernel needs.
                let p = taps.len() as isize;
                let pad = [(p + 1).div_euclid(2), p.div_euclid(2)];
                conv.forward(&upfirdn2d(x, &with_sum(taps, 1.0)?, 1, 1, pad)?)
            }
            Self::Plain(filter) => filter.down(x),
        }
    }
}

/// Doubles a picture.
#[derive(Debug, Clone)]
pub(crate) enum Upsample {
    /// Repeated pixels, then a 3 x 3 convolution.
    Repeated(Conv2d),
    /// A transposed 3 x 3 convolution with stride 2, then a FIR filter.
    Filtered(Conv2d, Vec<f64>),
    /// No parameters.
    Plain(Filter),
}

impl Upsample {
    pub(crate) fn repeated(ci: usize, co: usize, start: Start, vb: VarBuilder) -> Result<Self> {
        let same = Conv2dConfig::same(3);
        Ok(Self::Repeated(conv(ci, co, 3, same, start, 1.0, vb)?))
    }

    pub(crate) fn filtered(
        ci: usize,
        co: usize,
        taps: &[f64],
        start: Start,
        vb: VarBuilder,
    ) -> Result<Self> {
        let conv = conv(ci, co, 3, Conv2dConfig::default(), start, 1.0, vb)?;
        Ok(Self::Filtered(conv, taps.to_vec()))
    }

    /// Multiply-adds for one picture that leaves with this size; of a filter none.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        match self {
            Self::Repeated(conv) | Self::Filtered(conv, _) => at_outputs(conv, size),
            Self::Plain(_) => 0,
        }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Repeated(conv) => conv.forward(&upsample_nearest2x(x)?),
            Self::Filtered(conv, taps) => {
                // Linear maps of an endless picture commute: the filter comes first, over a margin of one pixel that the
                // convolution uses up, and the result is that of the transposed convolution.
                let k = taps.len() as isize;
                let before = (k - 3).div_euclid(2) + 3;
                let pad = [before, k + 1 - before];
                conv.forward(&upfirdn2d(x, &with_sum(taps, 2.0)?, 2, 1, pad)?)
            }
            Self::Plain(filter) => filter.up(x),
        }
    }
}

/// What stands between two levels.
#[derive(Debug, Clone)]
pub(crate) enum Resampler {
    Down(Downsample),
    Up(Upsample),
    /// A residual block that changes the size on its way (BigGAN's).
    Block(Box<ResBlock>),
}

impl Resampler {
    /// Multiply-adds for one picture that leaves with this size.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        match self {
            Self::Down(down) => down.multiply_adds(size),
            Self::Up(up) => up.multiply_adds(size),
            Self::Block(block) => block.multiply_adds(size),
        }
    }

    pub(crate) fn forward(
        &self,
        x: &Tensor,
        emb: Option<&Tensor>,
        masks: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        match self {
            Self::Down(down) => down.forward(x),
            Self::Up(up) => up.forward(x),
            Self::Block(block) => block.forward(x, emb, masks),
        }
    }
}
