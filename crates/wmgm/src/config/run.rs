//! A training run of any kind.

use super::{DiffusedConfig, ReportConfig, TrainConfig};
use crate::bundle::{Head, Kind, band_name};
use crate::error::{Error, Result};
use nn_ops::Precision;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A run by the field `kind` of its file: `wmgm`, which need not be said, `sgm` or `wsgm`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RunConfig {
    /// A low band's diffusion and a generator of details.
    Wmgm(Box<TrainConfig>),
    /// A diffusion on pixels, or of every band.
    Diffused(Box<DiffusedConfig>),
}

impl From<TrainConfig> for RunConfig {
    fn from(config: TrainConfig) -> Self {
        Self::Wmgm(Box::new(config))
    }
}

impl From<DiffusedConfig> for RunConfig {
    fn from(config: DiffusedConfig) -> Self {
        Self::Diffused(Box::new(config))
    }
}

impl RunConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = crate::files::read_bounded(path, 1 << 20)?;
        let bad = |reason: String| Error::Config {
            path: path.into(),
            reason,
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        Self::parse(text).map_err(bad)
    }

    /// Reads and checks TOML.
    ///
    /// # Errors
    /// Another shape, or values out of range, in words.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        // Each kind reads the text itself, so that messages show the line.
        let head: Head = toml::from_str(text).map_err(|e| e.to_string())?;
        let config = match head.kind {
            Kind::Wmgm => Self::Wmgm(of(text)?),
            Kind::Sgm | Kind::Wsgm => Self::Diffused(of(text)?),
            Kind::Network => return Err("kind is network, which cannot be trained alone".into()),
        };
        config.check()?;
        Ok(config)
    }

    /// Whether a run can use every value, and the networks can be built of them.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        match self {
            Self::Wmgm(c) => c.check(),
            Self::Diffused(c) => c.check(),
        }
    }

    /// The same as TOML values.
    pub(crate) fn value(&self) -> Result<toml::Value> {
        match self {
            Self::Wmgm(c) => toml::Value::try_from(c),
            Self::Diffused(c) => toml::Value::try_from(c),
        }
        .map_err(|e| Error::Argument(e.to_string()))
    }

    /// All that decides what one of its stages becomes, given the pictures: equal values, equal weights, in runs of any kinds.
    pub(crate) fn stage_value(&self, stage: &str) -> Result<toml::Value> {
        let run = self.value()?;
        let own = match self {
            Self::Wmgm(_) => run.get(stage).cloned(),
            Self::Diffused(c) => {
                let band = c.bands().find(|(level, _)| band_name(*level) == stage);
                let value = band.map(|(_, d)| toml::Value::try_from(d)).transpose();
                value.map_err(|e| Error::Argument(e.to_string()))?
            }
        };
        let shared = ["size", "levels", "wavelet", "seed", "precision"];
        let fields = shared.iter().map(|name| (*name, run.get(*name).cloned()));
        let fields = fields.chain([("stage", own)]);
        let fields = fields.filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ok(toml::Value::Table(fields.collect()))
    }

    /// Seed of everything random in the run.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Wmgm(c) => c.seed,
            Self::Diffused(c) => c.seed,
        }
    }

    /// Side of the pictures.
    pub fn size(&self) -> usize {
        match self {
            Self::Wmgm(c) => c.size,
            Self::Diffused(c) => c.size,
        }
    }

    /// Wavelet levels, and the wavelet.
    pub fn wavelet(&self) -> (usize, &str) {
        match self {
            Self::Wmgm(c) => (c.levels, &c.wavelet),
            Self::Diffused(c) => (c.levels, &c.wavelet),
        }
    }

    /// What networks compute in while they train.
    ///
    /// # Errors
    /// A name that is not a precision, or f16, whose gradients would vanish.
    pub fn training_precision(&self) -> std::result::Result<Precision, String> {
        super::training_precision(match self {
            Self::Wmgm(c) => &c.precision,
            Self::Diffused(c) => &c.precision,
        })
    }

    /// The sampler of the model, unless another is asked for.
    pub fn sampler(&self) -> &String {
        match self {
            Self::Wmgm(c) => &c.sample.sampler,
            Self::Diffused(c) => &c.sample.sampler,
        }
    }

    /// How often things are saved and shown.
    pub fn report(&self) -> &ReportConfig {
        match self {
            Self::Wmgm(c) => &c.report,
            Self::Diffused(c) => &c.report,
        }
    }
}

fn of<T: DeserializeOwned>(text: &str) -> std::result::Result<Box<T>, String> {
    toml::from_str(text)
        .map(Box::new)
        .map_err(|e| e.to_string())
}
