//! Stochastic differential equations with linear drift, dx = f(t) x dt + g(t) dw, and their reversal (Song et al. 2021,
//! "Score-based generative modeling through stochastic differential equations", arXiv 2011.13456).
//!
//! [`Vp`], [`SubVp`] and [`Ve`] are those of the paper, with the parameters and defaults of its program score_sde;
//! [`Process`] is one of the three, as configurations name it. Time runs from 0 (data) to [`Sde::end`] (noise).
//!
//! A [`Score`] is the gradient of ln p_t, with one time per picture. [`NetworkScore`] makes one of a network of
//! score_sde, [`DenoiserScore`] of a denoiser in sigma, [`ScoreDenoiser`] goes the other way; [`Reverse`] is the reverse
//! process, or the probability flow, that it leads to.
//!
//! Coefficients are f64 functions of t; tensors are (N, ...), one picture per row, f32 or f64.

mod adapters;
mod bands;
mod beta;
mod process;
mod reverse;
mod score;
mod subvp;
mod ve;
mod vp;

pub use adapters::{DenoiserScore, ScoreDenoiser};
pub use bands::{BandScore, Bands, JoinedScore};
pub use process::Process;
pub use reverse::Reverse;
pub use score::{Labels, NetworkScore, Query, Score};
pub use subvp::SubVp;
pub use ve::Ve;
pub use vp::Vp;

use crate::error::{Result, ensure};
use crate::pictures::pictures;
use candle_core::Tensor;

/// The distribution of x_t given x_0: x_t = signal x_0 + std z, z standard normal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marginal {
    /// What is left of the data.
    pub signal: f64,
    /// Standard deviation of the noise.
    pub std: f64,
}

/// One step of a discretised process: x_{i+1} = x_i + drift x_i + diffusion z_i.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// score_sde's f, as a factor of x.
    pub drift: f64,
    /// score_sde's G.
    pub diffusion: f64,
}

/// One step of ancestral sampling: x_{i-1} = (x_i + gain score) / signal + noise z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ancestral {
    /// By what the forward step multiplies a picture.
    pub signal: f64,
    /// Variance of the forward step.
    pub gain: f64,
    /// Standard deviation of the fresh noise.
    pub noise: f64,
}

/// A process dx = f(t) x dt + g(t) dw, t from 0 to [`end`](Sde::end).
pub trait Sde {
    /// The kind, for messages.
    fn name(&self) -> &'static str;

    /// Errs unless the parameters make sense; samplers ask before they begin.
    ///
    /// # Errors
    /// The first parameter out of its range.
    fn check(&self) -> Result<()>;

    /// The last time, score_sde's T.
    fn end(&self) -> f64 {
        1.0
    }

    /// Scales (steps) of the discretised process, score_sde's N.
    fn scales(&self) -> usize;

    /// f(t).
    fn drift(&self, t: f64) -> f64;

    /// g(t).
    fn diffusion(&self, t: f64) -> f64;

    /// The distribution of x_t given x_0.
    fn marginal(&self, t: f64) -> Marginal;

    /// Noise over signal at time t, the noise level of EDM and of the samplers in sigma.
    fn sigma(&self, t: f64) -> f64 {
        let m = self.marginal(t);
        m.std / m.signal
    }

    /// The time with this noise over signal; the nearest end for a sigma beyond the process.
    fn time(&self, sigma: f64) -> f64;

    /// The step of the discretised process that begins at time t: by default Euler and Maruyama's, of length
    /// end / scales.
    fn discretize(&self, t: f64) -> Step {
        let dt = self.end() / self.scales() as f64;
        Step {
            drift: self.drift(t) * dt,
            diffusion: self.diffusion(t) * dt.sqrt(),
        }
    }

    /// Ancestral sampling's step at time t, for processes that have one.
    fn ancestral(&self, _t: f64) -> Option<Ancestral> {
        None
    }

    /// The factor alpha of a Langevin corrector's step size at time t: that of the discrete process which keeps the
    /// variance, 1 for those which do not.
    fn langevin_alpha(&self, _t: f64) -> f64 {
        1.0
    }

    /// How a network trained as score_sde does it is asked for the score at time t: by default one that predicts noise
    /// and sees 999 t, whatever `labels` say.
    fn query(&self, t: f64, _labels: Labels) -> Query {
        Query::noise(t, self.marginal(t).std)
    }

    /// Standard deviation of the prior, the distribution that sampling starts from: x = prior_std * noise.
    fn prior_std(&self) -> f64 {
        1.0
    }

    /// ln of the prior's density at each picture of `z` (N, ...), in nats. Summed per picture, in f64.
    ///
    /// # Errors
    /// Those of the device.
    fn prior_log_density(&self, z: &Tensor) -> Result<Vec<f64>> {
        let variance = self.prior_std().powi(2);
        let ln = (std::f64::consts::TAU * variance).ln();
        let log_density = |picture: Vec<f64>| {
            let squares: f64 = picture.iter().map(|v| v * v).sum();
            -0.5 * (picture.len() as f64 * ln + squares / variance)
        };
        Ok(pictures(z)?.into_iter().map(log_density).collect())
    }
}

/// The index of the discrete scale at time t: floor of t (scales - 1), in f32 as score_sde does it.
pub(crate) fn scale_index(t: f64, end: f64, scales: usize) -> usize {
    let last = scales.saturating_sub(1);
    // Negative times and NaN become 0.
    ((t as f32 * last as f32 / end as f32) as usize).min(last)
}

/// The most scales of a discretised process: beyond, a discrete network's table would take minutes to make.
const MAX_SCALES: usize = 1 << 20;

fn check_scales(op: &'static str, scales: usize) -> Result<()> {
    ensure(
        (1..=MAX_SCALES).contains(&scales),
        op,
        "num_scales",
        scales,
        "from 1 to 1048576",
    )
}

#[cfg(test)]
mod tests;
