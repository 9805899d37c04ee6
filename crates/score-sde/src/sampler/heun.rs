//! Heun's method.

use super::{Denoiser, OnStep};
use candle_core::{Result, Tensor};

/// Heun's method on dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, algorithm 1): 2 n - 1 evaluations for n
/// steps.
///
/// # Errors
/// Those of the denoiser and of `on_step`.
pub fn heun(d: &dyn Denoiser, mut x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        let slope = ((&x - d.denoise(&x, s)?)? / s)?;
        let euler = (&x + (&slope * (next - s))?)?;
        x = if next == 0.0 {
            euler
        } else {
            let second = ((&euler - d.denoise(&euler, next)?)? / next)?;
            (&x + ((slope + second)? * (0.5 * (next - s)))?)?
        };
        on_step(i, &x)?;
    }
    Ok(x)
}
