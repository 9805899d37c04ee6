//! The architecture's configuration: diffusers' `config.json`.

use crate::blocks::{MAX_WIDTH, Nonlinearity, check_count, shapes_of, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Who refuses a configuration.
pub(super) const NETWORK: &str = "UNet2DModel";

/// The size of the pictures: one number, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SampleSize {
    /// Height and width.
    Square(usize),
    /// Height, width.
    Rectangle([usize; 2]),
}

/// What a network is told of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeEmbeddingType {
    /// Fixed frequencies of the time step.
    Positional,
    /// Random frequencies of log sigma; the output is divided by sigma.
    Fourier,
    /// A table of `num_train_timesteps` rows.
    Learned,
}

/// The blocks of a level on the way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names)] // diffusers' names.
pub enum DownBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResDownBlock2D")]
    DownBlock2D,
    /// Each followed by attention.
    #[serde(alias = "UNetResAttnDownBlock2D")]
    AttnDownBlock2D,
    /// NCSN++'s: the input picture enters again at every level.
    #[serde(alias = "UNetResSkipDownBlock2D")]
    SkipDownBlock2D,
    /// The same with attention.
    #[serde(alias = "UNetResAttnSkipDownBlock2D")]
    AttnSkipDownBlock2D,
    /// Residual blocks, of which the last halves the picture.
    #[serde(alias = "UNetResResnetDownsampleBlock2D")]
    ResnetDownsampleBlock2D,
}

impl DownBlockType {
    pub(super) fn attends(self) -> bool {
        matches!(self, Self::AttnDownBlock2D | Self::AttnSkipDownBlock2D)
    }

    pub(super) fn skips(self) -> bool {
        matches!(self, Self::SkipDownBlock2D | Self::AttnSkipDownBlock2D)
    }
}

/// The blocks of a level on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::enum_variant_names)] // diffusers' names.
pub enum UpBlockType {
    /// Residual blocks.
    #[serde(alias = "UNetResUpBlock2D")]
    UpBlock2D,
    /// Each followed by attention.
    #[serde(alias = "UNetResAttnUpBlock2D")]
    AttnUpBlock2D,
    /// NCSN++'s: every level gives a part of the output.
    #[serde(alias = "UNetResSkipUpBlock2D")]
    SkipUpBlock2D,
    /// The same with attention after the last block.
    #[serde(alias = "UNetResAttnSkipUpBlock2D")]
    AttnSkipUpBlock2D,
    /// Residual blocks, of which the last doubles the picture.
    #[serde(alias = "UNetResResnetUpsampleBlock2D")]
    ResnetUpsampleBlock2D,
}

impl UpBlockType {
    pub(super) fn skips(self) -> bool {
        matches!(self, Self::SkipUpBlock2D | Self::AttnSkipUpBlock2D)
    }
}

/// The blocks in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MidBlockType {
    /// A residual block, attention, a residual block.
    UNetMidBlock2D,
}

/// How levels with attention change the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleType {
    /// By a convolution.
    #[default]
    Conv,
    /// By a residual block.
    Resnet,
}

/// How the embedding of time enters a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeScaleShift {
    /// Added before the second normalisation.
    #[default]
    Default,
    /// Scaling and shifting it.
    ScaleShift,
}

/// What a label is, where it is not the row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassEmbedType {
    /// A number that is embedded as time is.
    Timestep,
    /// The embedding itself.
    Identity,
}

