//! A process from improved-diffusion's command-line flags.

use super::{GaussianDiffusion, LossType, MeanType, Schedule, VarType, space_timesteps};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// improved-diffusion's flags, with its names and defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// Steps the network was trained with.
    pub diffusion_steps: usize,
    /// How fast the noise grows.
    pub noise_schedule: Schedule,
    /// Which of them to use, see [`space_timesteps`]; empty for all.
    pub timestep_respacing: String,
    /// The network returns variances after the means (twice the channels).
    pub learn_sigma: bool,
    /// With fixed variances, the smaller choice.
    pub sigma_small: bool,
    /// Train on the variational bound alone.
    pub use_kl: bool,
    /// The network predicts the clean picture, not the noise.
    pub predict_xstart: bool,
    /// Show the network steps scaled to 0..1000 whatever their number.
    pub rescale_timesteps: bool,
    /// Weight of the variational part T / 1000, not 1: the hybrid loss of the paper.
    pub rescale_learned_sigmas: bool,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            diffusion_steps: 1000,
            noise_schedule: Schedule::Linear,
            timestep_respacing: String::new(),
            learn_sigma: false,
            sigma_small: false,
            use_kl: false,
            predict_xstart: false,
            rescale_timesteps: true,
            rescale_learned_sigmas: true,
        }
    }
}

impl DiffusionConfig {
    /// The process.
    ///
    /// # Errors
    /// A number of steps or a respacing that does not exist.
    pub fn build(&self) -> Result<GaussianDiffusion> {
        let mean = if self.predict_xstart {
            MeanType::XStart
        } else {
            MeanType::Epsilon
        };
        let var = match (self.learn_sigma, self.sigma_small) {
            (true, _) => VarType::LearnedRange,
            (false, true) => VarType::FixedSmall,
            (false, false) => VarType::FixedLarge,
        };
        let loss = match (self.use_kl, self.rescale_learned_sigmas) {
            (true, _) => LossType::RescaledKl,
            (false, true) => LossType::RescaledMse,
            (false, false) => LossType::Mse,
        };
        let betas = self.noise_schedule.betas(self.diffusion_steps)?;
        let steps = space_timesteps(self.diffusion_steps, &self.timestep_respacing)?;
        GaussianDiffusion::new(betas, mean, var, loss)?
            .rescale_timesteps(self.rescale_timesteps)
            .respaced(&steps)
    }
}
