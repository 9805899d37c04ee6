//! DDIM for a denoiser in sigma.

use super::ddim::check_eta;
use super::exponential::check_sigmas;
use super::{Denoiser, Noise, OnStep};
use crate::error::Result;
use candle_core::Tensor;

/// DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12) in x / sqrt(alpha_bar) and sigma: n evaluations for n steps.
///
/// From s to s' the fresh noise has variance u^2 = eta^2 s'^2 (s^2 - s'^2) / s^2, and the rest of the step goes down to
/// sqrt(s'^2 - u^2). `eta` 0 is [`euler`](super::euler), and no noise is asked for; 1 is the ancestral sampler, DDPM
/// with the posterior's variance.
///
/// # Errors
/// An `eta` outside [0, 1], no steps, levels that do not fall, errors of the denoiser, of `noise` and of `on_step`.
pub fn ddim_sigma(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    eta: f64,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    check_eta("ddim_sigma", eta)?;
    check_sigmas("ddim_sigma", sigmas)?;
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        let up = eta * next * (1.0 - (next / s).powi(2)).max(0.0).sqrt();
        let down = (next * next - up * up).max(0.0).sqrt();
        let clean = d.denoise(&x, s)?;
        let drifted = (&clean + ((&x - &clean)? * (down / s))?)?;
        x = if up > 0.0 {
            (drifted + (noise(i, &x)? * up)?)?
        } else {
            drifted
        };
        on_step(i, &x)?;
    }
    Ok(x)
}
