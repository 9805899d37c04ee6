//! The predictors and correctors by name.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What takes x from one time to the next. Names in files are score_sde's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// [`euler_maruyama_step`](super::euler_maruyama_step), of length end / scales.
    EulerMaruyama,
    /// [`reverse_diffusion_step`](super::reverse_diffusion_step).
    #[default]
    ReverseDiffusion,
    /// [`ancestral_step`](super::ancestral_step); not for sub-VP, nor for the probability flow.
    AncestralSampling,
    /// Nothing: the corrector alone.
    None,
}

/// What brings x nearer to the distribution of its time. Names in files are score_sde's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corrector {
    /// [`langevin_step`](super::langevin_step).
    #[default]
    Langevin,
    /// [`annealed_langevin_step`](super::annealed_langevin_step).
    Ald,
    /// Nothing: the predictor alone.
    None,
}

impl FromStr for Predictor {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "euler_maruyama" => Self::EulerMaruyama,
            "reverse_diffusion" => Self::ReverseDiffusion,
            "ancestral_sampling" => Self::AncestralSampling,
            "none" => Self::None,
            _ => {
                return Err(Error::Unknown {
                    what: "predictor",
                    name: name.into(),
                    known: "euler_maruyama, reverse_diffusion, ancestral_sampling, none",
                });
            }
        })
    }
}

impl FromStr for Corrector {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "langevin" => Self::Langevin,
            "ald" => Self::Ald,
            "none" => Self::None,
            _ => {
                return Err(Error::Unknown {
                    what: "corrector",
                    name: name.into(),
                    known: "langevin, ald, none",
                });
            }
        })
    }
}
