//! The architecture's configuration, in score_sde's words.

use crate::blocks::{MAX_WIDTH, Nonlinearity, check_count, shapes_of, within};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Who refuses a configuration.
pub(super) const NETWORK: &str = "ScoreNet";

/// What score_sde's configuration says of a network: its sections `model` and `data`. Other sections, and fields that do
/// not touch the network, may be there and are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreNetConfig {
    /// The network.
    pub model: ModelConfig,
    /// The pictures it is for.
    pub data: DataConfig,
}

/// Section `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataConfig {
    /// Height and width for which `attn_resolutions` are meant.
    pub image_size: usize,
    /// Channels of a picture.
    pub num_channels: usize,
    /// Whether pictures come in [-1, 1]; else they come in [0, 1] and the network centres them.
    pub centered: bool,
}

/// The kinds of network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// The U-Net of Ho et al. 2020 (arXiv 2006.11239).
    Ddpm,
    /// NCSN++, and with other options DDPM++ (Song et al. 2021, arXiv 2011.13456).
    Ncsnpp,
}

/// The residual blocks of NCSN++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResBlockType {
    /// DDPM's, which leave the size alone.
    #[serde(alias = "DDPM")]
    Ddpm,
    /// BigGAN's (Brock et al. 2019, arXiv 1809.11096), which can change it.
    #[default]
    #[serde(alias = "BigGAN")]
    Biggan,
}

/// How the output picture grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progressive {
    /// At the end.
    #[default]
    None,
    /// As a sum over the levels.
    OutputSkip,
    /// Through a residual path of its own.
    Residual,
}

/// How the input picture enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgressiveInput {
    /// At the beginning.
    #[default]
    None,
    /// At every level.
    InputSkip,
    /// Through a residual path of its own.
    Residual,
}

/// How [`ProgressiveInput::InputSkip`] joins the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// As channels of its own.
    Cat,
    /// Added.
    #[default]
    Sum,
}

/// What a network is told of noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingType {
    /// Random frequencies of log sigma.
    #[default]
    Fourier,
    /// Fixed frequencies of the time step.
    Positional,
}

/// Section `model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The kind; `ddpm` uses only the fields up to `num_scales` and is told of time by fixed frequencies.
    pub name: Architecture,
    /// Width of the first level.
    pub nf: usize,
    /// Width of each level as a multiple of `nf`; each level after the first has half the size.
    pub ch_mult: Vec<usize>,
    /// Residual blocks per level.
    pub num_res_blocks: usize,
    /// Sizes at which there is attention.
    pub attn_resolutions: Vec<usize>,
    /// Resample with convolutions.
    pub resamp_with_conv: bool,
    /// Whether the network is told of time or noise at all.
    pub conditional: bool,
    /// Divide the output by sigma.
    pub scale_by_sigma: bool,
    /// The activation.
    #[serde(default)]
    pub nonlinearity: Nonlinearity,
    /// Dropout in every residual block while training.
    #[serde(default)]
    pub dropout: f64,
    /// The least noise, for `scale_by_sigma` with time steps.
    #[serde(default = "sigma_min")]
    pub sigma_min: f64,
    /// The most noise.
    #[serde(default = "sigma_max")]
    pub sigma_max: f64,
    /// Noise levels from `sigma_max` down to `sigma_min`, evenly in their logarithm.
    #[serde(default = "num_scales")]
    pub num_scales: usize,
    /// Resample with a FIR filter instead of single pixels and means.
    #[serde(default)]
    pub fir: bool,
    /// The filter.
    #[serde(default = "fir_kernel")]
    pub fir_kernel: Vec<f64>,
    /// Divide the sums of residual paths by sqrt 2.
    #[serde(default)]
    pub skip_rescale: bool,
    /// The residual blocks.
    #[serde(default)]
    pub resblock_type: ResBlockType,
    /// How the output grows.
    #[serde(default)]
    pub progressive: Progressive,
    /// How the input enters.
    #[serde(default)]
    pub progressive_input: ProgressiveInput,
    /// How `input_skip` joins.
    #[serde(default)]
    pub progressive_combine: Combine,
    /// What the network is told of noise.
    #[serde(default)]
    pub embedding_type: EmbeddingType,
    /// Variance with which the last layer of each block begins; 0 is a very small one.
    #[serde(default)]
    pub init_scale: f64,
    /// Standard deviation of the random frequencies.
    #[serde(default = "fourier_scale")]
    pub fourier_scale: f64,
}

