//! One network of the official program by itself: `config.json` and `network.safetensors`.

use super::{
    CONFIG, Kind, MAX_CONFIG, MAX_WEIGHTS, check_files, network, read_config, write_files,
};
use crate::error::{Error, Result};
use crate::files::map_bounded;
use candle_core::{Device, Tensor};
use checkpoints::safetensors::{self, Precision};
use msal_gan::official::{Discriminator, DiscriminatorConfig, Generator, GeneratorConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

const WEIGHTS: &str = "network.safetensors";
const FORMAT: u32 = 1;

/// The network and its shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", content = "config", rename_all = "kebab-case")]
pub enum Single {
    /// The official generator.
    OfficialGenerator(GeneratorConfig),
    /// The official discriminator.
    OfficialDiscriminator(DiscriminatorConfig),
}

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SingleConfig {
    /// `network`.
    pub kind: Kind,
    /// Version of this format.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// The network.
    pub network: Single,
    /// Where the weights come from, in words.
    pub provenance: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}

impl SingleConfig {
    /// A network of this shape; names and licence are to be filled in.
    pub fn new(network: Single) -> Self {
        Self {
            kind: Kind::Network,
            format: FORMAT,
            name: String::new(),
            network,
            provenance: String::new(),
            licence: String::new(),
            attribution: String::new(),
        }
    }

    /// Whether its tensors are of a size that can be meant.
    fn check(&self) -> std::result::Result<(), String> {
        let (width, doublings) = match &self.network {
            Single::OfficialGenerator(g) => (g.n_channels, 4),
            Single::OfficialDiscriminator(d) => (d.n_channels, d.n_blocks),
        };
        match self.format == FORMAT && doublings <= 16 && width << doublings <= 1 << 15 {
            true => Ok(()),
            false => Err(format!(
                "format is {}, this program reads {FORMAT}; a width of {width} doubled {doublings} times may come to 32768",
                self.format
            )),
        }
    }

    /// Builds the network once: its number of parameters.
    fn parameters(&self, weights: &[u8], name: &Path) -> Result<usize> {
        let bad = |file: &str, reason| Error::Bundle {
            path: name.join(file),
            reason,
        };
        self.check().map_err(|e| bad(CONFIG, e))?;
        let made = network(weights, &Device::Cpu, |vb| {
            match self.network.clone() {
                Single::OfficialGenerator(c) => Generator::new(c, vb).map(|_| ())?,
                Single::OfficialDiscriminator(c) => Discriminator::new(c, vb).map(|_| ())?,
            }
            Ok(())
        });
        Ok(made.map_err(|e| bad(WEIGHTS, e))?.1)
    }
}

/// Reads what a single network's bundle says, and checks its tensors: the configuration and the number of parameters.
///
/// # Errors
/// As [`crate::Bundle::read`].
pub fn read_single(folder: &Path) -> Result<(SingleConfig, usize)> {
    check_files(folder, &[CONFIG, WEIGHTS])?;
    let config: SingleConfig = read_config(folder, MAX_CONFIG)?;
    let weights = map_bounded(&folder.join(WEIGHTS), MAX_WEIGHTS)?;
    let parameters = config.parameters(&weights, folder)?;
    Ok((config, parameters))
}

/// Writes a bundle as a whole or not at all; floats in the given precision, or as they are.
///
/// # Errors
/// A configuration or tensors that make no network, an unwritable folder, or one that holds something else.
pub fn write_single(
    folder: &Path,
    config: &SingleConfig,
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let weights = safetensors::to_bytes(tensors, precision, None)?;
    config.parameters(&weights, folder)?;
    write_files(folder, &[(CONFIG, &json), (WEIGHTS, &weights)])
}
