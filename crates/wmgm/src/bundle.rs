//! A model on disk: a folder with `config.json`, `score.safetensors` and `generator.safetensors`.

use crate::bands::LevelStats;
use crate::config::{SampleDefaults, TrainConfig};
use crate::error::{Error, Result};
use crate::model::{HighModel, LowModel};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use msal_gan::DetailGenerator;
use msal_gan::detail::DetailGeneratorConfig;
use score_sde::{Edm, UNet, UNetConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

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
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As trained.
    F32,
    /// Half the size; inference still computes in f32.
    F16,
}

impl BundleConfig {
    /// The record of a training run.
    pub fn new(c: &TrainConfig, bands: Vec<LevelStats>, provenance: Provenance) -> Self {
        Self {
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

    fn check(&self) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "format is {}, this program reads {FORMAT}",
                self.format
            ));
        }
        if self.levels == 0
            || self.levels > 8
            || self.size == 0
            || self.size > 4096
            || self.size % (1 << self.levels) != 0
        {
            return Err(format!(
                "levels {} does not fit size {}",
                self.levels, self.size
            ));
        }
        if self.bands.len() != self.levels || self.generator.levels != self.levels {
            return Err(format!(
                "levels is {}, but bands has {} entries and generator.levels is {}",
                self.levels,
                self.bands.len(),
                self.generator.levels
            ));
        }
        if self.wavelet != "haar" {
            return Err(format!(
                "wavelet is {:?}, only haar can be used",
                self.wavelet
            ));
        }
        crate::config::check_fold(self.size >> self.levels, self.fold, &self.score)?;
        self.bands
            .iter()
            .try_for_each(|b| b.check().map_err(|e| e.to_string()))
    }
}

/// The files of a bundle, in memory.
#[derive(Debug, Clone, Copy)]
pub struct BundleBytes<'a> {
    /// config.json.
    pub config: &'a [u8],
    /// score.safetensors.
    pub score: &'a [u8],
    /// generator.safetensors.
    pub generator: &'a [u8],
}

/// A loaded bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What it is.
    pub config: BundleConfig,
    /// The diffusion model of the low band.
    pub low: LowModel,
    /// The generator of details.
    pub high: HighModel,
    /// Parameters of the score network and of the generator.
    pub parameters: [usize; 2],
}

impl Bundle {
    /// Reads a folder.
    ///
    /// # Errors
    /// A missing file, a field out of range, a tensor that is missing, misshapen, of a wrong type or not finite: the
    /// first one is named.
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::Bundle {
                path: folder.into(),
                reason: "is not a folder; a bundle is a folder with config.json, score.safetensors and generator.safetensors".into(),
            });
        }
        let read = |name: &str| {
            std::fs::read(folder.join(name)).map_err(|e| Error::io("read", &folder.join(name), e))
        };
        let (config, score, generator) = (
            read("config.json")?,
            read("score.safetensors")?,
            read("generator.safetensors")?,
        );
        let bytes = BundleBytes {
            config: &config,
            score: &score,
            generator: &generator,
        };
        Self::from_bytes(bytes, folder, device)
    }

    /// Reads files in memory; `name` is for messages.
    ///
    /// # Errors
    /// As [`Bundle::read`].
    pub fn from_bytes(bytes: BundleBytes<'_>, name: &Path, device: &Device) -> Result<Self> {
        let bad = |file: &str, reason: String| Error::Bundle {
            path: name.join(file),
            reason,
        };
        let config: BundleConfig =
            serde_json::from_slice(bytes.config).map_err(|e| bad("config.json", e.to_string()))?;
        config.check().map_err(|e| bad("config.json", e))?;
        let (score, n_score) =
            weights(bytes.score, device).map_err(|e| bad("score.safetensors", e))?;
        let (generator, n_generator) =
            weights(bytes.generator, device).map_err(|e| bad("generator.safetensors", e))?;
        let net = UNet::new(config.score.clone(), score)
            .map_err(|e| bad("score.safetensors", e.to_string()))?;
        let generator = DetailGenerator::new(config.generator.clone(), generator)
            .map_err(|e| bad("generator.safetensors", e.to_string()))?;
        Ok(Self {
            low: LowModel {
                net,
                edm: config.edm,
                side: config.size >> config.levels,
                fold: config.fold,
            },
            high: HighModel {
                generator,
                stats: config.bands.clone(),
            },
            parameters: [n_score, n_generator],
            config,
        })
    }
}

/// Tensors of a safetensors file as f32, all finite, and their number of values.
fn weights(
    bytes: &[u8],
    device: &Device,
) -> std::result::Result<(VarBuilder<'static>, usize), String> {
    let tensors =
        candle_core::safetensors::load_buffer(bytes, device).map_err(|e| e.to_string())?;
    let mut out = HashMap::new();
    let mut count = 0;
    for (name, t) in tensors {
        if !matches!(t.dtype(), DType::F16 | DType::BF16 | DType::F32) {
            return Err(format!(
                "tensor {name} is {:?}; expected F16, BF16 or F32",
                t.dtype()
            ));
        }
        let t = t
            .to_dtype(DType::F32)
            .map_err(|e| format!("tensor {name}: {e}"))?;
        let finite = t
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .map_err(|e| format!("tensor {name}: {e}"))?;
        if let Some(at) = finite.iter().position(|v| !v.is_finite()) {
            return Err(format!(
                "tensor {name} holds {} at position {at}; the file is damaged or training diverged",
                finite[at]
            ));
        }
        count += finite.len();
        out.insert(name, t);
    }
    Ok((VarBuilder::from_tensors(out, DType::F32, device), count))
}

/// Writes a bundle as a whole or not at all.
///
/// # Errors
/// An unwritable folder, or one that holds something else.
pub fn write(
    folder: &Path,
    config: &BundleConfig,
    score: HashMap<String, Tensor>,
    generator: HashMap<String, Tensor>,
    precision: Precision,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let score = serialize(folder, score, precision)?;
    let generator = serialize(folder, generator, precision)?;
    // What was just written must load: a wrong network is found here, not by the user.
    Bundle::from_bytes(
        BundleBytes {
            config: &json,
            score: &score,
            generator: &generator,
        },
        folder,
        &Device::Cpu,
    )?;
    crate::files::write_folder(folder, "config.json", |temporary| {
        for (name, bytes) in [
            ("config.json", &json),
            ("score.safetensors", &score),
            ("generator.safetensors", &generator),
        ] {
            crate::files::write_atomic(temporary.join(name), |w| w.write_all(bytes))?;
        }
        Ok::<(), crate::files::FileError>(())
    })?;
    Ok(())
}

fn serialize(
    folder: &Path,
    tensors: HashMap<String, Tensor>,
    precision: Precision,
) -> Result<Vec<u8>> {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
    };
    let mut named: Vec<(String, Tensor)> = Vec::new();
    for (name, t) in tensors {
        named.push((name, t.to_dtype(dtype)?));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    safetensors::serialize(named, None).map_err(|e| Error::Bundle {
        path: folder.into(),
        reason: e.to_string(),
    })
}
