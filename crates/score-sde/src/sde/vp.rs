//! The variance-preserving process.

use super::beta::{check_betas, discrete_beta, half_integral, time_of_half_integral};
use super::{Ancestral, Labels, Marginal, Query, Sde, Step, scale_index};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// dx = -beta(t) x / 2 dt + sqrt(beta(t)) dw with beta linear in t (Song et al. 2021, eq. 11 and 32): the limit of DDPM.
/// Names and defaults are score_sde's; its discretisation is DDPM's chain with beta_i from beta_min / N to beta_max / N.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vp {
    /// beta(0), from 0.
    pub beta_min: f64,
    /// beta(1), at least beta(0).
    pub beta_max: f64,
    /// Scales of the discretised process, from 1.
    pub num_scales: usize,
}

impl Default for Vp {
    fn default() -> Self {
        Self {
            beta_min: 0.1,
            beta_max: 20.0,
            num_scales: 1000,
        }
    }
}

impl Vp {
    /// beta(t).
    pub fn beta(&self, t: f64) -> f64 {
        self.beta_min + t * (self.beta_max - self.beta_min)
    }

    /// beta of the discrete chain's step i, from 0: linear from beta_min / N to beta_max / N.
    pub fn discrete_beta(&self, i: usize) -> f64 {
        discrete_beta(self.beta_min, self.beta_max, self.num_scales, i)
    }

    /// The product of 1 - beta over the discrete chain's steps 0 to i.
    pub fn alpha_bar(&self, i: usize) -> f64 {
        (0..=i).map(|i| 1.0 - self.discrete_beta(i)).product()
    }

    fn index(&self, t: f64) -> usize {
        scale_index(t, self.end(), self.num_scales)
    }
}

impl Sde for Vp {
    fn name(&self) -> &'static str {
        "vp"
    }

    fn check(&self) -> Result<()> {
        check_betas("Vp", self.beta_min, self.beta_max, self.num_scales)
    }

    fn scales(&self) -> usize {
        self.num_scales
    }

    fn drift(&self, t: f64) -> f64 {
        -0.5 * self.beta(t)
    }

    fn diffusion(&self, t: f64) -> f64 {
        self.beta(t).sqrt()
    }

    fn marginal(&self, t: f64) -> Marginal {
        let half = half_integral(self.beta_min, self.beta_max, t);
        Marginal {
            signal: (-half).exp(),
            std: (-(-2.0 * half).exp_m1()).sqrt(),
        }
    }

    fn time(&self, sigma: f64) -> f64 {
        // 1 + sigma^2 = 1 / signal^2.
        let half = 0.5 * (sigma * sigma).ln_1p();
        time_of_half_integral(self.beta_min, self.beta_max, half)
    }

    /// DDPM's: x_{i+1} = sqrt(1 - beta_i) x_i + sqrt(beta_i) z.
    fn discretize(&self, t: f64) -> Step {
        let beta = self.discrete_beta(self.index(t));
        Step {
            drift: (1.0 - beta).sqrt() - 1.0,
            diffusion: beta.sqrt(),
        }
    }

    fn ancestral(&self, t: f64) -> Option<Ancestral> {
        let beta = self.discrete_beta(self.index(t));
        Some(Ancestral {
            signal: (1.0 - beta).sqrt(),
            gain: beta,
            noise: beta.sqrt(),
        })
    }

    fn langevin_alpha(&self, t: f64) -> f64 {
        1.0 - self.discrete_beta(self.index(t))
    }

    fn query(&self, t: f64, labels: Labels) -> Query {
        match labels {
            Labels::Continuous => Query::noise(t, self.marginal(t).std),
            Labels::Discrete => {
                let last = self.num_scales.saturating_sub(1);
                let bar = self.alpha_bar(self.index(t));
                Query {
                    label: t * last as f64,
                    factor: -1.0 / (1.0 - bar).sqrt(),
                }
            }
        }
    }
}
