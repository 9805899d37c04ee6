//! The variance-exploding process.

use super::{Ancestral, Labels, Marginal, Query, Sde, Step, check_scales, scale_index};
use crate::error::{Result, ensure};
use serde::{Deserialize, Serialize};

/// dx = sigma(t) sqrt(2 ln(sigma_max / sigma_min)) dw, sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song et al. 2021,
/// eq. 9 and 30): the limit of SMLD (NCSN). Names and defaults are score_sde's; its discretisation has the N noise
/// levels of SMLD, even in their logarithm.
///
/// As in score_sde the standard deviation given x_0 is sigma(t), also at t = 0, where the equation itself has none: x_0
/// is thought of as data that already carries sigma_min.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ve {
    /// Smallest noise, above 0.
    pub sigma_min: f64,
    /// Largest noise, above the smallest.
    pub sigma_max: f64,
    /// Noise levels of the discretised process, from 1.
    pub num_scales: usize,
}

impl Default for Ve {
    fn default() -> Self {
        Self {
            sigma_min: 0.01,
            sigma_max: 50.0,
            num_scales: 1000,
        }
    }
}

impl Ve {
    /// Noise level i of SMLD, from 0, smallest first.
    pub fn discrete_sigma(&self, i: usize) -> f64 {
        self.sigma_at(i as f64 / self.num_scales.saturating_sub(1).max(1) as f64)
    }

    fn sigma_at(&self, t: f64) -> f64 {
        self.sigma_min * (self.sigma_max / self.sigma_min).powf(t)
    }

    /// The variances of the noise level at time t and of the next smaller one; 0 below the smallest.
    fn variances(&self, t: f64) -> (f64, f64) {
        let i = scale_index(t, self.end(), self.num_scales);
        let below = i.checked_sub(1).map_or(0.0, |i| self.discrete_sigma(i));
        (self.discrete_sigma(i).powi(2), below.powi(2))
    }
}

impl Sde for Ve {
    fn name(&self) -> &'static str {
        "ve"
    }

    fn check(&self) -> Result<()> {
        let (min, max) = (self.sigma_min, self.sigma_max);
        ensure(
            min.is_finite() && min > 0.0,
            "Ve",
            "sigma_min",
            min,
            "finite and above 0",
        )?;
        ensure(
            max.is_finite() && max > min,
            "Ve",
            "sigma_max",
            max,
            "finite and above sigma_min",
        )?;
        check_scales("Ve", self.num_scales)
    }

    fn scales(&self) -> usize {
        self.num_scales
    }

    fn drift(&self, _t: f64) -> f64 {
        0.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        self.sigma_at(t) * (2.0 * (self.sigma_max / self.sigma_min).ln()).sqrt()
    }

    fn marginal(&self, t: f64) -> Marginal {
        Marginal {
            signal: 1.0,
            std: self.sigma_at(t),
        }
    }

    fn time(&self, sigma: f64) -> f64 {
        let t = (sigma / self.sigma_min).ln() / (self.sigma_max / self.sigma_min).ln();
        t.clamp(0.0, 1.0)
    }

    /// SMLD's: x_{i+1} = x_i + sqrt(sigma_i^2 - sigma_{i-1}^2) z.
    fn discretize(&self, t: f64) -> Step {
        let (here, below) = self.variances(t);
        Step {
            drift: 0.0,
            diffusion: (here - below).sqrt(),
        }
    }

    fn ancestral(&self, t: f64) -> Option<Ancestral> {
        let (here, below) = self.variances(t);
        Some(Ancestral {
            signal: 1.0,
            gain: here - below,
            noise: (below * (here - below) / here).sqrt(),
        })
    }

    /// The network's output is the score itself; it sees sigma, or the number of the noise level, largest first.
    fn query(&self, t: f64, labels: Labels) -> Query {
        let label = match labels {
            Labels::Continuous => self.sigma_at(t),
            Labels::Discrete => {
                let last = self.num_scales.saturating_sub(1);
                ((self.end() - t) * last as f64).round_ties_even()
            }
        };
        Query { label, factor: 1.0 }
    }

    fn prior_std(&self) -> f64 {
        self.sigma_max
    }
}
