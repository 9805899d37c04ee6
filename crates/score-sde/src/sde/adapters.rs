//! Between scores in time and denoisers in sigma, by Tweedie's formula: D(x; sigma) = x + sigma^2 score(x; sigma) for
//! x = x_t / signal and sigma = std / signal.

use super::{Score, Sde};
use crate::pictures::{check_times, scale};
use crate::sampler::Denoiser;
use candle_core::{Result, Tensor};

/// The score of a process from a denoiser D(x; sigma), so that the samplers in time run on it.
#[derive(Clone, Copy)]
pub struct DenoiserScore<'a> {
    /// The process whose score it is.
    pub sde: &'a dyn Sde,
    /// The denoiser. It takes one sigma at a time: pictures at different times are handed to it in turn.
    pub denoiser: &'a dyn Denoiser,
}

impl Score for DenoiserScore<'_> {
    fn score(&self, x: &Tensor, t: &[f64]) -> Result<Tensor> {
        check_times("DenoiserScore", x, t)?;
        let signal = |t: f64| self.sde.marginal(t).signal;
        let std = |t: f64| self.sde.marginal(t).std;
        let plain = scale(x, t, |t| 1.0 / signal(t))?;
        let mut clean = Vec::new();
        let mut from = 0;
        for run in t.chunk_by(|a, b| a == b) {
            let part = plain.narrow(0, from, run.len())?;
            clean.push(self.denoiser.denoise(&part, self.sde.sigma(run[0]))?);
            from += run.len();
        }
        let toward = (Tensor::cat(&clean, 0)? - plain)?;
        Ok(scale(&toward, t, |t| signal(t) / std(t).powi(2))?)
    }
}

/// The denoiser D(x; sigma) of a process and its score, so that the samplers in sigma run on it: from noise at
/// `sde.sigma(sde.end())`. For a sigma beyond the process the score is asked at the nearest time.
#[derive(Clone, Copy)]
pub struct ScoreDenoiser<'a> {
    /// The process.
    pub sde: &'a dyn Sde,
    /// Its score.
    pub score: &'a dyn Score,
}

impl Denoiser for ScoreDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let t = self.sde.time(sigma);
        let m = self.sde.marginal(t);
        let times = vec![t; x.dims().first().copied().unwrap_or(0)];
        let score = self.score.score(&(x * m.signal)?, &times)?;
        // -std score is the noise predicted.
        x + (score * (m.std * sigma))?
    }
}
