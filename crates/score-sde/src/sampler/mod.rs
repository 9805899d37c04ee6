//! Samplers, each one short function named after its algorithm: state and network in the dtype of x, grid and
//! coefficients in f64.
//!
//! Those of a [`Denoiser`] D(x; sigma) start from `x = sigmas[0] * noise` and walk down `sigmas`, which ends in 0:
//! [`heun`], [`edm`], [`euler`], [`euler_churn`], [`ddim_sigma`], [`dpmpp_2m`], [`dpmpp_multistep`], [`dpmpp_singlestep`], [`unipc`],
//! [`deis`]; a [`SolverConfig`] chooses one by name, a [`NetworkDenoiser`] makes a denoiser of a network of any
//! prediction, [`Clipped`] and [`Thresholded`] keep one within a range. Those of a [`GaussianDiffusion`](crate::GaussianDiffusion) start
//! from plain noise and visit all its steps: [`ddpm`], [`ddim`]; [`SigmaDenoiser`](crate::diffusion::SigmaDenoiser)
//! makes a denoiser of it for the others.
//!
//! Those of a process of [`crate::sde`] and its score, one time per picture: [`predictor_corrector`] over the discrete
//! scales, with [`euler_maruyama_step`], [`reverse_diffusion_step`] or [`ancestral_step`] as the predictor and
//! [`langevin_step`] or [`annealed_langevin_step`] as the corrector; [`euler_maruyama`] on any grid of times; and
//! [`probability_flow`], adaptive. Their step sizes follow each picture alone unless a [`Coupling`] says otherwise.
//!
//! `noise(i, x)` gives the fresh noise of step i, [`addressed_noise`] such that a picture does not depend on its batch.
//! `on_step(i, x)` is called after each step and ends the run early by returning an error.

mod ancestral;
mod config;
mod coupling;
mod ddim;
mod ddim_sigma;
mod ddpm;
mod deis;
mod dpmpp_2m;
mod dpmpp_multistep;
mod dpmpp_singlestep;
mod edm;
mod euler;
mod euler_maruyama;
mod exponential;
mod heun;
mod kinds;
mod langevin;
mod network;
mod noise;
mod predictor_corrector;
mod probability_flow;
mod reverse_diffusion;
mod threshold;
mod unipc;

pub use ancestral::ancestral_step;
pub use config::{SamplerName, SolverConfig};
pub use coupling::Coupling;
pub use ddim::{Ddim, KeptNoise, ddim, ddim_reverse_step, ddim_step};
pub(crate) use ddim::{Factors, check_eta, ddim_step_with, direction, fresh_noise};
pub use ddim_sigma::ddim_sigma;
pub use ddpm::{ddpm, ddpm_step};
pub use deis::deis;
pub use dpmpp_2m::dpmpp_2m;
pub use dpmpp_multistep::{Dpmpp, dpmpp_multistep};
pub use dpmpp_singlestep::dpmpp_singlestep;
pub use edm::{Churn, edm};
pub use euler::{Evaluated, euler, euler_churn};
pub use euler_maruyama::{euler_maruyama, euler_maruyama_step};
pub use exponential::{Form, Third};
pub use heun::heun;
pub use kinds::{Corrector, Predictor};
pub use langevin::{annealed_langevin_step, langevin_step};
pub use network::{NetworkDenoiser, Path};
pub use noise::{Noise, addressed_noise, no_noise};
pub(crate) use predictor_corrector::{Draw, check_eps};
pub use predictor_corrector::{PredictorCorrector, predictor_corrector};
pub use probability_flow::{Flow, probability_flow};
pub use reverse_diffusion::{remove_noise, reverse_diffusion_step};
pub use threshold::{Clipped, Thresholded};
pub(crate) use threshold::{check_threshold, thresholded};
pub use unipc::{Bh, UniPc, unipc};

use candle_core::{Result, Tensor};

/// A denoiser: the expected clean picture given a noisy one, x (N, C, H, W) at noise level sigma.
pub trait Denoiser {
    /// D(x; sigma).
    ///
    /// # Errors
    /// Those of the network.
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor>;
}

impl<F: Fn(&Tensor, f64) -> Result<Tensor>> Denoiser for F {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self(x, sigma)
    }
}

/// Called after every step with its number and the state.
pub type OnStep<'a> = &'a mut dyn FnMut(usize, &Tensor) -> Result<()>;

#[cfg(test)]
mod tests;
