//! Exact log-likelihoods through the probability flow.
//!
//! The flow dx/dt = h(x, t) carries pictures to the prior, and d ln p(x_t) / dt = -div h along it (Song et al. 2021, arXiv
//! 2011.13456, eq. 39). Hutchinson's estimator of the divergence, e . grad (h . e) for a random e (Grathwohl et al. 2019,
//! arXiv 1810.01367), needs one gradient of the score's network.

use crate::error::{Error, Result, ensure, same_shape};
use crate::ode::Rk45;
use crate::pictures::{like, pictures};
use crate::sampler::{Noise, OnStep, check_eps};
use crate::sde::{Reverse, Score, Sde};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The distribution of the random direction e.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Signs: exact where the score's Jacobian is diagonal, and always of the least variance.
    #[default]
    Rademacher,
    /// Standard normal values.
    Gaussian,
}

impl FromStr for Probe {
    type Err = Error;

    /// score_sde's names: `Rademacher` and `Gaussian`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "Rademacher" => Ok(Self::Rademacher),
            "Gaussian" => Ok(Self::Gaussian),
            _ => Err(Error::Unknown {
                what: "probe",
                name: name.into(),
                known: "Rademacher, Gaussian",
            }),
        }
    }
}

/// How a likelihood is computed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Likelihood {
    /// The integrator.
    pub ode: Rk45,
    /// The time that pictures are taken to stand at, above 0.
    pub eps: f64,
    /// Distribution of the directions.
    pub probe: Probe,
    /// Directions per picture, from 1; each costs a gradient per evaluation.
    pub probes: usize,
}

impl Default for Likelihood {
    /// score_sde's: tolerances of 1e-5, from 1e-5, one Rademacher direction.
    fn default() -> Self {
        Self {
            ode: Rk45::default(),
            eps: 1e-5,
            probe: Probe::default(),
            probes: 1,
        }
    }
}

/// What is known of pictures after their way to the prior.
#[derive(Debug, Clone)]
pub struct LogDensity {
    /// ln p of each picture, in nats.
    pub nats: Vec<f64>,
    /// Their latents (N, ...), see [`probability_flow`](crate::sampler::probability_flow) for the way back.
    pub latent: Tensor,
    /// Evaluations of the score that each picture asked for.
    pub evaluations: Vec<usize>,
}

/// The range that 8-bit values were brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataRange {
    /// [-1, 1], score_sde's `centered`.
    MinusOneToOne,
    /// [0, 1].
    ZeroToOne,
}

impl LogDensity {
    /// Bits per dimension of 8-bit pictures, by score_sde's convention: a density on [-1, 1] is one on [0, 256] after
    /// adding 7 bits, one on [0, 1] after 8. For a bound on discrete pictures they need uniform dequantisation first.
    pub fn bits_per_dim(&self, range: DataRange) -> Vec<f64> {
        let dims = self.latent.elem_count() / self.nats.len().max(1);
        let offset = match range {
            DataRange::MinusOneToOne => 7.0,
            DataRange::ZeroToOne => 8.0,
        };
        let bits = |nats: &f64| -nats / std::f64::consts::LN_2 / dims as f64 + offset;
        self.nats.iter().map(bits).collect()
    }
}

/// ln p of pictures x (N, ...) under a process and its score: exact up to the integrator's tolerance and the variance of
/// Hutchinson's estimator. `noise(i, x)` gives standard normal values for direction i, drawn once for the whole way; their
/// signs are the Rademacher directions. `on_step` is called after each round of steps.
///
/// The score must be differentiable in x by candle's backward pass.
///
/// # Errors
/// Options out of range, a flow that cannot be followed, errors of the score, of `noise` and of `on_step`.
pub fn log_likelihood(
    sde: &dyn Sde,
    score: &dyn Score,
    x: &Tensor,
    options: &Likelihood,
    noise: Noise,
    on_step: OnStep,
) -> Result<LogDensity> {
    sde.check()?;
    check_eps("log_likelihood", sde, options.eps)?;
    let probes = options.probes;
    ensure(probes > 0, "log_likelihood", "probes", probes, "at least 1")?;
    let directions = (0..probes).map(|i| options.direction(x, noise(i, x)?));
    let directions = directions.collect::<Result<Vec<Tensor>>>()?;
    let flow = Reverse {
        sde,
        score,
        probability_flow: true,
    };
    // A state is a picture and the change of ln p so far.
    let mut slope = |t: &[f64], state: &[Vec<f64>]| {
        let (drift, divergence) = drift_and_divergence(&flow, &like(x, state)?, t, &directions)?;
        let mut slopes = pictures(&drift)?;
        for (s, d) in slopes.iter_mut().zip(divergence) {
            s.push(d);
        }
        Ok(slopes)
    };
    let mut start = pictures(x)?;
    start.iter_mut().for_each(|p| p.push(0.0));
    let mut seen = |i: usize, state: &[Vec<f64>]| Ok(on_step(i, &like(x, state)?)?);
    let way = [options.eps, sde.end()];
    let end = options.ode.solve(&mut slope, start, way, &mut seen)?;
    let latent = like(x, &end.y)?;
    let changes = end.y.iter().map(|s| s.last().copied().unwrap_or(0.0));
    let prior = sde.prior_log_density(&latent)?.into_iter();
    Ok(LogDensity {
        nats: prior.zip(changes).map(|(p, c)| p + c).collect(),
        latent,
        evaluations: end.evaluations,
    })
}

impl Likelihood {
    /// One direction from standard normal values.
    fn direction(&self, x: &Tensor, z: Tensor) -> Result<Tensor> {
        same_shape("log_likelihood", "noise", &z, x)?;
        Ok(match self.probe {
            Probe::Gaussian => z,
            // 1 for values from 0, else -1.
            Probe::Rademacher => z.ge(0f64)?.to_dtype(x.dtype())?.affine(2.0, -1.0)?,
        })
    }
}

/// The drift at x and the mean over directions e of e . grad (drift . e), per picture.
fn drift_and_divergence(
    flow: &Reverse,
    x: &Tensor,
    t: &[f64],
    directions: &[Tensor],
) -> Result<(Tensor, Vec<f64>)> {
    let x = Var::from_tensor(x)?;
    let drift = flow.drift(&x, t)?;
    let mut divergence = vec![0.0; t.len()];
    for e in directions {
        // No picture's drift depends on another, so the gradient of the sum is that of each.
        let gradients = (&drift * e)?.sum_all()?.backward()?;
        let Some(gradient) = gradients.get(&x) else {
            continue; // A drift that does not depend on x.
        };
        for (d, own) in divergence.iter_mut().zip(pictures(&(gradient * e)?)?) {
            *d += own.iter().sum::<f64>() / directions.len() as f64;
        }
    }
    Ok((drift.detach(), divergence))
}

#[cfg(test)]
mod tests;
