//! The stochastic sampler of EDM.

use super::exponential::check_sigmas;
use super::{Denoiser, Noise, OnStep};
use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How much noise [`edm`] and [`euler_churn`](super::euler_churn) add, and where; with the paper's names. The default adds none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// Over n steps each adds noise that raises its level by S_churn / n of it, at most by sqrt(2) - 1; at least 0.
    pub s_churn: f64,
    /// Levels below this are left alone.
    pub s_tmin: f64,
    /// Levels above this are left alone. The default, the largest number there is, leaves none out; so does infinity, which
    /// JSON cannot say.
    pub s_tmax: f64,
    /// Standard deviation of the noise, slightly above 1 in the paper.
    pub s_noise: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::MAX,
            s_noise: 1.0,
        }
    }
}

impl Churn {
    /// By what part of a level each of so many steps raises it.
    pub(super) fn part(&self, steps: usize) -> f64 {
        (self.s_churn / steps.max(1) as f64).min(std::f64::consts::SQRT_2 - 1.0)
    }

    /// x at level s with step i's fresh noise, and its level then.
    pub(super) fn raised(
        &self,
        part: f64,
        i: usize,
        x: &Tensor,
        s: f64,
        noise: Noise,
    ) -> Result<(Tensor, f64)> {
        if part == 0.0 || !(self.s_tmin..=self.s_tmax).contains(&s) {
            return Ok((x.clone(), s));
        }
        let raised = s * (1.0 + part);
        let fresh = self.s_noise * (raised * raised - s * s).sqrt();
        Ok(((x + (noise(i, x)? * fresh)?)?, raised))
    }

    /// # Errors
    /// A number that is negative or, but for `s_tmax`, not finite.
    pub fn check(&self) -> Result<()> {
        let all = [
            ("s_churn", self.s_churn),
            ("s_tmin", self.s_tmin),
            ("s_tmax", self.s_tmax),
            ("s_noise", self.s_noise),
        ];
        let fits = |name, v: f64| v >= 0.0 && (v.is_finite() || name == "s_tmax");
        match all.into_iter().find(|(name, v)| !fits(*name, *v)) {
            None => Ok(()),
            Some((name, value)) => Err(Error::Argument {
                op: "churn",
                name,
                value: value.to_string(),
                need: "finite and at least 0",
            }),
        }
    }
}

/// Heun's method with churn (Karras et al. 2022, arXiv 2206.00364, algorithm 2): 2 n - 1 evaluations for n steps that end in
/// 0. Without churn it is algorithm 1, [`heun`](super::heun), and no noise is asked for.
///
/// diffusers' KarrasVeScheduler does the same; its Euler schedulers evaluate the network before they add the noise, see
/// [`Evaluated`](super::Evaluated).
///
/// # Errors
/// A churn out of range, no steps, levels that do not fall, errors of the denoiser, of `noise` and of `on_step`.
pub fn edm(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    churn: &Churn,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    churn.check()?;
    check_sigmas("edm", sigmas)?;
    let part = churn.part(sigmas.len() - 1);
    for (i, w) in sigmas.windows(2).enumerate() {
        let next = w[1];
        let s;
        (x, s) = churn.raised(part, i, &x, w[0], noise)?;
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
