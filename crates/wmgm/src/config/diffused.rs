//! Runs of the two baselines whose every band is diffused: SGM, a diffusion on pixels, and WSGM, one of the coarsest low
//! band and one of each level's details given its low band. SGM is what WSGM is without levels.

use super::check::{
    Check, check_band, check_edm, check_pace, check_precision, check_sample, check_seed_and_size,
    check_taught, check_unet, within,
};
use super::{LowConfig, ReportConfig, SampleDefaults, f32_name, haar};
use crate::bundle::Kind;
use crate::transform::Transform;
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use score_sde::UNet;
use serde::{Deserialize, Serialize};

/// A training run of SGM or WSGM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusedConfig {
    /// `sgm` or `wsgm`.
    pub kind: Kind,
    /// Name of the model, for its bundle.
    pub name: String,
    /// Seed of everything random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Side of the square pictures: 16 to 1024, divisible by 2^levels.
    pub size: usize,
    /// Wavelet levels of WSGM; SGM has none.
    #[serde(default)]
    pub levels: usize,
    /// Wavelet of WSGM, by its PyWavelets name.
    #[serde(default = "haar")]
    pub wavelet: String,
    /// Licence of the data and so of the weights, recorded in the bundle.
    #[serde(default)]
    pub licence: String,
    /// Whom and what the data's licence asks to name.
    #[serde(default)]
    pub attribution: String,
    /// What networks compute in while they train: `f32`, `tf32` or `bf16`, as of WMGM.
    #[serde(default = "f32_name")]
    pub precision: String,
    /// The diffusion of the coarsest low band; without levels, of the pixels.
    pub low: LowConfig,
    /// The diffusions of the details of each level, the finest first. Their networks see the 9 channels of details and then
    /// the 3 of the low band, each folded, and return the 9.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<LowConfig>,
    /// How to sample unless told otherwise; the steps are those of every diffusion.
    #[serde(default)]
    pub sample: SampleDefaults,
    /// How often things are saved and shown.
    #[serde(default)]
    pub report: ReportConfig,
}

/// Channels of a band of RGB pictures: those a network is shown, condition included, and those it returns.
pub(crate) fn channels(level: Option<usize>) -> [usize; 2] {
    match level {
        None => [3, 3],
        Some(_) => [12, 9],
    }
}

impl DiffusedConfig {
    /// The diffusions in the order of their work in sampling: the coarsest low band (`None`), then the details of each
    /// level down to 1.
    pub fn bands(&self) -> impl Iterator<Item = (Option<usize>, &LowConfig)> {
        let details = self.details.iter().enumerate().rev();
        std::iter::once((None, &self.low)).chain(details.map(|(i, d)| (Some(i + 1), d)))
    }

    /// The side of a band.
    pub fn side(&self, level: Option<usize>) -> usize {
        self.size >> level.unwrap_or(self.levels)
    }

    /// Whether a run can use every value, and the networks can be built of them.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another, in words.
    pub fn check(&self) -> Check {
        check_seed_and_size(self.seed, self.size, self.levels)?;
        check_precision(&self.precision)?;
        match self.kind {
            Kind::Sgm if self.levels > 0 || !self.details.is_empty() => {
                return Err(
                    "kind is sgm, a diffusion on pixels: leave out levels and details".into(),
                );
            }
            Kind::Sgm => {}
            Kind::Wsgm => within("levels", self.levels, 1, 6)?,
            other => return Err(format!("kind is {other:?}, it must be sgm or wsgm here")),
        }
        if self.details.len() != self.levels {
            return Err(format!(
                "details has {} entries, but levels is {}: one for each level, the finest first",
                self.details.len(),
                self.levels
            ));
        }
        Transform::new(&self.wavelet).map_err(|e| format!("wavelet: {e}"))?;
        for (level, diffusion) in self.bands() {
            let field = field(level);
            if diffusion.by_channel && self.kind != Kind::Sgm {
                return Err(format!(
                    "{field}.by_channel is for kind sgm, a diffusion on pixels: bands are standardised each by itself"
                ));
            }
            check_diffusion(&field, diffusion, self.side(level), channels(level))?;
            check_taught(&field, diffusion, &self.sample)?;
        }
        check_sample(&self.sample, 1).map_err(|e| format!("sample: {e}"))?;
        Ok(())
    }
}

/// What the configuration calls the diffusion of a band.
fn field(level: Option<usize>) -> String {
    match level {
        None => "low".into(),
        Some(level) => format!("details[{}]", level - 1),
    }
}

fn check_diffusion(field: &str, d: &LowConfig, side: usize, channels: [usize; 2]) -> Check {
    let unet = format!("{field}.unet");
    check_unet(&unet, &d.unet)?;
    check_band(&unet, side, d.fold, channels, &d.unet).map_err(|e| {
        match e.starts_with("fold") {
            true => format!("{field}.{e}"),
            false => e,
        }
    })?;
    check_edm(&format!("{field}.edm"), &d.edm)?;
    check_pace(field, d)?;
    let zeros = VarBuilder::zeros(DType::F32, &Device::Cpu);
    UNet::new(d.unet.clone(), zeros).map_err(|e| format!("{unet}: {e}"))?;
    Ok(())
}
