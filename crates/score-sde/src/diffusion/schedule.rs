//! Variances of the forward process: pure functions from a number of steps to betas.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// How fast the noise grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Ho et al. 2020 (arXiv 2006.11239): betas from 1e-4 to 0.02 for 1000 steps, scaled by 1000 / N for N.
    #[default]
    Linear,
    /// Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17: alpha_bar(u) = cos^2((u + 0.008) / 1.008 * pi / 2).
    Cosine,
}

impl Schedule {
    /// The beta of each of `steps` steps, from the least noisy; each in (0, 1).
    ///
    /// # Errors
    /// No steps, or so few that a linear schedule reaches 1 (fewer than 21).
    pub fn betas(self, steps: usize) -> Result<Vec<f64>> {
        let refuse = |need| {
            Err(Error::Argument {
                op: "Schedule::betas",
                name: "steps",
                value: steps.to_string(),
                need,
            })
        };
        match self {
            _ if steps == 0 => refuse("at least 1"),
            Self::Linear if steps < 21 => {
                refuse("at least 21 for a linear schedule, whose last beta is 20 / steps")
            }
            Self::Linear => {
                let scale = 1000.0 / steps as f64;
                Ok(linear_betas(steps, scale * 0.0001, scale * 0.02))
            }
            Self::Cosine => betas_for_alpha_bar(steps, 0.999, |u| {
                let c = libm::cos((u + 0.008) / 1.008 * FRAC_PI_2);
                c * c
            }),
        }
    }
}

impl std::str::FromStr for Schedule {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "linear" => Ok(Self::Linear),
            "cosine" => Ok(Self::Cosine),
            _ => Err(Error::Unknown {
                what: "schedule",
                name: name.into(),
                known: "linear, cosine",
            }),
        }
    }
}

/// `steps` >= 1 values evenly spaced from `first` to `last`; the first alone for one step.
pub(super) fn linear_betas(steps: usize, first: f64, last: f64) -> Vec<f64> {
    let step = (last - first) / steps.saturating_sub(1).max(1) as f64;
    let mut betas: Vec<f64> = (0..steps).map(|i| first + step * i as f64).collect();
    // The rounding of the sum must not take the last one past its end.
    if let Some(end) = betas.last_mut().filter(|_| steps > 1) {
        *end = last;
    }
    betas
}

/// Betas whose products of 1 - beta follow `alpha_bar`, a decreasing function on [0, 1] with alpha_bar(0) > 0; each is
/// at most `max_beta`, which keeps the last steps finite where alpha_bar(1) is 0.
///
/// # Errors
/// No steps.
pub fn betas_for_alpha_bar(
    steps: usize,
    max_beta: f64,
    alpha_bar: impl Fn(f64) -> f64,
) -> Result<Vec<f64>> {
    if steps == 0 {
        return Err(Error::Argument {
            op: "betas_for_alpha_bar",
            name: "steps",
            value: "0".into(),
            need: "at least 1",
        });
    }
    let at = |i: usize| alpha_bar(i as f64 / steps as f64);
    Ok((0..steps)
        .map(|i| (1.0 - at(i + 1) / at(i)).min(max_beta))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_published_ones() {
        let linear = Schedule::Linear.betas(1000).unwrap();
        assert!((linear[0] - 1e-4).abs() < 1e-18 && (linear[999] - 0.02).abs() < 1e-16);
        let cosine = Schedule::Cosine.betas(4000).unwrap();
        assert_eq!(cosine[3999], 0.999);
        assert!(cosine.iter().all(|b| *b > 0.0 && *b < 1.0));
    }

    #[test]
    fn bad_arguments_are_named() {
        let e = Schedule::Cosine.betas(0).unwrap_err().to_string();
        assert!(e.contains("steps is 0"), "{e}");
        let e = Schedule::Linear.betas(20).unwrap_err().to_string();
        assert!(e.contains("steps is 20"), "{e}");
        let e = "sine".parse::<Schedule>().unwrap_err().to_string();
        assert!(e.contains("\"sine\"") && e.contains("cosine"), "{e}");
    }
}
