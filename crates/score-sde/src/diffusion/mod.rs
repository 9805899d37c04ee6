//! The discrete Gaussian diffusion of Ho et al. 2020 (DDPM) and Nichol and Dhariwal 2021 (improved-diffusion).
//!
//! Steps are counted from 0, the least noisy, to T - 1. Pictures are x (N, C, ...) with values in [-1, 1] for the
//! bounds in bits; coefficients are f64 and are rounded once, to the picture's dtype, when they meet it. Steps `t` are
//! one number per picture on the host, since they index tables that live there. Nothing couples the pictures of a batch.

mod betas;
mod coefficients;
mod config;
mod gaussian;
mod kinds;
mod loss;
mod respace;
mod schedule;
mod sigma;
mod timesteps;

pub use betas::{BetaCurve, BetaSchedule, rescale_zero_terminal_snr};
pub use coefficients::Coefficients;
pub use config::DiffusionConfig;
pub use gaussian::{GaussianDiffusion, MeanVariance, Model};
pub use kinds::{EndVariance, LossType, MeanType, VarType};
pub use loss::{Bound, Losses, VbTerm, discretized_gaussian_log_likelihood, normal_kl};
pub use respace::{space_timesteps, strided_bars};
pub use schedule::{Schedule, betas_for_alpha_bar};
pub use sigma::SigmaDenoiser;
pub use timesteps::{LossSecondMoment, TimestepSampler, Uniform};