/// The architecture, in diffusers' names and with its defaults. Other fields are passed over, as diffusers does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UNet2DConfig {
    /// The size the network was made for; it takes others.
    pub sample_size: Option<SampleSize>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether pictures come in [0, 1] and the network centres them.
    pub center_input_sample: bool,
    /// What the network is told of time.
    pub time_embedding_type: TimeEmbeddingType,
    /// Features of the embedding; 4 times the first width if absent.
    pub time_embedding_dim: Option<usize>,
    /// 1 makes the last of the fixed frequencies exactly 1/10000.
    pub freq_shift: f64,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// The levels on the way down.
    pub down_block_types: Vec<DownBlockType>,
    /// The middle, if there is one.
    pub mid_block_type: Option<MidBlockType>,
    /// The levels on the way up, the smallest first.
    pub up_block_types: Vec<UpBlockType>,
    /// Width of each level, the largest picture first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks per level.
    pub layers_per_block: usize,
    /// What sums in the middle are divided by.
    pub mid_block_scale_factor: f64,
    /// 1: strided convolutions are padded on every side; 0: behind the last row and column.
    pub downsample_padding: usize,
    /// How levels with attention halve.
    pub downsample_type: SampleType,
    /// How levels with attention double.
    pub upsample_type: SampleType,
    /// Dropout in every residual block while training.
    pub dropout: f64,
    /// The activation.
    pub act_fn: Nonlinearity,
    /// Channels of one head; one head of all channels if absent.
    pub attention_head_dim: Option<usize>,
    /// Groups of the normalisations; absent only where all levels are of the skip types, which choose their own.
    pub norm_num_groups: Option<usize>,
    /// Groups of the normalisation before the attention in the middle. If absent it has those of the others, or with
    /// `scale_shift` is not there at all.
    pub attn_norm_num_groups: Option<usize>,
    /// Epsilon of the normalisations.
    pub norm_eps: f64,
    /// How time enters.
    pub resnet_time_scale_shift: TimeScaleShift,
    /// Whether there is attention in the middle.
    pub add_attention: bool,
    /// What a label is.
    pub class_embed_type: Option<ClassEmbedType>,
    /// Number of classes, without `class_embed_type`.
    pub num_class_embeds: Option<usize>,
    /// Rows of the table of a learned embedding of time.
    pub num_train_timesteps: Option<usize>,
}

impl Default for UNet2DConfig {
    fn default() -> Self {
        use {DownBlockType as D, UpBlockType as U};
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: TimeEmbeddingType::Positional,
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: vec![
                D::DownBlock2D,
                D::AttnDownBlock2D,
                D::AttnDownBlock2D,
                D::AttnDownBlock2D,
            ],
            mid_block_type: Some(MidBlockType::UNetMidBlock2D),
            up_block_types: vec![
                U::AttnUpBlock2D,
                U::AttnUpBlock2D,
                U::AttnUpBlock2D,
                U::UpBlock2D,
            ],
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: SampleType::Conv,
            upsample_type: SampleType::Conv,
            dropout: 0.0,
            act_fn: Nonlinearity::Swish,
            attention_head_dim: Some(8),
            norm_num_groups: Some(32),
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: TimeScaleShift::Default,
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            num_train_timesteps: None,
        }
    }
}

impl UNet2DConfig {
    /// Whether a network can be built of it; [`UNet2DModel::new`](super::UNet2DModel::new) checks this too.
    ///
    /// # Errors
    /// The first field out of range, levels that do not fit each other, widths that the normalisations cannot split, or
    /// too many parameters.
    pub fn check(&self) -> Result<()> {
        self.tensors().map(|_| ())
    }

    /// Names and shapes of the tensors that the network needs, without building it. Of those, random frequencies
    /// (`time_proj.weight` of the fourier type) are not trained.
    ///
    /// # Errors
    /// As [`UNet2DConfig::check`].
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>> {
        self.check_fields()?;
        let tensors = shapes_of(|vb| super::UNet2DModel::build(self.clone(), vb))?;
        check_count(NETWORK, &tensors)?;
        Ok(tensors)
    }

    /// Features of the embedding of time.
    pub(super) fn time_features(&self) -> usize {
        let first = self.block_out_channels.first().copied().unwrap_or(0);
        // diffusers takes 0 for absent, too.
        self.time_embedding_dim
            .filter(|&d| d > 0)
            .unwrap_or(4 * first)
    }

