//! The sub-variance-preserving process.

use super::beta::{check_betas, discrete_beta, half_integral, time_of_half_integral};
use super::{Marginal, Sde, scale_index};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// dx = -beta(t) x / 2 dt + sqrt(beta(t) (1 - exp(-2 int beta))) dw (Song et al. 2021, eq. 12): VP's mean with less
/// noise, made for likelihoods. Names and defaults are score_sde's. It has no discrete chain, hence neither ancestral
/// sampling nor discrete labels; Langevin steps use VP's alpha.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SubVp {
    /// beta(0), from 0.
    pub beta_min: f64,
    /// beta(1), at least beta(0).
    pub beta_max: f64,
    /// Steps of the Euler-Maruyama discretisation, from 1.
    pub num_scales: usize,
}

impl Default for SubVp {
    fn default() -> Self {
        Self {
            beta_min: 0.1,
            beta_max: 20.0,
            num_scales: 1000,
        }
    }
}

impl SubVp {
    /// beta(t).
    pub fn beta(&self, t: f64) -> f64 {
        self.beta_min + t * (self.beta_max - self.beta_min)
    }
}

impl Sde for SubVp {
    fn name(&self) -> &'static str {
        "sub-vp"
    }

    fn check(&self) -> Result<()> {
        check_betas("SubVp", self.beta_min, self.beta_max, self.num_scales)
    }

    fn scales(&self) -> usize {
        self.num_scales
    }

    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta(t)
    }

    fn diffusion(&self, t: f64) -> f64 {
        let half = half_integral(self.beta_min, self.beta_max, t);
        (self.beta(t) * -(-4.0 * half).exp_m1()).sqrt()
    }

    fn marginal(&self, t: f64) -> Marginal {
        let half = half_integral(self.beta_min, self.beta_max, t);
        Marginal {
            signal: (-half).exp(),
            std: -(-2.0 * half).exp_m1(),
        }
    }

    fn time(&self, sigma: f64) -> f64 {
        // (1 - s^2) / s = sigma, so 1 / s = e^half with half = asinh(sigma / 2).
        let half = (0.5 * sigma).asinh();
        time_of_half_integral(self.beta_min, self.beta_max, half)
    }

    fn langevin_alpha(&self, t: f64) -> f64 {
        let i = scale_index(t, self.end(), self.num_scales);
        1.0 - discrete_beta(self.beta_min, self.beta_max, self.num_scales, i)
    }
}
