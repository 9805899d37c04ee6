//! Beta schedules by diffusers' names and parameters.

use super::schedule::{betas_for_alpha_bar, linear_betas};
use super::{Coefficients, Schedule};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The curve of a [`BetaSchedule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaCurve {
    /// Betas evenly spaced between the two ends (Ho et al. 2020, arXiv 2006.11239).
    #[default]
    Linear,
    /// Their square roots evenly spaced (latent diffusion, Rombach et al. 2022, arXiv 2112.10752).
    ScaledLinear,
    /// [`Schedule::Cosine`]; the two ends are not used.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
    /// A logistic curve over [-6, 6] between the two ends (GeoDiff, Xu et al. 2022, arXiv 2203.02923).
    Sigmoid,
    /// Noise concentrated around ln SNR = 0 (Hang and Gu 2024, arXiv 2407.03297); the two ends are not used.
    Laplace,
}

/// A beta schedule with the names and defaults of diffusers' schedulers.
///
/// Here it is f64 throughout; diffusers has betas and their products in f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BetaSchedule {
    /// The curve.
    pub schedule: BetaCurve,
    /// First beta, in (0, 1).
    pub beta_start: f64,
    /// Last beta, in (0, 1).
    pub beta_end: f64,
    /// Whether [`rescale_zero_terminal_snr`] is applied.
    pub zero_terminal_snr: bool,
}

impl Default for BetaSchedule {
    fn default() -> Self {
        Self {
            schedule: BetaCurve::Linear,
            beta_start: 0.0001,
            beta_end: 0.02,
            zero_terminal_snr: false,
        }
    }
}

impl BetaSchedule {
    /// The beta of each of `steps` steps, the least noisy first; in (0, 1), but 1 for the last with a terminal SNR of 0.
    ///
    /// # Errors
    /// No steps, an end outside (0, 1).
    pub fn betas(&self, steps: usize) -> Result<Vec<f64>> {
        let refuse = |name, value: f64, need| {
            Err(Error::Argument {
                op: "BetaSchedule::betas",
                name,
                value: value.to_string(),
                need,
            })
        };
        for (name, value) in [("beta_start", self.beta_start), ("beta_end", self.beta_end)] {
            if !(value > 0.0 && value < 1.0) {
                return refuse(name, value, "in (0, 1)");
            }
        }
        if steps == 0 {
            return refuse("steps", 0.0, "at least 1");
        }
        let (first, last) = (self.beta_start, self.beta_end);
        let betas = match self.schedule {
            BetaCurve::Linear => linear_betas(steps, first, last),
            BetaCurve::ScaledLinear => linear_betas(steps, first.sqrt(), last.sqrt())
                .iter()
                .map(|root| root * root)
                .collect(),
            BetaCurve::SquaredCosine => Schedule::Cosine.betas(steps)?,
            BetaCurve::Sigmoid => linear_betas(steps, -6.0, 6.0)
                .iter()
                .map(|u| (last - first) / (1.0 + libm::exp(-u)) + first)
                .collect(),
            BetaCurve::Laplace => betas_for_alpha_bar(steps, 0.999, |u| {
                let side = (0.5 - u).signum();
                let half_ln_snr = -0.5 * side * libm::log(1.0 - 2.0 * (0.5 - u).abs() + 1e-6);
                let snr = libm::exp(half_ln_snr);
                (snr / (1.0 + snr)).sqrt()
            })?,
        };
        match self.zero_terminal_snr {
            true => rescale_zero_terminal_snr(&betas),
            false => Ok(betas),
        }
    }
}

/// Betas whose last alpha_bar is 0 and whose first is unchanged, sqrt(alpha_bar) being shifted and scaled (Lin et al. 2024,
/// "Common diffusion noise schedules and sample steps are flawed", arXiv 2305.08891, algorithm 1).
///
/// The last beta becomes 1: a network of such a process must predict v or the clean picture.
///
/// # Errors
/// Fewer than two betas, or one outside (0, 1).
pub fn rescale_zero_terminal_snr(betas: &[f64]) -> Result<Vec<f64>> {
    let bars = Coefficients::new(betas.to_vec())?.alphas_cumprod;
    let roots: Vec<f64> = bars.iter().map(|bar| bar.sqrt()).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Ok(Vec::new());
    };
    if roots.len() < 2 {
        return Err(Error::Argument {
            op: "rescale_zero_terminal_snr",
            name: "betas",
            value: "one".into(),
            need: "at least two: the first keeps its alpha_bar, the last loses it",
        });
    }
    let bar = |root: f64| ((root - last) * first / (first - last)).powi(2);
    let mut before = 1.0;
    Ok(roots
        .iter()
        .map(|root| {
            let beta = 1.0 - bar(*root) / before;
            before = bar(*root);
            beta
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_snr_of_zero_is_zero_and_the_first_step_stays() {
        let plain = BetaSchedule::default();
        let zero = BetaSchedule {
            zero_terminal_snr: true,
            ..plain
        };
        let (a, b) = (plain.betas(100).unwrap(), zero.betas(100).unwrap());
        assert!((a[0] - b[0]).abs() < 1e-12 && b[99] == 1.0);
        assert!(b[..99].iter().all(|b| *b > 0.0 && *b < 1.0));
    }

    #[test]
    fn bad_ends_are_named() {
        let bad = BetaSchedule {
            beta_end: 1.5,
            ..Default::default()
        };
        let e = bad.betas(10).unwrap_err().to_string();
        assert!(e.contains("beta_end is 1.5"), "{e}");
        assert!(BetaSchedule::default().betas(0).is_err());
        assert!(rescale_zero_terminal_snr(&[0.1]).is_err());
    }
}