fn sigma_min() -> f64 {
    0.01
}

fn sigma_max() -> f64 {
    50.0
}

fn num_scales() -> usize {
    1000
}

fn fir_kernel() -> Vec<f64> {
    vec![1.0, 3.0, 3.0, 1.0]
}

fn fourier_scale() -> f64 {
    16.0
}

impl ScoreNetConfig {
    /// Whether a network can be built of it; [`ScoreNet::new`](super::ScoreNet::new) checks this too.
    ///
    /// # Errors
    /// The first field out of range, widths that the normalisations cannot split, or too many parameters.
    pub fn check(&self) -> Result<()> {
        self.tensors().map(|_| ())
    }

    /// Names and shapes of the tensors that the network needs, without building it. Of those, the random frequencies
    /// `all_modules.0.W` are not trained. A checkpoint has the buffer `sigmas` besides, and "module." before all names.
    ///
    /// # Errors
    /// As [`ScoreNetConfig::check`].
    pub fn tensors(&self) -> Result<Vec<(String, Vec<usize>)>> {
        self.check_fields()?;
        let tensors = shapes_of(|vb| super::ScoreNet::build(self.clone(), vb))?;
        check_count(NETWORK, &tensors)?;
        Ok(tensors)
    }

    /// The size by which pictures must be divisible.
    pub(super) fn factor(&self) -> usize {
        1 << (self.model.ch_mult.len() - 1)
    }

    /// The noise levels of time steps, as score_sde's `get_sigmas`.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        let m = &self.model;
        let (from, to) = (libm::log(m.sigma_max), libm::log(m.sigma_min));
        let gap = (m.num_scales.max(2) - 1) as f64;
        (0..m.num_scales)
            .map(|i| libm::exp(from + (to - from) * (i as f64 / gap)))
            .collect()
    }

    fn check_fields(&self) -> Result<()> {
        let (m, d) = (&self.model, &self.data);
        let bad = |field, value: String, need: &str| {
            Err(Error::Config {
                network: NETWORK,
                field,
                value,
                need: need.into(),
            })
        };
        within(NETWORK, "nf", m.nf, 4..=MAX_WIDTH)?;
        within(NETWORK, "ch_mult's length", m.ch_mult.len(), 1..=12)?;
        for &mult in &m.ch_mult {
            within(NETWORK, "ch_mult", mult, 1..=MAX_WIDTH)?;
            within(NETWORK, "nf times ch_mult", mult * m.nf, 1..=MAX_WIDTH)?;
        }
        within(NETWORK, "num_res_blocks", m.num_res_blocks, 1..=64)?;
        within(NETWORK, "num_channels", d.num_channels, 1..=MAX_WIDTH)?;
        within(NETWORK, "image_size", d.image_size, 1..=1 << 16)?;
        if !d.image_size.is_multiple_of(self.factor()) {
            let need = format!("a multiple of {}, once halved per level", self.factor());
            return bad("image_size", d.image_size.to_string(), &need);
        }
        within(NETWORK, "num_scales", m.num_scales, 1..=1 << 20)?;
        if !(0.0..1.0).contains(&m.dropout) {
            return bad("dropout", m.dropout.to_string(), "in [0, 1)");
        }
        let rising = 0.0 < m.sigma_min && m.sigma_min <= m.sigma_max && m.sigma_max.is_finite();
        if !rising {
            let value = format!("{} to {}", m.sigma_min, m.sigma_max);
            return bad(
                "sigma_min to sigma_max",
                value,
                "positive and in this order",
            );
        }
        let sum: f64 = m.fir_kernel.iter().sum();
        let taps = (1..=64).contains(&m.fir_kernel.len()) && sum.is_finite() && sum != 0.0;
        if m.fir && !taps {
            let value = format!("{:?}", m.fir_kernel);
            return bad(
                "fir_kernel",
                value,
                "1 to 64 numbers with a sum other than 0",
            );
        }
        for (field, value) in [
            ("init_scale", m.init_scale),
            ("fourier_scale", m.fourier_scale),
        ] {
            if !(0.0..f64::INFINITY).contains(&value) {
                return bad(field, value.to_string(), "a number not below 0");
            }
        }
        Ok(())
    }
}
