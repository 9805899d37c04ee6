//! The diffusion exponential integrator sampler.

use super::exponential::{History, check_order, check_sigmas};
use super::{Denoiser, OnStep};
use crate::error::Result;
use candle_core::Tensor;

/// DEIS in its log-rho form (Zhang and Chen 2023, arXiv 2204.13902, tAB-DEIS with t = ln rho), order 1 to 3: the noise
/// (x - D) / sigma is extrapolated by a polynomial in ln sigma and integrated exactly. One evaluation per step. diffusers'
/// DEISMultistepScheduler.
///
/// With `lower_order_final` and fewer than 15 steps the last step but one is of second order at most, the last of first. A
/// step to sigma 0, which diffusers does not have, always is.
///
/// # Errors
/// An order not in 1..=3, no steps, levels that do not fall, errors of the denoiser and of `on_step`.
pub fn deis(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    order: usize,
    lower_order_final: bool,
    on_step: OnStep,
) -> Result<Tensor> {
    check_order("deis", order)?;
    check_sigmas("deis", sigmas)?;
    let steps = sigmas.len() - 1;
    let mut past = History::new(order);
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        past.push(((&x - d.denoise(&x, s)?)? / s)?, s);
        let few = lower_order_final && steps < 15;
        let order = match steps - i {
            _ if next == 0.0 || next == s => 1,
            1 if few => 1,
            2 if few => order.min(2),
            _ => order,
        };
        let order = order.min(past.len());
        let weights = weights(s, next, past.log_ratio(1), past.log_ratio(2), order);
        x = (x + past.sum(&weights[..order])?)?;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// Integrals from s to `next` over rho of the Lagrange polynomials in v = ln(rho / s) with nodes 0, v1 and v2.
fn weights(s: f64, next: f64, v1: f64, v2: f64, order: usize) -> [f64; 3] {
    if order == 1 {
        return [next - s, 0.0, 0.0];
    }
    let end = (next / s).ln();
    let (m0, m1, m2) = (next - s, s * moment(1, end), s * moment(2, end));
    if order == 2 {
        return [m0 - m1 / v1, m1 / v1, 0.0];
    }
    let c1 = (m2 - v2 * m1) / (v1 * (v1 - v2));
    let c2 = (m2 - v1 * m1) / (v2 * (v2 - v1));
    [m0 - c1 - c2, c1, c2]
}

/// The integral of v^k e^v from 0 to `end`, for k = 1 or 2.
fn moment(k: i32, end: f64) -> f64 {
    if end.abs() < 1.0 {
        // The power series, where the closed form would be a difference of nearly equal numbers.
        let (mut power, mut sum) = (end.powi(k + 1), 0.0);
        for n in 0..24 {
            sum += power / f64::from(n + k + 1);
            power *= end / f64::from(n + 1);
        }
        return sum;
    }
    match k {
        1 => end.exp() * (end - 1.0) + 1.0,
        _ => end.exp() * (end * end - 2.0 * end + 2.0) - 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_in_ln_rho_are_integrated_exactly() {
        // The integral of a + b v + c v^2 over rho, by many small steps.
        let (s, next, v1, v2) = (2.0f64, 1.3f64, 0.4, 0.9);
        let f = |v: f64| 0.7 - 1.1 * v + 0.5 * v * v;
        let n = 200_000;
        let width = (next - s) / f64::from(n);
        let want: f64 = (0..n)
            .map(|i| f(((s + (f64::from(i) + 0.5) * width) / s).ln()) * width)
            .sum();
        let w = weights(s, next, v1, v2, 3);
        let got = w[0] * f(0.0) + w[1] * f(v1) + w[2] * f(v2);
        assert!((got - want).abs() < 1e-9, "{got} {want}");
        for k in [1, 2] {
            let (a, b) = (moment(k, -0.999_999_999), moment(k, -1.000_000_001));
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
    }
}
