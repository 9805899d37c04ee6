//! The configuration of one diffusion of a cascade, by cascaded-wavelet-diffusion's names.

use crate::diffusion::{GaussianDiffusion, LossType, MeanType, Schedule, VarType};
use crate::error::{Error, Result};
use crate::unet::UNetConfig;
use serde::{Deserialize, Serialize};

/// A process and the network that predicts its noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffuserConfig {
    /// Steps of the process. The network is shown them scaled to 0..1000.
    #[serde(rename = "T")]
    pub steps: usize,
    /// Betas from 0.1 / T to 20 / T; otherwise the cosine schedule.
    pub linear: bool,
    /// The network.
    pub unet: CascadeUNetConfig,
}

/// The network, a [`UNet`](crate::UNet) with resampling by convolutions. Its channels follow from its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeUNetConfig {
    /// Width of the first level; a multiple of 32.
    pub base_channels: usize,
    /// Residual blocks per level.
    pub num_res_attn_blocks: usize,
    /// Widths of the levels after the first, which has `base_channels`, as multiples of it.
    pub channel_mults: Vec<usize>,
    /// For each level, the first among them, whether attention follows its residual blocks.
    pub is_attn: Vec<bool>,
    /// Heads of every attention.
    pub num_heads: usize,
    /// Dropout in every residual block while training.
    #[serde(default)]
    pub dropout: f64,
    /// Let the time scale and shift the second normalisation of a block, instead of adding it before.
    #[serde(default)]
    pub use_scale_shift_norm: bool,
}

impl CascadeUNetConfig {
    /// The same network in improved-diffusion's terms.
    ///
    /// # Errors
    /// Another number of `is_attn` than of levels, more levels than can be, and as [`UNetConfig::check`].
    pub fn unet(&self, in_channels: usize, out_channels: usize) -> Result<UNetConfig> {
        let levels = self.channel_mults.len().saturating_add(1);
        let refuse = |field, value: usize, need: String| {
            Err(Error::Config {
                network: "cascade's UNet",
                field,
                value: format!("of {value} entries"),
                need,
            })
        };
        if levels > 12 {
            return refuse("channel_mults", levels - 1, "of at most 11".into());
        }
        if self.is_attn.len() != levels {
            let need = format!(
                "of {levels}, one more than channel_mults: the first level has base_channels"
            );
            return refuse("is_attn", self.is_attn.len(), need);
        }
        let attended = (self.is_attn.iter().enumerate()).filter(|&(_, on)| *on);
        let config = UNetConfig {
            in_channels,
            model_channels: self.base_channels,
            out_channels,
            num_res_blocks: self.num_res_attn_blocks,
            attention_resolutions: attended.map(|(level, _)| 1 << level).collect(),
            channel_mult: [&[1], &self.channel_mults[..]].concat(),
            num_heads: self.num_heads,
            num_heads_upsample: None,
            use_scale_shift_norm: self.use_scale_shift_norm,
            conv_resample: true,
            num_classes: None,
            dropout: self.dropout,
        };
        config.check()?;
        Ok(config)
    }

    /// What height and width of its pictures must divide by.
    pub fn factor(&self) -> usize {
        1 << self.channel_mults.len().min(usize::BITS as usize - 1)
    }
}

impl DiffuserConfig {
    /// The process: the network predicts the noise, variances are the posterior's.
    ///
    /// # Errors
    /// A number of steps that has no such schedule: fewer than 21 with linear betas, none, more than 100,000.
    pub fn process(&self) -> Result<GaussianDiffusion> {
        crate::error::ensure(
            self.steps <= 100_000,
            "DiffuserConfig::process",
            "T",
            self.steps,
            "at most 100000",
        )?;
        let schedule = match self.linear {
            true => Schedule::Linear,
            false => Schedule::Cosine,
        };
        let betas = schedule.betas(self.steps)?;
        let (mean, var) = (MeanType::Epsilon, VarType::FixedSmall);
        Ok(GaussianDiffusion::new(betas, mean, var, LossType::Mse)?.rescale_timesteps(true))
    }
}
