//! SGM and WSGM of this program on disk: `config.json` and `score.safetensors`, which holds the networks of all bands,
//! `low.` and `level1.`, `level2.` ... before their tensors' names.

use super::sgm::SCORE;
use super::{
    CONFIG, Init, Kind, MAX_CONFIG, MAX_WEIGHTS, Precision, Variant, check_files, network,
    read_config, serialize, write_files,
};
use crate::bands::{BandStats, LevelStats, check_band_stats, check_stats};
use crate::config::{DiffusedConfig, LowConfig, SampleDefaults};
use crate::config::{channels, check_band, check_edm, check_sample, check_unet};
use crate::error::{Error, Result};
use crate::files::map_bounded;
use crate::model::{BandModel, preconditioner};
use crate::transform::Transform;
use candle_core::{Device, Tensor};
use score_sde::{Edm, UNet, UNetConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

const FORMAT: u32 = 1;

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusedBundle {
    /// `sgm` or `wsgm`.
    pub kind: Kind,
    /// `edm`.
    pub variant: Variant,
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// Side of its pictures.
    pub size: usize,
    /// Wavelet levels; 0 for SGM.
    pub levels: usize,
    /// Wavelet, by its PyWavelets name, in periodization.
    pub wavelet: String,
    /// Statistics of the pixels, where there are no levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<BandStats>,
    /// Statistics of every level's bands, the finest first.
    pub bands: Vec<LevelStats>,
    /// The diffusion of the coarsest low band, or of the pixels.
    pub low: BandNetwork,
    /// The diffusions of each level's details, the finest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<BandNetwork>,
    /// Default sampler.
    pub sample: SampleDefaults,
    /// Seed of the run.
    pub seed: u64,
    /// Number of training pictures.
    pub pictures: usize,
    /// A hash of their pixels.
    pub data_fingerprint: String,
    /// The model whose weights the run started from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}

/// A band's network and how it was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandNetwork {
    /// The network.
    pub unet: UNetConfig,
    /// How often the band is folded before the network sees it.
    #[serde(default)]
    pub fold: usize,
    /// Preconditioning and noise levels.
    pub edm: Edm,
    /// The deviation of each folded channel of opponent colours in the training pictures, where the network is preconditioned by
    /// them in place of `edm.sigma_data`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<f64>,
    /// Steps of training.
    pub steps: u64,
    /// Pictures per step.
    pub batch: usize,
}

impl BandNetwork {
    fn new(config: &LowConfig, channels: &[f64], steps: u64) -> Self {
        Self {
            channels: channels.to_vec(),
            unet: config.unet.clone(),
            fold: config.fold,
            edm: config.edm,
            steps,
            batch: config.optim.batch,
        }
    }
}

/// The names of the networks of levels 1 to 6 in files, and of the stages that train them.
const LEVELS: [&str; 6] = ["level1", "level2", "level3", "level4", "level5", "level6"];

/// The name of a band's network in files: of the coarsest low band (`None`), or of the details of a level from 1 to 6.
pub(crate) fn band_name(level: Option<usize>) -> &'static str {
    let name = level.and_then(|level| LEVELS.get(level.wrapping_sub(1)));
    name.copied().unwrap_or("low")
}

/// What a run knows beside its configuration.
pub(crate) struct Trained {
    pub(crate) pixels: Option<BandStats>,
    /// Deviations of the pixels' folded channels, where SGM is preconditioned by them.
    pub(crate) channels: Vec<f64>,
    pub(crate) bands: Vec<LevelStats>,
    pub(crate) pictures: usize,
    pub(crate) data_fingerprint: String,
    pub(crate) init: Option<Init>,
    /// Steps of the networks in the order of [`DiffusedConfig::bands`].
    pub(crate) steps: Vec<u64>,
}

impl DiffusedBundle {
    pub(crate) fn new(c: &DiffusedConfig, t: Trained) -> Self {
        let networks = c.bands().zip(&t.steps);
        let mut networks =
            networks.map(|((_, config), steps)| BandNetwork::new(config, &t.channels, *steps));
        let low = networks.next();
        let mut details: Vec<BandNetwork> = networks.collect();
        details.reverse(); // coarsest first to finest first
        Self {
            kind: c.kind,
            variant: Variant::Edm,
            format: FORMAT,
            name: c.name.clone(),
            size: c.size,
            levels: c.levels,
            wavelet: c.wavelet.clone(),
            pixels: t.pixels,
            bands: t.bands,
            low: low.unwrap_or_else(|| BandNetwork::new(&c.low, &t.channels, 0)),
            details,
            sample: c.sample.clone(),
            seed: c.seed,
            pictures: t.pictures,
            data_fingerprint: t.data_fingerprint,
            init: t.init,
            licence: c.licence.clone(),
            attribution: c.attribution.clone(),
        }
    }

    /// The networks, the coarsest low band's first, then the details' down to level 1.
    pub fn networks(&self) -> impl Iterator<Item = (Option<usize>, &BandNetwork)> {
        let details = self.details.iter().enumerate().rev();
        std::iter::once((None, &self.low)).chain(details.map(|(i, d)| (Some(i + 1), d)))
    }

