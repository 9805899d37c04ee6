//! Discrete processes at work: DDPM, DDIM, and the solvers in sigma, for networks of improved-diffusion and diffusers.

use crate::error::{Error, Result};
use candle_core::Tensor;
use score_sde::diffusion::{
    BetaCurve, BetaSchedule, Coefficients, EndVariance, GaussianDiffusion, LossType, MeanType,
    Model, VarType, space_timesteps, strided_bars,
};
use score_sde::grid::{NoiseTable, Points, TimestepSpacing, timesteps};
use score_sde::prediction::Prediction;
use score_sde::sampler::{
    Clipped, Ddim, Denoiser, KeptNoise, NetworkDenoiser, Noise, OnStep, Path, SolverConfig,
    Thresholded, ddim, ddpm,
};
use score_sde::{DiffusionConfig, sampler};
use serde::{Deserialize, Serialize};

/// The most steps of a process.
const MAX_STEPS: usize = 1 << 16;

/// The configuration of diffusers' `DDPMScheduler` and `DDIMScheduler`, its names and defaults; other fields are passed
/// over, as there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// Steps the network was trained with.
    pub num_train_timesteps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// Their curve.
    pub beta_schedule: BetaCurve,
    /// The betas themselves, in place of the three above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_betas: Option<Vec<f64>>,
    /// Variances of DDPM.
    pub variance_type: VarianceType,
    /// Whether predictions of the picture are clipped.
    pub clip_sample: bool,
    /// To what range.
    pub clip_sample_range: f64,
    /// What the network predicts: `epsilon`, `sample` or `v_prediction`.
    pub prediction_type: String,
    /// Dynamic thresholding in place of clipping.
    pub thresholding: bool,
    /// Its quantile.
    pub dynamic_thresholding_ratio: f64,
    /// Its upper bound.
    pub sample_max_value: f64,
    /// How fewer steps are spread.
    pub timestep_spacing: TimestepSpacing,
    /// Added to them.
    pub steps_offset: usize,
    /// Whether betas are rescaled to no signal at the end.
    pub rescale_betas_zero_snr: bool,
    /// Whether the last step of DDIM leads to a clean picture; else to the least noise of the process.
    pub set_alpha_to_one: bool,
}

/// diffusers' `variance_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VarianceType {
    /// The posterior's.
    #[default]
    #[serde(alias = "fixed_small_log")]
    FixedSmall,
    /// Beta.
    FixedLarge,
    /// The network's, between the two.
    LearnedRange,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaCurve::Linear,
            trained_betas: None,
            variance_type: VarianceType::FixedSmall,
            clip_sample: true,
            clip_sample_range: 1.0,
            prediction_type: "epsilon".into(),
            thresholding: false,
            dynamic_thresholding_ratio: 0.995,
            sample_max_value: 1.0,
            timestep_spacing: TimestepSpacing::Leading,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
            set_alpha_to_one: true,
        }
    }
}

/// How predictions of the picture are kept in range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Not at all.
    None,
    /// Clipped to plus and minus this.
    Clip(f64),
    /// Dynamic thresholding with this quantile and bound.
    Threshold(f64, f64),
}

impl Limit {
    /// `then` with a denoiser of limited answers.
    fn of<T>(
        self,
        d: &dyn Denoiser,
        then: impl FnOnce(&dyn Denoiser) -> score_sde::error::Result<T>,
    ) -> score_sde::error::Result<T> {
        match self {
            Self::None => then(d),
            Self::Clip(range) => then(&Clipped::new(d, range)?),
            Self::Threshold(ratio, max) => then(&Thresholded::new(d, ratio, max)?),
        }
    }
}

/// A discrete process and the steps of it that are visited.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chain {
    betas: Vec<f64>,
    /// Ascending.
    visited: Vec<usize>,
    prediction: Prediction,
    variances: VarType,
    limit: Limit,
    /// What steps are multiplied by before the network sees them.
    time_scale: f64,
    end_variance: EndVariance,
    kept: KeptNoise,
    /// alpha_bar after each step of DDIM, where it does not lead to the step visited next.
    bars_after: Option<Vec<f64>>,
}

