//! A discrete process seen as a denoiser in sigma, so that every sampler of [`crate::sampler`] runs on it.

use super::{GaussianDiffusion, Model};
use crate::error::{Error, Result};
use crate::grid::{index_of, sigma_of};
use crate::prediction::Prediction;
use crate::sampler::Denoiser;
use candle_core::Tensor;

/// D(x; sigma) from a network of a discrete process, with x = x_t / sqrt(alpha_bar) and sigma^2 = 1 / alpha_bar - 1.
///
/// Between the steps of the process the network is shown interpolated times (linear in ln sigma); beyond them, the
/// nearest step. A last step without signal, which has no finite sigma, counts as alpha_bar = 2^-24, as in diffusers.
#[derive(Clone, Copy)]
pub struct SigmaDenoiser<'a> {
    diffusion: &'a GaussianDiffusion,
    prediction: Prediction,
    model: Model<'a>,
    clip: bool,
}

impl<'a> SigmaDenoiser<'a> {
    /// `clip` keeps predictions within [-1, 1].
    ///
    /// # Errors
    /// A network that predicts x_{t-1}, which has no meaning between the steps.
    pub fn new(diffusion: &'a GaussianDiffusion, model: Model<'a>, clip: bool) -> Result<Self> {
        let Some(prediction) = diffusion.mean_type().prediction() else {
            return Err(Error::Argument {
                op: "SigmaDenoiser::new",
                name: "mean type",
                value: format!("{:?}", diffusion.mean_type()),
                need: "one of a noise level, Epsilon, XStart or V",
            });
        };
        Ok(Self {
            diffusion,
            prediction,
            model,
            clip,
        })
    }

    /// The process's own noise levels, the noisiest first, then 0: T steps for a sampler.
    pub fn sigmas(&self) -> Vec<f64> {
        (0..self.diffusion.steps())
            .rev()
            .map(|i| self.sigma(i))
            .chain([0.0])
            .collect()
    }

    fn sigma(&self, i: usize) -> f64 {
        let bar = self.diffusion.coefficients().alphas_cumprod[i];
        sigma_of(bar)
    }

    /// The index of the step with this sigma, between two of them a fraction.
    fn index(&self, sigma: f64) -> f64 {
        index_of(self.diffusion.steps(), |i| self.sigma(i), sigma)
    }
}

impl Denoiser for SigmaDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> candle_core::Result<Tensor> {
        let time = self.diffusion.model_time(self.index(sigma));
        let t = Tensor::full(time as f32, x.dim(0)?, x.device())?;
        let alpha = 1.0 / (1.0 + sigma * sigma).sqrt();
        let x = (x * alpha)?;
        let (output, _) = self.diffusion.split(&(self.model)(&x, &t)?, &x)?;
        let clean = self
            .prediction
            .to_clean(alpha, sigma * alpha)?
            .apply(&x, &output)?;
        if self.clip {
            clean.clamp(-1f64, 1f64)
        } else {
            Ok(clean)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LossType, MeanType, Schedule, VarType};
    use super::*;
    use crate::sampler::{Ddim, ddim, dpmpp_2m, euler, no_noise};
    use candle_core::{DType, Device};

    /// Exact noise prediction for data N(0, v), with a time that tells alpha_bar.
    fn gaussian(
        v: f64,
        bars: Vec<f64>,
    ) -> impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> {
        move |x, t| {
            let t = t.to_vec1::<f32>()?[0] as f64;
            let (i, part) = (t.floor() as usize, t.fract());
            let ln_sigma = |i: usize| ((1.0 - bars[i]) / bars[i]).ln() / 2.0;
            let next = (i + 1).min(bars.len() - 1);
            let s2 = (2.0 * (ln_sigma(i) + part * (ln_sigma(next) - ln_sigma(i)))).exp();
            // With x = x_ve / sqrt(1 + s2): eps = x_ve s / (v + s2).
            x * ((1.0 + s2).sqrt() * s2.sqrt() / (v + s2))
        }
    }

    #[test]
    fn euler_on_the_own_grid_is_ddim() {
        let betas = Schedule::Cosine.betas(50).unwrap();
        let d =
            GaussianDiffusion::new(betas, MeanType::Epsilon, VarType::FixedSmall, LossType::Mse)
                .unwrap();
        let model = gaussian(0.3, d.coefficients().alphas_cumprod.clone());
        let x = Tensor::new(&[[0.3f64], [-1.2]], &Device::Cpu).unwrap();
        let a = ddim(
            &d,
            &model,
            x.clone(),
            &Ddim::default(),
            &mut no_noise,
            &mut |_, _| Ok(()),
        )
        .unwrap();
        let s = SigmaDenoiser::new(&d, &model, false).unwrap();
        let start = (x / d.coefficients().alphas_cumprod[49].sqrt()).unwrap();
        let b = euler(&s, start, &s.sigmas(), &mut |_, _| Ok(())).unwrap();
        assert_eq!(b.dtype(), DType::F64);
        let (a, b) = (a.to_vec2::<f64>().unwrap(), b.to_vec2::<f64>().unwrap());
        assert!((a[1][0] - b[1][0]).abs() < 1e-6, "{a:?} {b:?}");
    }

    #[test]
    fn ten_steps_between_those_of_the_process() {
        let betas = Schedule::Linear.betas(1000).unwrap();
        let d =
            GaussianDiffusion::new(betas, MeanType::Epsilon, VarType::FixedSmall, LossType::Mse)
                .unwrap();
        let model = gaussian(1.0, d.coefficients().alphas_cumprod.clone());
        let s = SigmaDenoiser::new(&d, &model, false).unwrap();
        let sigmas = crate::Edm {
            sigma_min: 0.02,
            sigma_max: 100.0,
            ..Default::default()
        }
        .sigmas(40);
        let x = Tensor::new(&[[100.0f64]], &Device::Cpu).unwrap();
        let y = dpmpp_2m(&s, x, &sigmas, &mut |_, _| Ok(()))
            .unwrap()
            .to_vec2::<f64>()
            .unwrap()[0][0];
        // The flow of N(0, 1) scales by sqrt(1 / (1 + sigma^2)).
        let exact = 100.0 / (1.0f64 + 100.0 * 100.0).sqrt();
        assert!((y - exact).abs() < 0.02, "{y} {exact}");
    }
}
