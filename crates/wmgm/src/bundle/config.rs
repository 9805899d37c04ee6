//! `config.json`: everything but the weights.

use super::Kind;
use crate::bands::{LevelStats, check_stats};
use crate::config::{
    FEWEST_STEPS, check_edm, check_fold, check_generator, check_sample, check_unet,
};
use crate::config::{SampleDefaults, TrainConfig};
use msal_gan::detail::DetailGeneratorConfig;
use score_sde::{Edm, UNetConfig};
use serde::{Deserialize, Serialize};

/// The version of the format that this program writes and reads.
const FORMAT: u32 = 1;

/// `config.json`: everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleConfig {
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// Side of its pictures.
    pub size: usize,
    /// Wavelet levels.
    pub levels: usize,
    /// Wavelet, by its PyWavelets name, in periodization.
    pub wavelet: String,
    /// Statistics of every level's bands, the finest first.
    pub bands: Vec<LevelStats>,
    /// The score network.
    pub score: UNetConfig,
    /// How often the low band is folded before the score network sees it.
    #[serde(default)]
    pub fold: usize,
    /// Preconditioning and noise levels.
    pub edm: Edm,
    /// The detail generator.
    pub generator: DetailGeneratorConfig,
    /// Default sampler.
    pub sample: SampleDefaults,
    /// How the weights came about.
    pub provenance: Provenance,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
    /// `wmgm`, which is not written.
    #[serde(default, skip_serializing_if = "Kind::is_wmgm")]
    pub kind: Kind,
}

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Seed of the run.
    pub seed: u64,
    /// Number of training pictures.
    pub pictures: usize,
    /// A hash of their pixels.
    pub data_fingerprint: String,
    /// Steps of the score network.
    pub low_steps: u64,
    /// Pictures per step.
    pub low_batch: usize,
    /// Steps of the generator.
    pub high_steps: u64,
    /// Pictures per step.
    pub high_batch: usize,
    /// The model whose weights the run started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// The model that a run started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    /// Its name.
    pub name: String,
    /// Steps of its score network.
    pub low_steps: u64,
    /// Steps of its generator.
    pub high_steps: u64,
    /// A hash of the pixels it was trained on.
    pub data_fingerprint: String,
}

impl BundleConfig {
    /// The record of a training run.
    pub fn new(c: &TrainConfig, bands: Vec<LevelStats>, provenance: Provenance) -> Self {
        Self {
            kind: Kind::Wmgm,
            format: FORMAT,
            name: c.name.clone(),
            size: c.size,
            levels: c.levels,
            wavelet: c.wavelet.clone(),
            bands,
            score: c.low.unet.clone(),
            fold: c.low.fold,
            edm: c.low.edm,
            generator: c.high.generator.clone(),
            sample: c.sample.clone(),
            provenance,
            licence: c.licence.clone(),
            attribution: c.attribution.clone(),
        }
    }

    /// Whether a model can be built of it: every size bounded, every part fitting the others.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.kind != Kind::Wmgm {
            return Err(format!("kind is {:?}, this is read as wmgm", self.kind));
        }
        if self.format != FORMAT {
            return Err(format!(
                "format is {}, this program reads {FORMAT}",
                self.format
            ));
        }
        if !(1..=8).contains(&self.levels) || !(16..=4096).contains(&self.size) {
            return Err(format!(
                "levels is {} and size {}, they must be 1 to 8 and 16 to 4096",
                self.levels, self.size
            ));
        }
        let low = self.size >> self.levels;
        if low << self.levels != self.size {
            return Err(format!(
                "levels is {}, but size {} does not divide by 2^levels",
                self.levels, self.size
            ));
        }
        if self.bands.len() != self.levels {
            return Err(format!(
                "bands has {} entries, but levels is {}",
                self.bands.len(),
                self.levels
            ));
        }
        for (i, bands) in self.bands.iter().enumerate() {
            check_stats(bands).map_err(|e| format!("bands[{i}]: {e}"))?;
        }
        check_unet("score", &self.score)?;
        check_fold("score", low, self.fold, &self.score)?;
        check_edm("edm", &self.edm)?;
        check_generator("generator", &self.generator, self.levels, low)?;
        check_sample(&self.sample, FEWEST_STEPS).map_err(|e| format!("sample: {e}"))?;
        Ok(())
    }
}
