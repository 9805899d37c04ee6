//! A diffusion on pixels on disk: `config.json` and `score.safetensors`.

use super::{CONFIG, MAX_CONFIG, MAX_WEIGHTS, check_files, network, read_config, write_files};
use crate::error::{Error, Result};
use crate::files::map_bounded;
use crate::sgm::{Network, SgmConfig};
use candle_core::{Device, Tensor};
use checkpoints::safetensors::{self, Precision};
use std::collections::HashMap;
use std::path::Path;

/// The file of weights.
pub(super) const SCORE: &str = "score.safetensors";

/// Reads a folder: configuration, network, number of parameters.
pub(crate) fn read(folder: &Path, device: &Device) -> Result<(SgmConfig, Network, usize)> {
    check_files(folder, &[CONFIG, SCORE])?;
    let config: SgmConfig = read_config(folder, MAX_CONFIG)?;
    let weights = map_bounded(&folder.join(SCORE), MAX_WEIGHTS)?;
    build(config, &weights, folder, device)
}

fn build(
    config: SgmConfig,
    weights: &[u8],
    name: &Path,
    device: &Device,
) -> Result<(SgmConfig, Network, usize)> {
    let bad = |file: &str, reason| Error::Bundle {
        path: name.join(file),
        reason,
    };
    config.check().map_err(|e| bad(CONFIG, e))?;
    let made = network(weights, device, |vb| Network::new(&config.network, vb));
    let (network, parameters) = made.map_err(|e| bad(SCORE, e))?;
    Ok((config, network, parameters))
}

/// Writes a bundle as a whole or not at all; floats in the given precision, or as they are.
///
/// # Errors
/// A configuration or tensors that make no model, an unwritable folder, or one that holds something else.
pub fn write_sgm(
    folder: &Path,
    config: &SgmConfig,
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let score = safetensors::to_bytes(tensors, precision, None)?;
    // What was just written must load: a wrong network is found here, not by the user.
    build(config.clone(), &score, folder, &Device::Cpu)?;
    write_files(folder, &[(CONFIG, &json), (SCORE, &score)])
}
