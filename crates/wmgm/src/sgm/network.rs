//! Three families of score networks behind one door.

use crate::error::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use nn_ops::precision;
use score_sde::{ScoreNet, ScoreNetConfig, UNet, UNet2DConfig, UNet2DModel, UNetConfig};
use serde::{Deserialize, Serialize};

/// A network by its family and that family's own configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", content = "config", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// improved-diffusion's U-Net.
    ImprovedDiffusion(UNetConfig),
    /// DDPM, DDPM++ and NCSN++ of score_sde.
    ScoreSde(ScoreNetConfig),
    /// diffusers' `UNet2DModel`.
    Diffusers(UNet2DConfig),
}

impl NetworkConfig {
    /// Names and shapes of the tensors it needs, bounded.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>> {
        Ok(match self {
            Self::ImprovedDiffusion(c) => c.tensors()?,
            Self::ScoreSde(c) => c.tensors()?,
            Self::Diffusers(c) => c.tensors()?,
        })
    }

    /// Channels in and out.
    pub fn channels(&self) -> (usize, usize) {
        match self {
            Self::ImprovedDiffusion(c) => (c.in_channels, c.out_channels),
            Self::ScoreSde(c) => (c.data.num_channels, c.data.num_channels),
            Self::Diffusers(c) => (c.in_channels, c.out_channels),
        }
    }

    /// The number of classes, if it needs one.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::ImprovedDiffusion(c) => c.num_classes,
            Self::ScoreSde(_) => None,
            Self::Diffusers(c) => c.num_class_embeds.filter(|_| c.class_embed_type.is_none()),
        }
    }

    /// What sides of pictures must be divisible by.
    pub fn factor(&self) -> usize {
        let levels = match self {
            Self::ImprovedDiffusion(c) => c.channel_mult.len(),
            Self::ScoreSde(c) => c.model.ch_mult.len(),
            Self::Diffusers(c) => c.block_out_channels.len(),
        };
        1 << levels.clamp(1, 32).saturating_sub(1)
    }

    /// The architecture in a line.
    pub fn describe(&self) -> String {
        match self {
            Self::ImprovedDiffusion(c) => format!(
                "improved-diffusion's U-Net: {} channels x {:?}, {} blocks a level, attention at 1/{:?}, {} heads{}",
                c.model_channels,
                c.channel_mult,
                c.num_res_blocks,
                c.attention_resolutions,
                c.num_heads,
                c.num_classes
                    .map_or(String::new(), |n| format!(", {n} classes"))
            ),
            Self::ScoreSde(c) => format!(
                "score_sde's {:?}: {} channels x {:?}, {} {:?} blocks a level, attention at {:?}, {:?} embedding",
                c.model.name,
                c.model.nf,
                c.model.ch_mult,
                c.model.num_res_blocks,
                c.model.resblock_type,
                c.model.attn_resolutions,
                c.model.embedding_type
            ),
            Self::Diffusers(c) => format!(
                "diffusers' UNet2DModel: widths {:?}, {} blocks a level, {:?}, {:?} embedding",
                c.block_out_channels, c.layers_per_block, c.down_block_types, c.time_embedding_type
            ),
        }
    }
}

/// A network.
#[derive(Debug, Clone)]
pub enum Network {
    /// improved-diffusion's U-Net.
    ImprovedDiffusion(UNet),
    /// A network of score_sde.
    ScoreSde(ScoreNet),
    /// diffusers' `UNet2DModel`.
    Diffusers(UNet2DModel),
}

impl Network {
    /// Reads the parameters.
    ///
    /// # Errors
    /// A missing or misshapen parameter.
    pub fn new(config: &NetworkConfig, vb: VarBuilder) -> Result<Self> {
        Ok(match config.clone() {
            NetworkConfig::ImprovedDiffusion(c) => Self::ImprovedDiffusion(UNet::new(c, vb)?),
            NetworkConfig::ScoreSde(c) => Self::ScoreSde(ScoreNet::new(c, vb)?),
            NetworkConfig::Diffusers(c) => Self::Diffusers(UNet2DModel::new(c, vb)?),
        })
    }

    /// The output, in the [`precision`] of the moment, for x (N, C, H, W), what it is told of time (N), and classes (N) if it has any.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        classes: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        precision::computed(x, |x| {
            Ok(match self {
                Self::ImprovedDiffusion(net) => net.forward(x, t, classes, None)?,
                Self::ScoreSde(net) => net.forward(x, t, None)?,
                Self::Diffusers(net) => net.forward(x, t, classes, None)?,
            })
        })
    }
}
