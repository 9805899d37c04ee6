//! Euler's method.

use super::exponential::check_sigmas;
use super::{Churn, Denoiser, Noise, OnStep, no_noise};
use crate::error::{Error, Result};
use crate::prediction::Prediction;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Whether the network sees the noise that [`euler_churn`] adds in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evaluated {
    /// It does, and the level that the noise has raised: the paper.
    #[default]
    AfterNoise,
    /// It does not: diffusers' `EulerDiscreteScheduler`. What it predicts of the picture before, in this parametrisation
    /// (epsilon, sample or v), is taken for its prediction of the noisier one.
    BeforeNoise(Prediction),
}

/// Euler's method on the same equation, that is DDIM with eta 0: n evaluations for n steps.
///
/// # Errors
/// No steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn euler(d: &dyn Denoiser, x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    let (churn, evaluated) = (Churn::default(), Evaluated::default());
    euler_churn(d, x, sigmas, &churn, evaluated, &mut no_noise, on_step)
}

/// Euler's method with churn (Karras et al. 2022, arXiv 2206.00364, algorithm 2 without its second evaluation): n
/// evaluations for n steps. Without churn no noise is asked for.
///
/// # Errors
/// A churn out of range, an evaluation before the noise for another prediction, no steps, levels that do not fall, errors
/// of the denoiser, of `noise` and of `on_step`.
pub fn euler_churn(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    churn: &Churn,
    evaluated: Evaluated,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    churn.check()?;
    evaluated.check()?;
    check_sigmas("euler", sigmas)?;
    let part = churn.part(sigmas.len() - 1);
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        let (noisy, raised) = churn.raised(part, i, &x, s, noise)?;
        let clean = match evaluated {
            Evaluated::AfterNoise => d.denoise(&noisy, raised)?,
            Evaluated::BeforeNoise(_) if raised == s => d.denoise(&x, s)?,
            Evaluated::BeforeNoise(prediction) => {
                moved(prediction, &d.denoise(&x, s)?, &x, s, &noisy, raised)?
            }
        };
        // x + (x - D) / s * (next - s) = D + (next / s) * (x - D).
        x = (&clean + ((&noisy - &clean)? * (next / raised))?)?;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// The clean picture in `noisy` at level `raised`, if the network, which found `clean` in x at level s, predicted the same
/// of it. v keeps the factors of level s, as in diffusers.
fn moved(
    prediction: Prediction,
    clean: &Tensor,
    x: &Tensor,
    s: f64,
    noisy: &Tensor,
    raised: f64,
) -> Result<Tensor> {
    Ok(match prediction {
        Prediction::Epsilon => (noisy - ((x - clean)? * (raised / s))?)?,
        Prediction::V => (clean + ((noisy - x)? / (s * s + 1.0))?)?,
        _ => clean.clone(),
    })
}

impl Evaluated {
    pub(super) fn check(self) -> Result<()> {
        use Prediction as P;
        match self {
            Self::AfterNoise | Self::BeforeNoise(P::Epsilon | P::Sample | P::V) => Ok(()),
            Self::BeforeNoise(other) => Err(Error::Argument {
                op: "euler",
                name: "evaluated",
                value: format!("before the noise, of a prediction of {other:?}"),
                need: "epsilon, sample or v, which diffusers has; or after the noise",
            }),
        }
    }
}
