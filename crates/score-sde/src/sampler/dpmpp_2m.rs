//! DPM-Solver++ of second order.

use super::{Denoiser, OnStep};
use candle_core::{Result, Tensor};

/// DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order from one evaluation per step, by
/// remembering the last one.
///
/// # Errors
/// Those of the denoiser and of `on_step`.
pub fn dpmpp_2m(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    on_step: OnStep,
) -> Result<Tensor> {
    let mut last: Option<(Tensor, f64)> = None;
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        let clean = d.denoise(&x, s)?;
        // lambda = -ln sigma; h is its step. The last step, to sigma 0, is of first order.
        let guess = match &last {
            Some((old, before)) if next > 0.0 => {
                let r = (before.ln() - s.ln()) / (s.ln() - next.ln());
                let half = 1.0 / (2.0 * r);
                ((&clean * (1.0 + half))? - (old * half)?)?
            }
            _ => clean.clone(),
        };
        x = ((&x * (next / s))? + (guess * (1.0 - next / s))?)?;
        last = Some((clean, s));
        on_step(i, &x)?;
    }
    Ok(x)
}
