//! Everything that follows from the betas, in f64; index 0 is the least noisy step.

use crate::error::{Error, Result};

/// Factors of the forward process and of its posterior, one of each per step.
///
/// With alpha = 1 - beta and alpha_bar their running product (Ho et al. 2020, eqs. 4 and 7):
/// q(x_t | x_0) = N(sqrt(alpha_bar) x_0, 1 - alpha_bar), and q(x_{t-1} | x_t, x_0) has mean c1 x_0 + c2 x_t.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Coefficients {
    /// Variance added by each step.
    pub betas: Vec<f64>,
    /// alpha_bar of each step.
    pub alphas_cumprod: Vec<f64>,
    /// alpha_bar of the step before, 1 for the first.
    pub alphas_cumprod_prev: Vec<f64>,
    /// alpha_bar of the step after, 0 for the last.
    pub alphas_cumprod_next: Vec<f64>,
    /// Variance of the posterior; 0 for the first step.
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, the first replaced by the second so that it is finite.
    pub posterior_log_variance_clipped: Vec<f64>,
    /// c1 above.
    pub posterior_mean_coef1: Vec<f64>,
    /// c2 above.
    pub posterior_mean_coef2: Vec<f64>,
}

impl Coefficients {
    /// The last beta may be 1, which leaves no signal (zero terminal SNR).
    ///
    /// # Errors
    /// No betas, or another one outside (0, 1).
    pub fn new(betas: Vec<f64>) -> Result<Self> {
        let refuse = |value: String, need| Error::Argument {
            op: "Coefficients::new",
            name: "betas",
            value,
            need,
        };
        if betas.is_empty() {
            return Err(refuse("empty".into(), "one number per step"));
        }
        if let Some((i, b)) = betas
            .iter()
            .enumerate()
            .find(|(i, b)| !(**b > 0.0 && (**b < 1.0 || (**b == 1.0 && i + 1 == betas.len()))))
        {
            let need = "in (0, 1); the last may be 1";
            return Err(refuse(format!("{b} at step {i}"), need));
        }
        let mut bar = 1.0;
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .map(|b| {
                bar *= 1.0 - b;
                bar
            })
            .collect();
        let n = betas.len();
        let prev: Vec<f64> = std::iter::once(1.0)
            .chain(alphas_cumprod[..n - 1].iter().copied())
            .collect();
        let next = alphas_cumprod[1..].iter().copied().chain([0.0]).collect();
        let per_step = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
            (0..n)
                .map(|i| f(betas[i], alphas_cumprod[i], prev[i]))
                .collect()
        };
        let posterior_variance = per_step(&|b, bar, prev| b * (1.0 - prev) / (1.0 - bar));
        let mut clipped: Vec<f64> = posterior_variance.iter().map(|v| v.ln()).collect();
        // A process of a single step has no second variance to borrow: its beta takes the place.
        clipped[0] = if n > 1 { clipped[1] } else { betas[0].ln() };
        Ok(Self {
            posterior_log_variance_clipped: clipped,
            posterior_mean_coef1: per_step(&|b, bar, prev| b * prev.sqrt() / (1.0 - bar)),
            posterior_mean_coef2: per_step(&|b, bar, prev| {
                (1.0 - prev) * (1.0 - b).sqrt() / (1.0 - bar)
            }),
            posterior_variance,
            alphas_cumprod_prev: prev,
            alphas_cumprod_next: next,
            alphas_cumprod,
            betas,
        })
    }

    /// Number of steps T.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }
}