    fn check(&self) -> std::result::Result<(), String> {
        let kind = match self.levels {
            0 => Kind::Sgm,
            _ => Kind::Wsgm,
        };
        if self.format != FORMAT || self.kind != kind || self.variant != Variant::Edm {
            return Err(format!(
                "kind is {:?}, variant {:?}, format {} and levels {}; this is read as sgm without levels or wsgm with \
                 some, variant edm, format {FORMAT}",
                self.kind, self.variant, self.format, self.levels
            ));
        }
        if self.levels > LEVELS.len() || !(16..=4096).contains(&self.size) {
            return Err(format!(
                "levels is {} and size {}, they must be 0 to {} and 16 to 4096",
                self.levels,
                self.size,
                LEVELS.len()
            ));
        }
        if (self.size >> self.levels) << self.levels != self.size {
            return Err(format!(
                "levels is {}, but size {} does not divide by 2^levels",
                self.levels, self.size
            ));
        }
        for (field, entries) in [("bands", self.bands.len()), ("details", self.details.len())] {
            if entries != self.levels {
                return Err(format!(
                    "{field} has {entries} entries, but levels is {}",
                    self.levels
                ));
            }
        }
        match &self.pixels {
            Some(stats) if self.levels == 0 => check_band_stats("pixels", stats)?,
            None if self.levels > 0 => {}
            _ => return Err("pixels must be given where levels is 0, and there alone".into()),
        }
        for (i, bands) in self.bands.iter().enumerate() {
            check_stats(bands).map_err(|e| format!("bands[{i}]: {e}"))?;
        }
        for (level, n) in self.networks() {
            let field = band_name(level);
            let side = self.size >> level.unwrap_or(self.levels);
            check_unet(field, &n.unet)?;
            check_band(field, side, n.fold, channels(level), &n.unet)?;
            check_edm(field, &n.edm)?;
            if !n.channels.is_empty() && n.channels.len() != n.unet.out_channels {
                return Err(format!(
                    "{field}.channels has {} deviations for {} channels",
                    n.channels.len(),
                    n.unet.out_channels
                ));
            }
            preconditioner(n.edm, &n.channels).map_err(|e| format!("{field}: {e}"))?;
        }
        check_sample(&self.sample, 1).map_err(|e| format!("sample: {e}"))?;
        Transform::new(&self.wavelet).map_err(|e| format!("wavelet: {e}"))?;
        Ok(())
    }

    /// The models of all bands, and the number of their parameters.
    fn build(&self, weights: &[u8], name: &Path, device: &Device) -> Result<(Bands, usize)> {
        let bad = |file: &str, reason| Error::Bundle {
            path: name.join(file),
            reason,
        };
        self.check().map_err(|e| bad(CONFIG, e))?;
        network(weights, device, |vb| {
            let model = |level: Option<usize>, n: &BandNetwork| {
                Ok::<_, Error>(BandModel {
                    net: UNet::new(n.unet.clone(), vb.pp(band_name(level)))?,
                    guide: None,
                    preconditioner: preconditioner(n.edm, &n.channels)?,
                    channels: channels(level)[1],
                    side: self.size >> level.unwrap_or(self.levels),
                    fold: n.fold,
                })
            };
            let details = self.details.iter().enumerate();
            Ok(Bands {
                low: model(None, &self.low)?,
                details: (details.map(|(i, n)| model(Some(i + 1), n))).collect::<Result<_>>()?,
            })
        })
        .map_err(|e| bad(SCORE, e))
    }
}

/// The models of all bands.
#[derive(Debug, Clone)]
pub(crate) struct Bands {
    /// Of the coarsest low band, or the pixels.
    pub(crate) low: BandModel,
    /// Of each level's details, the finest first.
    pub(crate) details: Vec<BandModel>,
}

/// A folder's configuration, models and number of parameters.
pub(crate) fn read(folder: &Path, device: &Device) -> Result<(DiffusedBundle, Bands, usize)> {
    check_files(folder, &[CONFIG, SCORE])?;
    let config: DiffusedBundle = read_config(folder, MAX_CONFIG)?;
    let weights = map_bounded(&folder.join(SCORE), MAX_WEIGHTS)?;
    let (models, parameters) = config.build(&weights, folder, device)?;
    Ok((config, models, parameters))
}

/// Tensors by the name of their band's network.
pub(crate) type ByBand = HashMap<&'static str, HashMap<String, Tensor>>;

/// A folder's configuration and its tensors, network by network.
pub(crate) fn read_tensors(folder: &Path, device: &Device) -> Result<(DiffusedBundle, ByBand)> {
    // Whole and sound as a model first: errors are those of every reader of bundles.
    let (config, ..) = read(folder, device)?;
    let mut tensors = super::tensors(&folder.join(SCORE), MAX_WEIGHTS, device)?;
    let mut out = HashMap::new();
    for (level, _) in config.networks() {
        let name = band_name(level);
        let prefix = format!("{name}.");
        let mine = tensors.extract_if(|n, _| n.starts_with(&prefix));
        let mine = mine.map(|(n, t)| (n[prefix.len()..].to_owned(), t));
        out.insert(name, mine.collect());
    }
    Ok((config, out))
}

/// Writes a bundle as a whole or not at all.
///
/// # Errors
/// A configuration or tensors that make no model, an unwritable folder, or one that holds something else.
pub(crate) fn write(
    folder: &Path,
    config: &DiffusedBundle,
    networks: ByBand,
    precision: Precision,
) -> Result<()> {
    let json = serde_json::to_vec_pretty(config).map_err(|e| Error::Argument(e.to_string()))?;
    let tensors = networks.into_iter().flat_map(|(band, tensors)| {
        let named = move |(name, t)| (format!("{band}.{name}"), t);
        tensors.into_iter().map(named)
    });
    let score = serialize(folder, tensors.collect(), precision)?;
    // What was just written must load: a wrong network is found here, not by the user.
    config.build(&score, folder, &Device::Cpu)?;
    write_files(folder, &[(CONFIG, &json), (SCORE, &score)])
}
