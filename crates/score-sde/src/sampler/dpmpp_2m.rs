//! DPM-Solver++ of second order.

use super::dpmpp_multistep::{Dpmpp, walk};
use super::exponential::check_sigmas;
use super::{Denoiser, OnStep, no_noise};
use crate::error::Result;
use candle_core::Tensor;

/// DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order from one evaluation per step, by
/// remembering the last one. [`dpmpp_multistep`](super::dpmpp_multistep) of order 2 without `lower_order_final`.
///
/// # Errors
/// No steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn dpmpp_2m(d: &dyn Denoiser, x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    check_sigmas("dpmpp_2m", sigmas)?;
    let options = Dpmpp {
        lower_order_final: false,
        ..Dpmpp::default()
    };
    walk(d, x, sigmas, &options, &mut no_noise, on_step)
}
