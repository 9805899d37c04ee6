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

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};

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

/// The values of each picture of x (N, ...), in f64.
pub(crate) fn pictures(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    let n = x.dims().first().copied().unwrap_or(1);
    let len = x.elem_count() / n.max(1);
    // Metal has no f64.
    let host = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(host.reshape((n, len))?.to_vec2()?)
}

/// One number per picture as a tensor (N, 1, ...) of x's rank, dtype and device, ready to broadcast.
pub(crate) fn per_picture(x: &Tensor, values: &[f64]) -> Result<Tensor> {
    let mut shape = vec![1; x.rank().max(1)];
    shape[0] = values.len();
    let host = Tensor::new(values, &Device::Cpu)?.reshape(shape)?;
    Ok(host.to_dtype(x.dtype())?.to_device(x.device())?)
}

/// x times one factor per picture, a function of its time.
pub(crate) fn scale(x: &Tensor, t: &[f64], factor: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = t.iter().map(|&t| factor(t)).collect();
    Ok(x.broadcast_mul(&per_picture(x, &values)?)?)
}

/// Errs unless x is (N, ...), not empty, with as many pictures as there are times.
pub(crate) fn check_times(op: &'static str, x: &Tensor, t: &[f64]) -> Result<()> {
    if x.rank() > 0 && x.dims()[0] == t.len() && x.elem_count() > 0 {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        name: "x",
        got: x.dims().to_vec(),
        expected: format!("({}, ...), one picture per time", t.len()),
    })
}

/// Errs unless `ok`.
pub(crate) fn ensure(
    ok: bool,
    op: &'static str,
    name: &'static str,
    value: impl ToString,
    need: &'static str,
) -> Result<()> {
    match ok {
        true => Ok(()),
        false => Err(Error::Argument {
            op,
            name,
            value: value.to_string(),
            need,
        }),
    }
}

/// The most scales of a discretised process: beyond, a discrete network's table would take minutes to make.
const MAX_SCALES: usize = 1 << 20;

/// Checks of the parameters that VP and sub-VP share.
fn check_betas(op: &'static str, min: f64, max: f64, scales: usize) -> Result<()> {
    ensure(
        min.is_finite() && min >= 0.0,
        op,
        "beta_min",
        min,
        "finite and not negative",
    )?;
    ensure(
        max.is_finite() && max >= min && max > 0.0,
        op,
        "beta_max",
        max,
        "finite, above 0 and not below beta_min",
    )?;
    check_scales(op, scales)
}

fn check_scales(op: &'static str, scales: usize) -> Result<()> {
    ensure(
        (1..=MAX_SCALES).contains(&scales),
        op,
        "num_scales",
        scales,
        "from 1 to 1048576",
    )
}

/// -ln signal of VP and sub-VP at time t: half the integral of beta.
fn half_integral(min: f64, max: f64, t: f64) -> f64 {
    0.25 * t * t * (max - min) + 0.5 * t * min
}

/// Its inverse in [0, 1].
fn time_of_half_integral(min: f64, max: f64, value: f64) -> f64 {
    // a t^2 + b t = value, by the form that does not cancel.
    let (a, b) = (0.25 * (max - min), 0.5 * min);
    let root = (b * b + 4.0 * a * value).max(0.0).sqrt();
    (2.0 * value / (b + root)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
