//! Halving and doubling as layers, for networks whose configuration chooses between them.

use crate::bilinear::upsample_bilinear2x;
use crate::max_pool::max_pool2x;
use crate::resample::{avg_pool2x, upsample_nearest2x};
use candle_core::{Module, Result, Tensor};

/// 2 x 2 pooling: (N, C, H, W) to (N, C, H / 2, W / 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool2x {
    /// [`max_pool2x`].
    Max,
    /// [`avg_pool2x`].
    Mean,
}

impl Module for Pool2x {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Max => max_pool2x(x),
            Self::Mean => avg_pool2x(x),
        }
    }
}

/// Doubling: (N, C, H, W) to (N, C, 2 H, 2 W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upsample2x {
    /// [`upsample_nearest2x`].
    Nearest,
    /// [`upsample_bilinear2x`].
    Bilinear,
}

impl Module for Upsample2x {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Nearest => upsample_nearest2x(x),
            Self::Bilinear => upsample_bilinear2x(x),
        }
    }
}
