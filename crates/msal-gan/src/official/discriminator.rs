//! The official discriminator: one judgement per picture.

use super::blocks::{ConvNorm, ResidualBlock};
use crate::error::{Error, Result, dims4};
use candle_core::{Module, ModuleT, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{Dropout, Linear, leaky_relu};
use serde::{Deserialize, Serialize};

/// The discriminator's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Width of the first block, doubled with each halving.
    pub n_channels: usize,
    /// Number of halvings.
    pub n_blocks: usize,
    /// Channels of the picture.
    pub in_channels: usize,
    /// Slope of the LeakyReLU below zero.
    pub leaky_relu_slope: f64,
    /// Probability of dropout before the last layer.
    pub dropout: f64,
    /// Seed of the dropout's masks.
    pub seed: u64,
}

impl Default for DiscriminatorConfig {
    /// The official program's: width 64, five halvings, RGB, slope 0.1, dropout 0.5.
    fn default() -> Self {
        Self {
            n_channels: 64,
            n_blocks: 5,
            in_channels: 3,
            leaky_relu_slope: 0.1,
            dropout: 0.5,
            seed: 0,
        }
    }
}

/// The official discriminator: pictures (N, C, H, W) to logits (N, 1).
///
/// A block at full size, residual blocks that halve size and double width, the mean over positions, two linear layers.
#[derive(Debug, Clone)]
pub struct Discriminator {
    config: DiscriminatorConfig,
    first: ConvNorm,
    blocks: Vec<ResidualBlock>,
    linear: [Linear; 2],
    dropout: Dropout,
}

impl Discriminator {
    /// Reads or creates the parameters, named as in the official `state_dict` (`initial_block.0.weight` ...).
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(config: DiscriminatorConfig, vb: VarBuilder) -> Result<Self> {
        let c = &config;
        if c.n_channels == 0
            || c.in_channels == 0
            || c.n_blocks > 16
            || (c.n_channels << c.n_blocks) < 2
        {
            return Err(Error::Argument {
                op: "official discriminator",
                name: "config",
                value: format!("{c:?}"),
                need: "at least one channel, at most 16 blocks, and two channels after them",
            });
        }
        let mut ch = c.n_channels;
        let first = ConvNorm::new(c.in_channels, ch, 3, 1, 0, vb.pp("initial_block"))?;
        let mut blocks = Vec::new();
        for i in 0..c.n_blocks {
            blocks.push(ResidualBlock::halving(
                ch,
                c.leaky_relu_slope,
                vb.pp("conv_path").pp(i),
            )?);
            ch *= 2;
        }
        let fc = vb.pp("fc");
        Ok(Self {
            first,
            blocks,
            linear: [
                Linear::new(ch, ch / 2, fc.pp(0))?,
                Linear::new(ch / 2, 1, fc.pp(3))?,
            ],
            dropout: Dropout::new(c.dropout, c.seed, 0)?,
            config,
        })
    }

    /// The network's shape.
    pub fn config(&self) -> &DiscriminatorConfig {
        &self.config
    }

    /// The dropout, whose count of steps belongs in a checkpoint.
    pub fn dropout(&self) -> &Dropout {
        &self.dropout
    }
}

impl ModuleT for Discriminator {
    fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        let (channels, slope) = (self.config.in_channels, self.config.leaky_relu_slope);
        let expected = || format!("(N, {channels}, H, W) with at least one pixel");
        dims4("official discriminator", "x", x, expected, |_, c, h, w| {
            c == channels && h * w > 0
        })?;
        let mut x = leaky_relu(&self.first.forward_t(x, train)?, slope)?;
        for block in &self.blocks {
            x = block.forward_t(&x, train)?;
        }
        let features = x.mean((2, 3))?;
        let h = leaky_relu(&self.linear[0].forward(&features)?, slope)?;
        self.linear[1].forward(&self.dropout.forward_t(&h, train)?)
    }
}
