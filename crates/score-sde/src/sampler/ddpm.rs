//! The ancestral sampler of denoising diffusion.

use super::{Noise, OnStep};
use crate::diffusion::{GaussianDiffusion, MeanVariance, Model};
use crate::error::{Result, same_shape};
use candle_core::Tensor;

/// DDPM (Ho et al. 2020, arXiv 2006.11239, algorithm 2): T evaluations, from x = noise (N, C, ...) at the last step.
///
/// # Errors
/// Shapes that do not fit, errors of the network, of `noise` and of `on_step`.
pub fn ddpm(
    diffusion: &GaussianDiffusion,
    model: Model,
    mut x: Tensor,
    clip: bool,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let n = x.dims().first().copied().unwrap_or(0);
    for (i, t) in (0..diffusion.steps()).rev().enumerate() {
        let z = noise(i, &x)?;
        x = ddpm_step(diffusion, model, &x, &vec![t; n], clip, &z)?.0;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// One step of it at steps `t`, one per picture, with the noise `z` of x's shape: x_{t-1} and p(x_{t-1} | x_t). No noise
/// is added at step 0, unless an [`EndVariance`](crate::diffusion::EndVariance) says so.
///
/// # Errors
/// Shapes or steps that do not fit, errors of the network.
pub fn ddpm_step(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    clip: bool,
    z: &Tensor,
) -> Result<(Tensor, MeanVariance)> {
    same_shape("ddpm_step", "z", z, x)?;
    let p = diffusion.p_mean_variance(model, x, t, clip)?;
    let z = diffusion.scale(z, t, |i| f64::from(diffusion.is_noisy(i)))?;
    let next = (&p.mean + ((&p.log_variance * 0.5)?.exp()? * z)?)?;
    Ok((next, p))
}