/// A sampler of a chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sampler {
    Ddpm,
    Ddim,
    Solver(SolverConfig),
}

impl Sampler {
    pub(super) fn new(name: &str) -> Result<Self> {
        match name.replace('-', "_").as_str() {
            "ddpm" => Ok(Self::Ddpm),
            "ddim" => Ok(Self::Ddim),
            other => Ok(Self::Solver(other.parse()?)),
        }
    }

    pub(super) fn evaluations(&self, chain: &Chain) -> Result<usize> {
        Ok(match self {
            Self::Ddpm | Self::Ddim => chain.process()?.steps(),
            Self::Solver(solver) => solver.evaluations(&chain.levels()?.1),
        })
    }
}

impl Chain {
    /// As improved-diffusion samples: predictions clipped to [-1, 1].
    pub(super) fn improved_diffusion(c: &DiffusionConfig, steps: Option<usize>) -> Result<Self> {
        check_steps("diffusion_steps", c.diffusion_steps)?;
        let spacing = steps.map_or(c.timestep_respacing.clone(), |n| n.to_string());
        let variances = match (c.learn_sigma, c.sigma_small) {
            (true, _) => VarType::LearnedRange,
            (false, true) => VarType::FixedSmall,
            (false, false) => VarType::FixedLarge,
        };
        Ok(Self {
            betas: c.noise_schedule.betas(c.diffusion_steps)?,
            visited: space_timesteps(c.diffusion_steps, &spacing)?,
            prediction: match c.predict_xstart {
                true => Prediction::Sample,
                false => Prediction::Epsilon,
            },
            variances,
            limit: Limit::Clip(1.0),
            time_scale: match c.rescale_timesteps {
                true => 1000.0 / c.diffusion_steps as f64,
                false => 1.0,
            },
            end_variance: EndVariance::Borrowed,
            kept: KeptNoise::OfClipped,
            bars_after: None,
        })
    }

    /// As diffusers' schedulers step.
    pub(super) fn diffusers(c: &Scheduler, steps: usize) -> Result<Self> {
        check_steps("num_train_timesteps", c.num_train_timesteps)?;
        let n = c.num_train_timesteps;
        let betas = match &c.trained_betas {
            Some(betas) if betas.len() != n => {
                return Err(Error::Argument(format!(
                    "trained_betas has {} numbers, but num_train_timesteps is {n}",
                    betas.len()
                )));
            }
            Some(betas) => betas.clone(),
            None => BetaSchedule {
                schedule: c.beta_schedule,
                beta_start: c.beta_start,
                beta_end: c.beta_end,
                zero_terminal_snr: c.rescale_betas_zero_snr,
            }
            .betas(n)?,
        };
        let spaced = timesteps(
            n,
            n,
            steps,
            c.timestep_spacing,
            Points::Whole,
            c.steps_offset,
        )?;
        let mut visited: Vec<usize> = spaced.iter().rev().map(|t| *t as usize).collect();
        visited.dedup();
        let bars = Coefficients::new(betas.clone())?.alphas_cumprod;
        let end = match c.set_alpha_to_one {
            true => 1.0,
            false => bars[0],
        };
        let bars_after = Some(strided_bars(&bars, &visited, n / steps, end)?);
        Ok(Self {
            betas,
            visited,
            prediction: c.prediction_type.parse()?,
            variances: match c.variance_type {
                VarianceType::FixedSmall => VarType::FixedSmall,
                VarianceType::FixedLarge => VarType::FixedLarge,
                VarianceType::LearnedRange => VarType::LearnedRange,
            },
            limit: match (c.thresholding, c.clip_sample) {
                (true, _) => Limit::Threshold(c.dynamic_thresholding_ratio, c.sample_max_value),
                (false, true) => Limit::Clip(c.clip_sample_range),
                (false, false) => Limit::None,
            },
            time_scale: 1.0,
            end_variance: EndVariance::Own,
            kept: KeptNoise::OfNetwork,
            bars_after,
        })
    }

    pub(super) fn steps(&self) -> usize {
        self.visited.len()
    }

