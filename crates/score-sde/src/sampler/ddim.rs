//! Denoising diffusion implicit models.

use super::{Noise, OnStep};
use crate::diffusion::{Coefficients, GaussianDiffusion, Model};
use crate::error::{Error, Result, same_shape};
use candle_core::Tensor;

/// DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12): T evaluations, from x = noise (N, C, ...) at the last step.
///
/// `eta` scales the fresh noise: 0 is deterministic, 1 has the variance of DDPM's small choice.
///
/// # Errors
/// An `eta` outside [0, 1], shapes that do not fit, errors of the network, of `noise` and of `on_step`.
pub fn ddim(
    diffusion: &GaussianDiffusion,
    model: Model,
    mut x: Tensor,
    eta: f64,
    clip: bool,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let n = x.dims().first().copied().unwrap_or(0);
    for (i, t) in (0..diffusion.steps()).rev().enumerate() {
        let z = noise(i, &x)?;
        x = ddim_step(diffusion, model, &x, &vec![t; n], eta, clip, &z)?;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// One step of it at steps `t`, one per picture, with the noise `z` of x's shape. No noise is added at step 0.
///
/// # Errors
/// As [`ddim`].
pub fn ddim_step(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    eta: f64,
    clip: bool,
    z: &Tensor,
) -> Result<Tensor> {
    check_eta("ddim_step", eta)?;
    let c = diffusion.coefficients();
    let factors = |i: usize| {
        let sigma = fresh_noise(c, eta, i);
        (direction(c.alphas_cumprod_prev[i], sigma), sigma)
    };
    ddim_step_with(diffusion, model, x, t, &factors, clip, z)
}

/// DDIM's sigma of a step (eq. 16). At step 0 it is 0, for there 1 - prev is.
pub(crate) fn fresh_noise(c: &Coefficients, eta: f64, i: usize) -> f64 {
    let (bar, prev) = (c.alphas_cumprod[i], c.alphas_cumprod_prev[i]);
    eta * ((1.0 - prev) / (1.0 - bar) * (1.0 - bar / prev)).sqrt()
}

/// The factor of the predicted noise, for what alpha_bar is after the step.
pub(crate) fn direction(prev: f64, sigma: f64) -> f64 {
    (1.0 - prev - sigma.powi(2)).max(0.0).sqrt()
}

/// [`ddim_step`] with each step's factors of the predicted noise and of the fresh noise.
pub(crate) fn ddim_step_with(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    factors: &dyn Fn(usize) -> (f64, f64),
    clip: bool,
    z: &Tensor,
) -> Result<Tensor> {
    same_shape("ddim_step", "z", z, x)?;
    let prev = &diffusion.coefficients().alphas_cumprod_prev;
    let clean = diffusion.p_mean_variance(model, x, t, clip)?.pred_xstart;
    let eps = diffusion.eps_from_xstart(x, t, &clean)?;
    let direction = diffusion.scale(&eps, t, |i| factors(i).0)?;
    let mean = (diffusion.scale(&clean, t, |i| prev[i].sqrt())? + direction)?;
    Ok((mean + diffusion.scale(z, t, |i| factors(i).1)?)?)
}

/// The step of DDIM's equation the other way, towards more noise: x_{t+1} from x_t, which encodes a picture.
///
/// # Errors
/// Shapes or steps that do not fit, errors of the network.
pub fn ddim_reverse_step(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    clip: bool,
) -> Result<Tensor> {
    let next = &diffusion.coefficients().alphas_cumprod_next;
    let clean = diffusion.p_mean_variance(model, x, t, clip)?.pred_xstart;
    let eps = diffusion.eps_from_xstart(x, t, &clean)?;
    let signal = diffusion.scale(&clean, t, |i| next[i].sqrt())?;
    Ok((signal + diffusion.scale(&eps, t, |i| (1.0 - next[i]).sqrt())?)?)
}

pub(crate) fn check_eta(op: &'static str, eta: f64) -> Result<()> {
    match (0.0..=1.0).contains(&eta) {
        true => Ok(()),
        false => Err(Error::Argument {
            op,
            name: "eta",
            value: eta.to_string(),
            need: "in [0, 1]",
        }),
    }
}
