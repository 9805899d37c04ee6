//! Euler's method.

use super::exponential::check_sigmas;
use super::{Denoiser, OnStep};
use crate::error::Result;
use candle_core::Tensor;

/// Euler's method on the same equation, that is DDIM with eta 0: n evaluations for n steps.
///
/// # Errors
/// No steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn euler(d: &dyn Denoiser, mut x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    check_sigmas("euler", sigmas)?;
    for (i, w) in sigmas.windows(2).enumerate() {
        let clean = d.denoise(&x, w[0])?;
        // x + (x - D) / s * (next - s) = D + (next / s) * (x - D).
        x = (&clean + ((&x - &clean)? * (w[1] / w[0]))?)?;
        on_step(i, &x)?;
    }
    Ok(x)
}
