//! A model on disk: a folder with `config.json`, `score.safetensors` and `generator.safetensors`; other kinds, which
//! `config.json` names, have one file of weights each.
//!
//! Loading trusts nothing: files, headers and every size in the configuration are bounded, every tensor's name, shape
//! and type checked and every value finite; the first that is off is named.

mod config;
mod diffused;
mod kind;
mod pair;
mod sgm;
mod single;
mod wsgm;

pub use config::{BundleConfig, Init, Provenance};
pub use diffused::{BandNetwork, DiffusedBundle};
pub(crate) use diffused::{
    Bands, ByBand, Trained, band_name, read as read_diffused,
    read_tensors as read_diffused_tensors, write as write_diffused,
};
pub use kind::{Head, Kind, Variant};
pub use pair::{PairConfig, write_pair};
pub(crate) use pair::{Parts, read as read_pair};
pub(crate) use sgm::read as read_sgm;
pub use sgm::write_sgm;
pub use single::{Single, SingleConfig, read_single, write_single};
pub(crate) use wsgm::{CASCADE, read as read_wsgm};
pub use wsgm::{WsgmConfig, read_wsgm_config, write_wsgm};

use crate::error::{Error, Result};
use crate::files::{map_bounded, read_bounded};
use crate::model::{BandModel, HighModel};
use crate::transform::Transform;
use candle_core::{Device, Tensor};
use checkpoints::{Weights, safetensors};
use msal_gan::DetailGenerator;
use score_sde::UNet;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// The files of a bundle.
const FILES: [&str; 3] = ["config.json", "score.safetensors", "generator.safetensors"];
/// The most bytes of config.json and of a file of weights.
const MAX_BYTES: [u64; 3] = [1 << 20, 8 << 30, 8 << 30];

/// What every kind of bundle has, and how large it and a file of weights may be.
const CONFIG: &str = FILES[0];
const MAX_CONFIG: u64 = MAX_BYTES[0];
const MAX_WEIGHTS: u64 = MAX_BYTES[1];

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As trained.
    F32,
    /// Half the size; inference still computes in f32.
    F16,
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
    pub low: BandModel,
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
        check_files(folder, &FILES)?;
        let config = read_bounded(&folder.join(FILES[0]), MAX_BYTES[0])?;
        let [score, generator] = [1, 2].map(|i| map_bounded(&folder.join(FILES[i]), MAX_BYTES[i]));
        let (score, generator) = (score?, generator?);
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
            serde_json::from_slice(bytes.config).map_err(|e| bad(FILES[0], e.to_string()))?;
        config.check().map_err(|e| bad(FILES[0], e))?;
        let transform =
            Transform::new(&config.wavelet).map_err(|e| bad(FILES[0], e.to_string()))?;
        let (net, n_score) = network(bytes.score, device, |vb| {
            Ok(UNet::new(config.score.clone(), vb)?)
        })
        .map_err(|e| bad(FILES[1], e))?;
        let (generator, n_generator) = network(bytes.generator, device, |vb| {
            Ok(DetailGenerator::new(config.generator.clone(), vb)?)
        })
        .map_err(|e| bad(FILES[2], e))?;
        Ok(Self {
            low: BandModel {
                net,
                guide: None,
                preconditioner: config.edm.into(),
                channels: 3,
                side: config.size >> config.levels,
                fold: config.fold,
            },
            high: HighModel {
                generator,
                stats: config.bands.clone(),
                transform,
            },
            parameters: [n_score, n_generator],
            config,
        })
    }
}

/// What kind of bundle a folder is. A `config.json` that is no object is left to the kind's own reader to refuse.
///
/// # Errors
/// No folder, no `config.json`, or one that names a kind that is not known here.
pub fn head(folder: &Path) -> Result<Head> {
    check_files(folder, &FILES)?;
    let path = folder.join(CONFIG);
    let bytes = read_bounded(&path, MAX_CONFIG)?;
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_slice(&bytes) else {
        return Ok(Head::default());
    };
    serde_json::from_value(serde_json::Value::Object(fields)).map_err(|e| Error::Bundle {
        path,
        reason: e.to_string(),
    })
}

/// Errs unless there is a folder.
fn check_files(folder: &Path, files: &[&str]) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Error::Bundle {
        path: folder.into(),
        reason: format!("is not a folder; a bundle is one with {}", files.join(", ")),
    })
}

/// Reads `config.json`.
fn read_config<T: serde::de::DeserializeOwned>(folder: &Path, most: u64) -> Result<T> {
    let path = folder.join(CONFIG);
    let bytes = read_bounded(&path, most)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Bundle {
        path,
        reason: e.to_string(),
    })
}

/// A network of the tensors in a file, which must hold what it needs and nothing else, and their number of values.
fn network<T>(
    bytes: &[u8],
    device: &Device,
    build: impl FnOnce(candle_nn::VarBuilder<'static>) -> Result<T>,
) -> std::result::Result<(T, usize), String> {
    let weights =
        Weights::from_safetensors(bytes, Path::new(""), device).map_err(|e| e.reason())?;
    let network = build(weights.builder(device)).map_err(|e| e.to_string())?;
    match weights.unused().first() {
        None => Ok((network, weights.count())),
        Some(name) => Err(format!(
            "tensor {name} belongs to no layer of the network in config.json"
        )),
    }
}

/// What a run that starts from a bundle needs of it.
pub(crate) struct Start {
    /// Its configuration.
    pub config: BundleConfig,
    /// Tensors of the score network.
    pub score: HashMap<String, Tensor>,
    /// Tensors of the generator.
    pub generator: HashMap<String, Tensor>,
}

/// Reads a bundle's tensors instead of building its networks.
pub(crate) fn read_start(folder: &Path, device: &Device) -> Result<Start> {
    // Whole and sound as a model first: errors are those of every reader of bundles.
    let config = Bundle::read(folder, device)?.config;
    let read = |i: usize| tensors(&folder.join(FILES[i]), MAX_BYTES[i], device);
    Ok(Start {
        score: read(1)?,
        generator: read(2)?,
        config,
    })
}

/// The tensors of a file of weights.
fn tensors(path: &Path, most: u64, device: &Device) -> Result<HashMap<String, Tensor>> {
    let bytes = map_bounded(path, most)?;
    Weights::from_safetensors(&bytes, Path::new(""), device)
        .map(|weights| weights.tensors())
        .map_err(|e| Error::Bundle {
            reason: e.reason(),
            path: path.into(),
        })
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
    write_files(
        folder,
        &[
            (FILES[0], &json),
            (FILES[1], &score),
            (FILES[2], &generator),
        ],
    )
}

/// Writes a folder of these files as a whole or not at all.
fn write_files(folder: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    crate::files::write_folder(folder, CONFIG, |temporary| {
        for (name, bytes) in files {
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
    let precision = match precision {
        Precision::F32 => safetensors::Precision::F32,
        Precision::F16 => safetensors::Precision::F16,
    };
    safetensors::to_bytes(tensors, Some(precision), None).map_err(|e| Error::Bundle {
        path: folder.into(),
        reason: e.reason(),
    })
}
