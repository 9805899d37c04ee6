//! Training objectives: what a network's loss on clean pictures is, given times and noise.
//!
//! An [`Objective`] returns one loss per picture, differentiable in the network: the mean, weights of importance sampling
//! and the backward pass are the caller's. Times are arguments, as is noise; [`TimeSampler`] and
//! [`TimestepSampler`](crate::diffusion::TimestepSampler) make them of uniform numbers.
//!
//! | objective | is |
//! |---|---|
//! | [`ScoreMatching`] | denoising score matching on any [`Sde`](crate::sde::Sde), with or without likelihood weighting |
//! | [`PredictionLoss`] | the squared error of any [`Prediction`](crate::prediction::Prediction) on any [`Forward`] process, weighted by 1, min-SNR or P2 |
//! | [`PredictionLoss::ddpm`], [`PredictionLoss::smld`] | score_sde's discrete losses, which are two of these |
//! | [`Edm`](crate::Edm) | the preconditioned loss of Karras et al. 2022 |
//! | [`GaussianDiffusion`] | L_simple, the variational bound and their hybrid, by its [`LossType`](crate::diffusion::LossType) |

mod edm;
mod prediction;
mod score_matching;
mod times;

pub use prediction::{Forward, NoiseLevels, PredictionLoss, Weight};
pub use score_matching::{ScoreMatching, Weighting};
pub use times::{
    LikelihoodTimes, LogNormalSigmas, TimeSampler, UniformTimes, low_discrepancy, stratified,
    uniforms,
};

use crate::diffusion::{GaussianDiffusion, Model};
use crate::error::{Error, Result, same_shape};
use crate::pictures::means;
use candle_core::Tensor;

/// A loss per picture.
pub trait Objective {
    /// A continuous time, a noise level or the number of a step.
    type Time: Copy;

    /// The losses (N) of clean pictures `x0` (N, ...) at their `times`, with standard normal `noise` of x0's shape.
    ///
    /// # Errors
    /// Shapes or times that do not fit, errors of the network.
    fn losses(
        &self,
        network: Model,
        x0: &Tensor,
        times: &[Self::Time],
        noise: &Tensor,
    ) -> Result<Tensor>;
}

impl Objective for GaussianDiffusion {
    type Time = usize;

    /// The `loss` of [`GaussianDiffusion::training_losses`], which has its parts, too.
    fn losses(&self, network: Model, x0: &Tensor, t: &[usize], noise: &Tensor) -> Result<Tensor> {
        Ok(self.training_losses(network, x0, t, noise)?.loss)
    }
}

/// How the squares of a picture become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean: score_sde's `reduce_mean`.
    #[default]
    Mean,
    /// Half their sum: score_sde without it.
    HalfSum,
}

impl Reduction {
    /// (N, ...) to (N).
    fn of(self, squares: &Tensor) -> Result<Tensor> {
        match self {
            Self::Mean => means(squares),
            Self::HalfSum => Ok((squares.flatten_from(1)?.sum(1)? * 0.5)?),
        }
    }
}

/// Errs unless x0 is (N, ...) of at least two dimensions, not empty, with N times, and the noise of its shape.
fn check(op: &'static str, x0: &Tensor, times: usize, noise: &Tensor) -> Result<()> {
    if x0.rank() < 2 || x0.dims()[0] != times || x0.elem_count() == 0 {
        return Err(Error::Shape {
            op,
            name: "x0",
            got: x0.dims().to_vec(),
            expected: format!("({times}, C, ...), one picture per time"),
        });
    }
    same_shape(op, "noise", noise, x0)
}

/// Losses (N) times one factor each.
fn weigh(losses: &Tensor, factors: &[f64]) -> Result<Tensor> {
    Ok((losses * crate::pictures::per_picture(losses, factors)?)?)
}