    /// The process's noise levels, and those visited with 0 at the end.
    fn levels(&self) -> Result<(NoiseTable, Vec<f64>)> {
        let table = NoiseTable::from_betas(&self.betas)?;
        let sigma = |t: &usize| table.sigma_at(*t as f64);
        let sigmas = self.visited.iter().rev().map(sigma).chain([0.0]).collect();
        Ok((table, sigmas))
    }

    pub(super) fn sample(
        &self,
        sampler: &Sampler,
        model: Model,
        start: Tensor,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        match sampler {
            Sampler::Solver(solver) => self.solve(solver, model, start, noise, on_step),
            _ => self.walk(sampler, model, start, noise, on_step),
        }
    }

    /// DDPM and DDIM on the process.
    fn walk(
        &self,
        sampler: &Sampler,
        model: Model,
        start: Tensor,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        let process = self.process()?;
        let learned = self.variances.is_learned();
        let shown = |x: &Tensor, t: &Tensor| {
            let output = model(x, &(t * self.time_scale)?)?;
            match learned {
                true => Ok(output),
                false => Ok(split(&output, x)?.0),
            }
        };
        let clip = self.limit != Limit::None;
        Ok(match sampler {
            Sampler::Ddim => {
                let options = Ddim {
                    eta: 0.0,
                    clip,
                    kept: self.kept,
                    bars_after: self.bars_after.clone(),
                };
                ddim(&process, &shown, start, &options, noise, on_step)?
            }
            _ => ddpm(&process, &shown, start, clip, noise, on_step)?,
        })
    }

    /// The part of the process that is visited.
    fn process(&self) -> Result<GaussianDiffusion> {
        let mean = match self.prediction {
            Prediction::Epsilon => MeanType::Epsilon,
            Prediction::Sample => MeanType::XStart,
            Prediction::V => MeanType::V,
            other => {
                return Err(Error::Argument(format!(
                    "prediction_type is {other:?}; DDPM and DDIM take epsilon, sample or v_prediction"
                )));
            }
        };
        let betas = self.betas.clone();
        let whole = GaussianDiffusion::new(betas, mean, self.variances, LossType::Mse)?;
        let process = whole.respaced(&self.visited)?;
        let process = process.end_variance(self.end_variance);
        Ok(match self.limit {
            Limit::None => process,
            Limit::Clip(range) => process.clip_within(vec![(-range, range)])?,
            Limit::Threshold(ratio, max) => process.clip_by_threshold(ratio, max)?,
        })
    }

    /// A solver in sigma, on the levels of the steps visited.
    fn solve(
        &self,
        solver: &SolverConfig,
        model: Model,
        start: Tensor,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        let (table, sigmas) = self.levels()?;
        let network = |x: &Tensor, t: f64| {
            let t = Tensor::full((t * self.time_scale) as f32, x.dim(0)?, x.device())?;
            Ok(split(&model(x, &t)?, x)?.0)
        };
        let denoiser = NetworkDenoiser {
            network: &network,
            prediction: self.prediction,
            path: sampler::Path::VariancePreserving,
            time: &|sigma| table.time_of(sigma),
        };
        // In the network's coordinates the start has variance 1.
        let alpha = Path::VariancePreserving.alpha(sigmas[0]);
        let x = (start / alpha)?;
        Ok(self
            .limit
            .of(&denoiser, |d| solver.sample(d, x, &sigmas, noise, on_step))?)
    }
}

/// An output as pictures and, where the network has twice their channels, variances.
fn split(output: &Tensor, x: &Tensor) -> candle_core::Result<(Tensor, Option<Tensor>)> {
    let c = x.dim(1)?;
    match output.dim(1)? == 2 * c {
        true => Ok((output.narrow(1, 0, c)?, Some(output.narrow(1, c, c)?))),
        false => Ok((output.clone(), None)),
    }
}

fn check_steps(field: &str, steps: usize) -> Result<()> {
    match (1..=MAX_STEPS).contains(&steps) {
        true => Ok(()),
        false => Err(Error::Argument(format!(
            "{field} is {steps}, it must be 1 to {MAX_STEPS}"
        ))),
    }
}
