//! Heun's method.

use super::exponential::check_sigmas;
use super::{Churn, Denoiser, OnStep, edm, no_noise};
use crate::error::Result;
use candle_core::Tensor;

/// Heun's method on dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, algorithm 1): 2 n - 1 evaluations for n
/// steps. [`edm`] without churn.
///
/// # Errors
/// No steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn heun(d: &dyn Denoiser, x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    check_sigmas("heun", sigmas)?;
    edm(d, x, sigmas, &Churn::default(), &mut no_noise, on_step)
}
