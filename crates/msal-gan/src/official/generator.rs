//! The official generator: an attention U-Net from a low band and noise to three detail bands.

use super::blocks::{AttentionGate, ResidualBlock};
use crate::error::{Error, Result, dims4};
use candle_core::{Module, ModuleT, Tensor};
use candle_nn::VarBuilder;
use nn_ops::plan::Plans;
use nn_ops::{Conv2d, Conv2dConfig, Pool2x, Upsample2x, cat_channels, tanh};
use serde::{Deserialize, Serialize};

/// Sizes of the U-Net: full, half, ... 1/16.
const SIZES: usize = 5;

/// How the generator halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pooling {
    /// Maxima of 2 x 2 pixels, the official program's choice.
    #[serde(rename = "max", alias = "maxpool")]
    Max,
    /// Means of 2 x 2 pixels.
    #[serde(rename = "avg", alias = "avgpool", alias = "mean")]
    Mean,
}

/// The generator's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Width at full size, doubled with each halving; even.
    pub n_channels: usize,
    /// Channels of low band and noise together.
    pub in_channels: usize,
    /// Channels of the three detail bands together.
    pub out_channels: usize,
    /// How sizes are halved.
    pub pooling: Pooling,
    /// Slope of the LeakyReLU below zero.
    pub leaky_relu_slope: f64,
}

impl Default for GeneratorConfig {
    /// The official program's: width 64, RGB, maxima, slope 0.1.
    fn default() -> Self {
        Self {
            n_channels: 64,
            in_channels: 6,
            out_channels: 9,
            pooling: Pooling::Max,
            leaky_relu_slope: 0.1,
        }
    }
}

/// The official generator: low band and noise (N, in, H, W), H and W divisible by 16, to details (N, out, H, W) in
/// \[-1, 1\].
///
/// Residual blocks with batch normalisation at five sizes, bilinear upsampling, attention gates on the skips, tanh.
#[derive(Debug, Clone)]
pub struct Generator {
    config: GeneratorConfig,
    down: Vec<ResidualBlock>,
    /// From the smallest size upwards.
    up: Vec<(ResidualBlock, AttentionGate)>,
    last: (ResidualBlock, Conv2d),
    plans: Plans,
}

impl Generator {
    /// Reads or creates the parameters, named as in the official `state_dict` (`Conv1.block.0.weight` ...).
    ///
    /// Built on [`nn_ops::Params`], the running statistics are among its variables.
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(config: GeneratorConfig, vb: VarBuilder) -> Result<Self> {
        let c = &config;
        let (n, slope) = (c.n_channels, c.leaky_relu_slope);
        if n == 0 || n % 2 != 0 || c.in_channels == 0 || c.out_channels == 0 || !slope.is_finite() {
            return Err(Error::Argument {
                op: "official generator",
                name: "config",
                value: format!("{c:?}"),
                need: "an even n_channels, at least one channel in and out, and a finite slope",
            });
        }
        let width = |size: usize| n << size;
        let mut down = Vec::new();
        for size in 0..SIZES {
            let ci = if size == 0 {
                c.in_channels
            } else {
                width(size - 1)
            };
            down.push(ResidualBlock::same_size(
                ci,
                width(size),
                slope,
                vb.pp(format!("Conv{}", size + 1)),
            )?);
        }
        let mut up = Vec::new();
        for size in (0..SIZES - 1).rev() {
            // All but the first block read a gated skip beside the features.
            let ci = if size == SIZES - 2 {
                width(size + 1)
            } else {
                2 * width(size + 1)
            };
            let block = vb.pp(format!("Up{}", size + 2)).pp("conv_block");
            up.push((
                ResidualBlock::same_size(ci, width(size), slope, block)?,
                AttentionGate::new(width(size), vb.pp(format!("Att{}", size + 2)))?,
            ));
        }
        let last = (
            ResidualBlock::same_size(2 * n, n / 2, slope, vb.pp("last_conv1"))?,
            Conv2d::new(
                n / 2,
                c.out_channels,
                1,
                Conv2dConfig::default(),
                vb.pp("last_conv2"),
            )?,
        );
        Ok(Self {
            down,
            up,
            last,
            plans: Plans::default(),
            config,
        })
    }

    /// The network's shape.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Details from a low band and noise, together (N, in, H, W). In training the running statistics move.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, low: &Tensor, noise: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.forward_t(&Tensor::cat(&[low, noise], 1)?, train)?)
    }
}

impl ModuleT for Generator {
    fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let (channels, factor) = (self.config.in_channels, 1 << (SIZES - 1));
        dims4(
            "official generator",
            "x",
            x,
            || format!("(N, {channels}, H, W) with H and W divisible by {factor}"),
            |_, c, h, w| c == channels && h % factor == 0 && w % factor == 0 && h * w > 0,
        )?;
        match train {
            true => self.network(x, true),
            false => self.plans.one(&[x], |x| self.network(&x[0], false)),
        }
    }
}

impl Generator {
    /// The network on an input of the right shape.
    fn network(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let pool = match self.config.pooling {
            Pooling::Max => Pool2x::Max,
            Pooling::Mean => Pool2x::Mean,
        };
        let mut skips = Vec::new();
        let mut x = x.clone();
        for (size, block) in self.down.iter().enumerate() {
            if size > 0 {
                x = pool.forward(&x)?;
            }
            x = block.forward_t(&x, train)?;
            skips.push(x.clone());
        }
        for (i, (block, gate)) in self.up.iter().enumerate() {
            let features = block.forward_t(&Upsample2x::Bilinear.forward(&x)?, train)?;
            let skip = gate.forward_t(&features, &skips[SIZES - 2 - i], train)?;
            x = cat_channels(&skip, &features)?;
        }
        tanh(&self.last.1.forward(&self.last.0.forward_t(&x, train)?)?)
    }
}
