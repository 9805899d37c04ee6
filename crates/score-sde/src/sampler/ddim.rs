//! Denoising diffusion implicit models.

use super::{Noise, OnStep};
use crate::diffusion::{GaussianDiffusion, Model};
use crate::error::{Error, Result, same_shape};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Options of [`ddim`]. The defaults are deterministic, clip nothing and follow improved-diffusion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ddim {
    /// Scales the fresh noise, in [0, 1]: 0 is deterministic, 1 has the variance of DDPM's small choice.
    pub eta: f64,
    /// Whether the predicted x_0 is kept within what the process was told.
    pub clip: bool,
    /// The noise a step keeps.
    pub kept: KeptNoise,
    /// alpha_bar after each step of the process, the least noisy first, such as
    /// [`strided_bars`](crate::diffusion::strided_bars). Unless given it is that of the step visited next, and 1 in the end.
    pub bars_after: Option<Vec<f64>>,
}

/// The noise in x_t that DDIM goes on with where x_0 was clipped; else the two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptNoise {
    /// What x_t holds besides the clipped x_0: improved-diffusion, `use_clipped_model_output=True` of diffusers.
    #[default]
    OfClipped,
    /// What the network predicts, whatever became of x_0: diffusers unless told otherwise.
    OfNetwork,
}

impl Ddim {
    /// alpha_bar after step i.
    fn after(&self, diffusion: &GaussianDiffusion, i: usize) -> f64 {
        let own = || diffusion.coefficients().alphas_cumprod_prev[i];
        self.bars_after.as_ref().map_or_else(own, |bars| bars[i])
    }

    fn check(&self, diffusion: &GaussianDiffusion) -> Result<()> {
        check_eta("ddim", self.eta)?;
        let Some(after) = &self.bars_after else {
            return Ok(());
        };
        let bars = &diffusion.coefficients().alphas_cumprod;
        let refuse = |value| {
            Err(Error::Argument {
                op: "ddim",
                name: "bars_after",
                value,
                need: "one per step of the process, each at least the step's alpha_bar and at most 1, none 0",
            })
        };
        if after.len() != bars.len() {
            return refuse(format!("{} for {} steps", after.len(), bars.len()));
        }
        let fits = |(after, bar): (&f64, &f64)| *after > 0.0 && (*bar..=1.0).contains(after);
        match after.iter().zip(bars).position(|pair| !fits(pair)) {
            None => Ok(()),
            Some(i) => refuse(format!("{} after step {i} with {}", after[i], bars[i])),
        }
    }
}

/// DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12): T evaluations, from x = noise (N, C, ...) at the last step.
///
/// # Errors
/// Options out of range, shapes that do not fit, errors of the network, of `noise` and of `on_step`.
pub fn ddim(
    diffusion: &GaussianDiffusion,
    model: Model,
    mut x: Tensor,
    options: &Ddim,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let n = x.dims().first().copied().unwrap_or(0);
    for (i, t) in (0..diffusion.steps()).rev().enumerate() {
        let z = noise(i, &x)?;
        x = ddim_step(diffusion, model, &x, &vec![t; n], options, &z)?;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// One step of it at steps `t`, one per picture, with the noise `z` of x's shape. No noise is added where alpha_bar is 1
/// after the step.
///
/// # Errors
/// As [`ddim`].
pub fn ddim_step(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    options: &Ddim,
    z: &Tensor,
) -> Result<Tensor> {
    options.check(diffusion)?;
    let bars = &diffusion.coefficients().alphas_cumprod;
    let factors = |i: usize| {
        let after = options.after(diffusion, i);
        let fresh = fresh_noise(bars[i], after, options.eta);
        Factors {
            signal: after.sqrt(),
            noise: direction(after, fresh),
            fresh,
        }
    };
    ddim_step_with(diffusion, model, x, t, &factors, options, z)
}

/// What a step multiplies the predicted picture, the predicted noise and the fresh noise by.
pub(crate) struct Factors {
    pub(crate) signal: f64,
    pub(crate) noise: f64,
    pub(crate) fresh: f64,
}

/// DDIM's sigma of a step between two alpha_bar (eq. 16); 0 where the step leads to 1.
pub(crate) fn fresh_noise(bar: f64, after: f64, eta: f64) -> f64 {
    eta * ((1.0 - after) / (1.0 - bar) * (1.0 - bar / after)).sqrt()
}

/// The factor of the predicted noise, for what alpha_bar is after the step.
pub(crate) fn direction(prev: f64, sigma: f64) -> f64 {
    (1.0 - prev - sigma.powi(2)).max(0.0).sqrt()
}

/// [`ddim_step`] with each step's factors in place of what they follow from.
pub(crate) fn ddim_step_with(
    diffusion: &GaussianDiffusion,
    model: Model,
    x: &Tensor,
    t: &[usize],
    factors: &dyn Fn(usize) -> Factors,
    options: &Ddim,
    z: &Tensor,
) -> Result<Tensor> {
    same_shape("ddim_step", "z", z, x)?;
    let output = diffusion.model_output(model, x, t)?;
    let clean = diffusion
        .p_from_output(&output, x, t, options.clip)?
        .pred_xstart;
    let eps = match options.kept {
        KeptNoise::OfClipped => diffusion.eps_from_xstart(x, t, &clean)?,
        KeptNoise::OfNetwork => diffusion.eps_from_output(&output, x, t)?,
    };
    let direction = diffusion.scale(&eps, t, |i| factors(i).noise)?;
    let mean = (diffusion.scale(&clean, t, |i| factors(i).signal)? + direction)?;
    Ok((mean + diffusion.scale(z, t, |i| factors(i).fresh)?)?)
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
