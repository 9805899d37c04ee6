//! WMGM of the official program on disk: `config.json`, `score.safetensors` and `generator.safetensors`.

use super::sgm::SCORE;
use super::{
    CONFIG, Kind, MAX_CONFIG, MAX_WEIGHTS, Variant, check_files, network, read_config, write_files,
};
use crate::error::{Error, Result};
use crate::files::map_bounded;
use crate::sgm::{Network, SgmConfig};
use candle_core::{Device, Tensor};
use checkpoints::safetensors::{self, Precision};
use msal_gan::official::{EightBit, Generator, GeneratorConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

const GENERATOR: &str = "generator.safetensors";
const FORMAT: u32 = 1;
/// Sides that the official generator halves.
const FACTOR: usize = 16;

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairConfig {
    /// `wmgm`.
    pub kind: Kind,
    /// `official`.
    pub variant: Variant,
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// Height and width of its pictures.
    pub size: [usize; 2],
    /// Haar levels, one generator pass each.
    pub levels: usize,
    /// The diffusion of low bands, as pictures in [-1, 1].
    pub low: SgmConfig,
    /// How its pictures would have been rounded to bytes between the two stages.
    #[serde(default)]
    pub rounding: Option<EightBit>,
    /// The generator.
    pub generator: GeneratorConfig,
    /// Where the weights come from, in words.
    pub provenance: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}

/// The parts of a pair.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) config: PairConfig,
    pub(crate) low: Network,
    pub(crate) generator: Generator,
    /// Parameters of both.
    pub(crate) parameters: [usize; 2],
}

impl PairConfig {
    /// A pair of these; names and licence are those of the low band's model.
    pub fn new(
        low: SgmConfig,
        generator: GeneratorConfig,
        levels: usize,
        rounding: Option<EightBit>,
    ) -> Self {
        Self {
            kind: Kind::Wmgm,
            variant: Variant::Official,
            format: FORMAT,
            name: low.name.clone(),
            size: low
                .size
                .map(|side| side.saturating_mul(1 << levels.min(16))),
            levels,
            rounding,
            generator,
            provenance: low.provenance.clone(),
            licence: low.licence.clone(),
            attribution: low.attribution.clone(),
            low,
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.format != FORMAT || self.kind != Kind::Wmgm {
            return Err(format!(
                "format is {}, this program reads {FORMAT}",
                self.format
            ));
        }
        if !(1..=6).contains(&self.levels) {
            return Err(format!("levels is {}, it must be 1 to 6", self.levels));
        }
        self.low.check().map_err(|e| format!("low.{e}"))?;
        for (side, low) in self.size.iter().zip(self.low.size) {
            if *side > 4096 || *side != low << self.levels || !low.is_multiple_of(FACTOR) {
                return Err(format!(
                    "a side of {side} and one of {low} of the low band do not fit {} levels, or {low} does not divide \
                     by {FACTOR}",
                    self.levels
                ));
            }
        }
        let g = &self.generator;
        if g.in_channels != 6 || g.out_channels != 9 || !(2..=1 << 10).contains(&g.n_channels) {
            return Err(format!(
                "generator: {} channels in, {} out and a width of {}; it must be 6 (low band and noise), 9 (details) \
                 and 2 to 1024",
                g.in_channels, g.out_channels, g.n_channels
            ));
        }
        match self.low.network.channels().0 {
            3 => Ok(()),
            n => Err(format!("low.network: {n} channels; the generator needs 3")),
        }
    }
}

pub(crate) fn read(folder: &Path, device: &Device) -> Result<Parts> {
    check_files(folder, &[CONFIG, SCORE, GENERATOR])?;
    let config: PairConfig = read_config(folder, MAX_CONFIG)?;
    let score = map_bounded(&folder.join(SCORE), MAX_WEIGHTS)?;
    let generator = map_bounded(&folder.join(GENERATOR), MAX_WEIGHTS)?;
    build(config, [&score, &generator], folder, device)
}

fn build(config: PairConfig, weights: [&[u8]; 2], name: &Path, device: &Device) -> Result<Parts> {
    let bad = |file: &str, reason| Error::Bundle {
        path: name.join(file),
        reason,
    };
    config.check().map_err(|e| bad(CONFIG, e))?;
    let low = network(weights[0], device, |vb| {
        Network::new(&config.low.network, vb)
    });
    let (low, n_low) = low.map_err(|e| bad(SCORE, e))?;
    let generator = network(weights[1], device, |vb| {
        Ok(Generator::new(config.generator.clone(), vb)?)
    });
    let (generator, n_generator) = generator.map_err(|e| bad(GENERATOR, e))?;
    Ok(Parts {
        config,
        low,
        generator,
        parameters: [n_low, n_generator],
    })
}

/// Writes a bundle as a whole or not at all; floats in the given precision, or as they are.
///
/// # Errors
/// A configuration or tensors that make no model, an unwritable folder, or one that holds something else.
pub fn write_pair(
    folder: &Path,
    config: &PairConfig,
    score: HashMap<String, Tensor>,
    generator: HashMap<String, Tensor>,
    precision: Option<Precision>,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let score = safetensors::to_bytes(score, precision, None)?;
    let generator = safetensors::to_bytes(generator, precision, None)?;
    build(config.clone(), [&score, &generator], folder, &Device::Cpu)?;
    write_files(
        folder,
        &[(CONFIG, &json), (SCORE, &score), (GENERATOR, &generator)],
    )
}
