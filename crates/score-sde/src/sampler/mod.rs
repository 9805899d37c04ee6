//! Samplers for a denoiser D(x; sigma), each one short function named after its algorithm: state and network in
//! f32, grid and coefficients in f64.
//!
//! They start from `x = sigmas[0] * noise` and walk down `sigmas`, which ends in 0. `on_step(i, x)` is called after each step
//! and ends the run early by returning an error.

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

/// Euler's method on the same equation, that is DDIM with eta 0: n evaluations for n steps.
///
/// # Errors
/// Those of the denoiser and of `on_step`.
pub fn euler(d: &dyn Denoiser, mut x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
    for (i, w) in sigmas.windows(2).enumerate() {
        let clean = d.denoise(&x, w[0])?;
        // x + (x - D) / s * (next - s) = D + (next / s) * (x - D).
        x = (&clean + ((&x - &clean)? * (w[1] / w[0]))?)?;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order from one evaluation per step, by
/// remembering the last one.
///
/// # Errors
/// Those of the denoiser and of `on_step`.
pub fn dpmpp_2m(d: &dyn Denoiser, mut x: Tensor, sigmas: &[f64], on_step: OnStep) -> Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Gaussian data N(0, v): D(x; s) = x v / (v + s^2), and the exact flow scales x by sqrt((v + s1^2) / (v + s0^2)).
    fn error_of(sampler: fn(&dyn Denoiser, Tensor, &[f64], OnStep) -> Result<Tensor>, steps: usize) -> f64 {
        let v = 0.7;
        let edm = crate::edm::Edm { sigma_max: 10.0, sigma_min: 0.01, ..Default::default() };
        let sigmas = edm.sigmas(steps);
        let x = Tensor::new(&[3.0f64, -7.0], &Device::Cpu).unwrap();
        let d = |x: &Tensor, s: f64| x * (v / (v + s * s));
        let y = sampler(&d, x, &sigmas, &mut |_, _| Ok(())).unwrap();
        let exact = 3.0 * (v / (v + 100.0f64)).sqrt();
        (y.to_vec1::<f64>().unwrap()[0] - exact).abs() / exact
    }

    #[test]
    fn each_sampler_converges_at_its_order() {
        for (name, sampler, order) in [("heun", heun as fn(_, _, _, OnStep) -> _, 2.0), ("euler", euler, 1.0), ("dpmpp_2m", dpmpp_2m, 2.0)] {
            let (coarse, fine) = (error_of(sampler, 40), error_of(sampler, 160));
            let measured = (coarse / fine).log2() / 2.0;
            assert!(fine < 0.02 && measured > order - 0.35, "{name}: {coarse:e} {fine:e}, order {measured}");
        }
    }
}
