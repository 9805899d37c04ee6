//! Denoising score matching in continuous time.

use super::{Objective, Reduction, check, weigh};
use crate::diffusion::Model;
use crate::error::{Error, Result, same_shape};
use crate::pictures::scale;
use crate::sde::{Labels, NetworkScore, Score, Sde};
use candle_core::Tensor;

/// What a squared error of the score is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weighting {
    /// std^2, so that the loss is the error of the noise predicted (Song et al. 2021, arXiv 2011.13456, eq. 7).
    #[default]
    Variance,
    /// g^2: the loss bounds the likelihood (Song et al. 2021, "Maximum likelihood training of score-based diffusion models",
    /// arXiv 2101.09258). Best with the times of [`LikelihoodTimes`](super::LikelihoodTimes).
    Likelihood,
}

/// Denoising score matching: the squared distance of the score from that of x_t given x_0, -noise / std. Its minimum over
/// all functions is the score of x_t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreMatching<S> {
    /// The process.
    pub sde: S,
    /// The weight of a time.
    pub weighting: Weighting,
    /// Mean or half sum of a picture.
    pub reduction: Reduction,
    /// What a network is shown for a time.
    pub labels: Labels,
}

impl<S: Sde> ScoreMatching<S> {
    /// With score_sde's defaults for training in continuous time, but the mean of each picture: weights std^2.
    pub fn new(sde: S) -> Self {
        Self {
            sde,
            weighting: Weighting::default(),
            reduction: Reduction::default(),
            labels: Labels::Continuous,
        }
    }

    /// The losses of a score, see [`Objective::losses`].
    ///
    /// # Errors
    /// Shapes that do not fit, a time at which there is no noise or outside the process, errors of the score.
    pub fn of_score(
        &self,
        score: &dyn Score,
        x0: &Tensor,
        t: &[f64],
        noise: &Tensor,
    ) -> Result<Tensor> {
        const OP: &str = "ScoreMatching";
        self.sde.check()?;
        check(OP, x0, t.len(), noise)?;
        let marginal = |t: f64| self.sde.marginal(t);
        let inside = |t: f64| t >= 0.0 && t <= self.sde.end() && marginal(t).std > 0.0;
        if let Some(t) = t.iter().find(|t| !inside(**t)) {
            return Err(Error::Argument {
                op: OP,
                name: "t",
                value: t.to_string(),
                need: "above 0 and up to the end of the process",
            });
        }
        let x_t = (scale(x0, t, |t| marginal(t).signal)? + scale(noise, t, |t| marginal(t).std)?)?;
        let score = score.score(&x_t, t)?;
        same_shape(OP, "the score", &score, x0)?;
        // std times the error of the score is that of the noise.
        let error = (scale(&score, t, |t| marginal(t).std)? + noise)?;
        let losses = self.reduction.of(&error.sqr()?)?;
        if self.weighting == Weighting::Variance {
            return Ok(losses);
        }
        let weight = |t: &f64| (self.sde.diffusion(*t) / marginal(*t).std).powi(2);
        weigh(&losses, &t.iter().map(weight).collect::<Vec<_>>())
    }
}

impl<S: Sde> Objective for ScoreMatching<S> {
    type Time = f64;

    fn losses(&self, network: Model, x0: &Tensor, t: &[f64], noise: &Tensor) -> Result<Tensor> {
        let score = NetworkScore {
            sde: &self.sde,
            network,
            labels: self.labels,
        };
        self.of_score(&score, x0, t, noise)
    }
}
