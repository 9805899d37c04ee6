//! The architecture's configuration.

use crate::blocks::{MAX_WIDTH, check_count, within};
use candle_core::{Result, bail};
use serde::{Deserialize, Deserializer, Serialize};

/// The architecture, in improved-diffusion's terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the input picture.
    pub in_channels: usize,
    /// Width of the first level; a multiple of 32.
    pub model_channels: usize,
    /// Channels of the output: twice the input's where variances are learned.
    pub out_channels: usize,
    /// Residual blocks per level.
    pub num_res_blocks: usize,
    /// Downsampling factors at which attention follows each residual block (2 = at half size).
    pub attention_resolutions: Vec<usize>,
    /// Width of each level as a multiple of `model_channels`; each level after the first has half the size.
    pub channel_mult: Vec<usize>,
    /// Heads of every attention.
    pub num_heads: usize,
    /// Heads on the way up, if not the same (improved-diffusion's -1, which is also read).
    #[serde(
        default,
        deserialize_with = "heads_or_same",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_heads_upsample: Option<usize>,
    /// Let the noise level scale and shift the second normalisation, instead of adding it before.
    #[serde(default = "yes")]
    pub use_scale_shift_norm: bool,
    /// Resample with convolutions.
    #[serde(default)]
    pub conv_resample: bool,
    /// Number of classes, for a network conditioned on a label.
    #[serde(default)]
    pub num_classes: Option<usize>,
    /// Dropout in every residual block while training.
    #[serde(default)]
    pub dropout: f64,
}

fn yes() -> bool {
    true
}

/// -1 means the same as on the way down.
fn heads_or_same<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<usize>, D::Error> {
    match Option::<i64>::deserialize(d)? {
        None | Some(-1) => Ok(None),
        Some(n) => usize::try_from(n).map(Some).map_err(|_| {
            serde::de::Error::custom(format!(
                "num_heads_upsample is {n}, it must be at least 1, or -1 for num_heads"
            ))
        }),
    }
}

impl UNetConfig {
    /// Whether a network can be built of it; [`UNet::new`](crate::UNet::new) checks this too.
    ///
    /// # Errors
    /// The first field out of range, or heads that do not divide a width.
    pub fn check(&self) -> Result<()> {
        if self.model_channels == 0 || !self.model_channels.is_multiple_of(32) {
            bail!(
                "UNet: model_channels is {}, it must be a multiple of 32 (the groups of its normalisations)",
                self.model_channels
            )
        }
        if self.channel_mult.is_empty() || self.channel_mult.contains(&0) {
            bail!(
                "UNet: channel_mult {:?} must name at least one level, each at least 1",
                self.channel_mult
            )
        }
        if self.num_heads == 0
            || self.num_heads_upsample == Some(0)
            || self.num_res_blocks == 0
            || self.in_channels == 0
            || self.out_channels == 0
        {
            bail!(
                "UNet: num_heads, num_res_blocks, in_channels and out_channels must be at least 1"
            )
        }
        // Attention always stands in the middle, at the last width, and after the blocks of the factors named.
        let at = |level: u32| (1usize.checked_shl(level)).unwrap_or(0);
        let attended = (self.channel_mult.iter().zip(0..)).filter(|&(_, level)| {
            level as usize + 1 == self.channel_mult.len()
                || self.attention_resolutions.contains(&at(level))
        });
        for (mult, _) in attended {
            let width = mult.saturating_mul(self.model_channels);
            for heads in [Some(self.num_heads), self.num_heads_upsample]
                .into_iter()
                .flatten()
            {
                if !width.is_multiple_of(heads) {
                    bail!("UNet: {heads} heads do not divide the width {width}")
                }
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            bail!("UNet: dropout is {}, it must be in [0, 1)", self.dropout)
        }
        Ok(())
    }

    /// Names and shapes of the tensors that the network needs, without building it.
    ///
    /// # Errors
    /// As [`UNetConfig::check`]; sizes beyond any network.
    pub fn tensors(&self) -> crate::error::Result<Vec<(String, Vec<usize>)>> {
        const NETWORK: &str = "UNet";
        within(
            NETWORK,
            "model_channels",
            self.model_channels,
            1..=MAX_WIDTH,
        )?;
        within(
            NETWORK,
            "channel_mult's length",
            self.channel_mult.len(),
            1..=12,
        )?;
        for &mult in &self.channel_mult {
            within(NETWORK, "channel_mult", mult, 1..=MAX_WIDTH)?;
            let width = mult * self.model_channels;
            within(
                NETWORK,
                "model_channels times channel_mult",
                width,
                1..=MAX_WIDTH,
            )?;
        }
        within(NETWORK, "num_res_blocks", self.num_res_blocks, 1..=64)?;
        within(NETWORK, "in_channels", self.in_channels, 1..=MAX_WIDTH)?;
        within(NETWORK, "out_channels", self.out_channels, 1..=MAX_WIDTH)?;
        if let Some(classes) = self.num_classes {
            within(NETWORK, "num_classes", classes, 1..=1 << 24)?;
        }
        let tensors = super::UNet::shapes(self)?;
        check_count(NETWORK, &tensors)?;
        Ok(tensors)
    }
}
