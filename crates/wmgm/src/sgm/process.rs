//! The processes that networks are trained on, in the words of the programs that train them.

use super::chain::{Chain, Scheduler};
use crate::error::{Error, Result};
use score_sde::DiffusionConfig;
use score_sde::sde::{Process, Sde};
use serde::{Deserialize, Serialize};

/// A process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", content = "config", rename_all = "kebab-case")]
pub enum ProcessConfig {
    /// A discrete one by improved-diffusion's flags.
    ImprovedDiffusion(DiffusionConfig),
    /// A discrete one by the configuration of diffusers' DDPM and DDIM.
    Diffusers(Scheduler),
    /// One in continuous time, as score_sde's.
    ScoreSde(SdeConfig),
}

/// A process of score_sde and the data it is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SdeConfig {
    /// The process.
    pub process: Process,
    /// Whether the network was trained at all times (score_sde's `training.continuous`), or at the discrete ones alone.
    pub continuous: bool,
    /// Whether pictures are in [-1, 1]; else they are in [0, 1].
    pub centered: bool,
}

impl ProcessConfig {
    /// The discrete process with its steps: all it is configured with, or so many; `None` for one in continuous time.
    pub(super) fn chain(&self, steps: Option<usize>, default: usize) -> Result<Option<Chain>> {
        match self {
            Self::ImprovedDiffusion(c) => Chain::improved_diffusion(c, steps).map(Some),
            Self::Diffusers(c) => Chain::diffusers(c, steps.unwrap_or(default)).map(Some),
            Self::ScoreSde(_) => Ok(None),
        }
    }

    /// The process in continuous time, with so many scales.
    pub(super) fn sde(&self, steps: usize) -> Result<SdeConfig> {
        let Self::ScoreSde(c) = self else {
            return Err(Error::Argument("the process is a discrete one".into()));
        };
        let process = c.process.with_scales(steps);
        if !c.continuous && process != c.process {
            return Err(Error::Argument(format!(
                "steps is {steps}, but the network was trained at {} times alone (continuous is false); use as many",
                c.process.scales()
            )));
        }
        Ok(SdeConfig {
            process,
            ..c.clone()
        })
    }

    /// Errs unless the process can be built.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::ImprovedDiffusion(c) => Chain::improved_diffusion(c, None).map(|_| ()),
            Self::Diffusers(c) => Chain::diffusers(c, 1).map(|_| ()),
            Self::ScoreSde(c) => Ok(c.process.check()?),
        }
    }

    /// Whether its network returns variances after the pictures.
    pub(super) fn learns_variances(&self) -> bool {
        match self {
            Self::ImprovedDiffusion(c) => c.learn_sigma,
            Self::Diffusers(c) => c.variance_type == super::VarianceType::LearnedRange,
            Self::ScoreSde(_) => false,
        }
    }

    /// Pictures in the range of the process's data, in [-1, 1].
    pub(crate) fn centred(
        &self,
        x: candle_core::Tensor,
    ) -> candle_core::Result<candle_core::Tensor> {
        match self {
            Self::ScoreSde(c) if !c.centered => x.affine(2.0, -1.0),
            _ => Ok(x),
        }
    }

    /// The process in a line.
    pub fn describe(&self) -> String {
        match self {
            Self::ImprovedDiffusion(c) => format!(
                "discrete, {} steps, {:?} schedule{}{}",
                c.diffusion_steps,
                c.noise_schedule,
                if c.learn_sigma {
                    ", learned variances"
                } else {
                    ""
                },
                if c.predict_xstart {
                    ", predicts x_0"
                } else {
                    ""
                }
            ),
            Self::Diffusers(c) => format!(
                "discrete, {} steps, {:?} schedule, predicts {}, {:?} variances",
                c.num_train_timesteps, c.beta_schedule, c.prediction_type, c.variance_type
            ),
            Self::ScoreSde(c) => format!(
                "{:?}, {}, pictures in {}",
                c.process,
                if c.continuous {
                    "continuous"
                } else {
                    "discrete"
                },
                if c.centered { "[-1, 1]" } else { "[0, 1]" }
            ),
        }
    }
}
