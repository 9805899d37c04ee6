//! A wavelet cascade on disk: `config.json` and `cascade.safetensors`.

use super::{CONFIG, Kind, MAX_CONFIG, check_files, read_config, write_files};
use crate::error::{Error, Result};
use crate::wsgm::{Cascade, CascadeConfig, is_parameter};
use candle_core::{DType, Device, Tensor};
use checkpoints::Checkpoint;
use checkpoints::safetensors::{self, Precision};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// The file of weights.
pub(crate) const CASCADE: &str = "cascade.safetensors";
const FORMAT: u32 = 1;

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WsgmConfig {
    /// `wsgm`.
    pub kind: Kind,
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// The cascade.
    pub cascade: CascadeConfig,
    /// Where the weights come from, in words.
    pub provenance: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}

impl WsgmConfig {
    /// A model of this cascade; names and licence are to be filled in.
    pub fn new(cascade: CascadeConfig) -> Self {
        Self {
            kind: Kind::Wsgm,
            format: FORMAT,
            name: String::new(),
            cascade,
            provenance: String::new(),
            licence: String::new(),
            attribution: String::new(),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.format != FORMAT || self.kind != Kind::Wsgm {
            return Err(format!(
                "kind is {:?} and format {}, this is read as wsgm of format {FORMAT}",
                self.kind, self.format
            ));
        }
        self.cascade.check().map_err(|e| format!("cascade.{e}"))
    }
}

/// Reads what a cascade's bundle says, without its weights.
///
/// # Errors
/// A folder that is none of this kind, a field out of range.
pub fn read_wsgm_config(folder: &Path) -> Result<WsgmConfig> {
    check_files(folder, &[CONFIG, CASCADE])?;
    let config: WsgmConfig = read_config(folder, MAX_CONFIG)?;
    config.check().map_err(|reason| Error::Bundle {
        path: folder.join(CONFIG),
        reason,
    })?;
    Ok(config)
}

/// Reads a folder.
pub(crate) fn read(folder: &Path, device: &Device) -> Result<(WsgmConfig, Cascade)> {
    let config = read_wsgm_config(folder)?;
    let state = Checkpoint::open(folder.join(CASCADE))?;
    let cascade = Cascade::load(config.cascade.clone(), &state, device)?;
    Ok((config, cascade))
}

/// Writes a bundle as a whole or not at all; parameters in the given precision, or as they are. The numbers of statistics
/// and processes stay as they are.
///
/// # Errors
/// A configuration or tensors that make no cascade, an unwritable folder, or one that holds something else.
pub fn write_wsgm(
    folder: &Path,
    config: &WsgmConfig,
    mut tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
) -> Result<()> {
    let dtype = precision.map(|precision| match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::BF16 => DType::BF16,
    });
    if let Some(dtype) = dtype {
        for (_, tensor) in tensors.iter_mut().filter(|(name, _)| is_parameter(name)) {
            *tensor = tensor.to_dtype(dtype)?;
        }
    }
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let weights = safetensors::to_bytes(tensors, None, None)?;
    // What was just written must load: a value that the precision cannot hold is found here, not by the user.
    config.check().map_err(Error::Argument)?;
    let state = Checkpoint::from_bytes(folder.join(CASCADE), weights.clone())?;
    Cascade::load(config.cascade.clone(), &state, &Device::Cpu)?;
    write_files(folder, &[(CONFIG, &json), (CASCADE, &weights)])
}