    /// The size by which pictures must be divisible.
    pub(super) fn factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }

    fn check_fields(&self) -> Result<()> {
        let bad = |field, value: String, need: String| {
            Err(Error::Config {
                network: NETWORK,
                field,
                value,
                need,
            })
        };
        let widths = &self.block_out_channels;
        let levels = widths.len();
        within(NETWORK, "block_out_channels' length", levels, 1..=12)?;
        for (field, len) in [
            ("down_block_types' length", self.down_block_types.len()),
            ("up_block_types' length", self.up_block_types.len()),
        ] {
            if len != levels {
                let need = format!("{levels}, as that of block_out_channels");
                return bad(field, len.to_string(), need);
            }
        }
        for &width in widths {
            within(NETWORK, "block_out_channels", width, 4..=MAX_WIDTH)?;
        }
        within(NETWORK, "layers_per_block", self.layers_per_block, 1..=64)?;
        within(NETWORK, "in_channels", self.in_channels, 1..=MAX_WIDTH)?;
        within(NETWORK, "out_channels", self.out_channels, 1..=MAX_WIDTH)?;
        within(
            NETWORK,
            "downsample_padding",
            self.downsample_padding,
            0..=1,
        )?;
        let features = self.time_features();
        within(NETWORK, "time_embedding_dim", features, 1..=4 * MAX_WIDTH)?;
        for (field, value, most) in [
            ("attention_head_dim", self.attention_head_dim, MAX_WIDTH),
            ("norm_num_groups", self.norm_num_groups, MAX_WIDTH),
            ("attn_norm_num_groups", self.attn_norm_num_groups, MAX_WIDTH),
            ("num_class_embeds", self.num_class_embeds, 1 << 24),
            ("num_train_timesteps", self.num_train_timesteps, 1 << 24),
        ] {
            if let Some(value) = value {
                within(NETWORK, field, value, 1..=most)?;
            }
        }
        let head = self.attention_head_dim.unwrap_or(1);
        let narrowest = (widths.iter().zip(&self.down_block_types))
            .zip(self.up_block_types.iter().rev())
            .enumerate()
            .filter(|(i, ((_, down), up))| {
                let attends = matches!(
                    up,
                    UpBlockType::AttnUpBlock2D | UpBlockType::AttnSkipUpBlock2D
                );
                down.attends() || attends || (i + 1 == levels && self.mid_attention())
            })
            .map(|(_, ((width, _), _))| *width)
            .min();
        if let Some(width) = narrowest.filter(|&w| w < head) {
            let need = format!("at most {width}, the width of a level with attention");
            return bad("attention_head_dim", head.to_string(), need);
        }
        let all_skip = self.down_block_types.iter().all(|b| b.skips())
            && self.up_block_types.iter().all(|b| b.skips());
        if self.norm_num_groups.is_none() && !all_skip {
            let need = "a number, unless all blocks are of the skip types".into();
            return bad("norm_num_groups", "absent".into(), need);
        }
        if self.time_embedding_type == TimeEmbeddingType::Learned
            && self.num_train_timesteps.is_none()
        {
            let need = "a number, for a learned embedding of time".into();
            return bad("num_train_timesteps", "absent".into(), need);
        }
        if !(self.freq_shift < (widths[0] / 2) as f64 && self.freq_shift.is_finite()) {
            let need = format!("below {}, the number of frequencies", widths[0] / 2);
            return bad("freq_shift", self.freq_shift.to_string(), need);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", self.dropout.to_string(), "in [0, 1)".into());
        }
        for (field, value) in [
            ("norm_eps", self.norm_eps),
            ("mid_block_scale_factor", self.mid_block_scale_factor),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return bad(field, value.to_string(), "positive".into());
            }
        }
        self.check_pictures_beside()
    }

    /// Whether there is attention in the middle.
    pub(super) fn mid_attention(&self) -> bool {
        self.mid_block_type.is_some() && self.add_attention
    }

    /// The pictures that run beside the network have three channels, and halve or double only at levels of the skip
    /// types: another type before or behind one leaves them at the wrong size.
    fn check_pictures_beside(&self) -> Result<()> {
        let last = self.block_out_channels.len() - 1;
        let down = |i: &usize| self.down_block_types[*i].skips();
        let up = |i: &usize| self.up_block_types[*i].skips();
        // The last level halves nothing and adds nothing, the last on the way up gives no part of its own.
        let down_order = (0..last)
            .rev()
            .find(down)
            .is_none_or(|k| (0..k).all(|i| down(&i)));
        let up_order = (0..last)
            .find(up)
            .is_none_or(|k| (k..=last).all(|i| up(&i)));
        for (field, order, any, channels) in [
            (
                "down_block_types",
                down_order,
                (0..last).any(|i| down(&i)),
                ("in_channels", self.in_channels),
            ),
            (
                "up_block_types",
                up_order,
                (0..last).any(|i| up(&i)),
                ("out_channels", self.out_channels),
            ),
        ] {
            if !order {
                let (value, need) = match field {
                    "down_block_types" => (
                        format!("{:?}", self.down_block_types),
                        "of a skip type at all levels before one of a skip type",
                    ),
                    _ => (
                        format!("{:?}", self.up_block_types),
                        "of a skip type at all levels after one of a skip type",
                    ),
                };
                return Err(Error::Config {
                    network: NETWORK,
                    field,
                    value,
                    need: need.into(),
                });
            }
            if any {
                within(NETWORK, channels.0, channels.1, 3..=3)?;
            }
        }
        Ok(())
    }
}
