//! The noise levels of a discrete process.

use crate::error::{Error, Result};

/// sigma = sqrt(1 / alpha_bar - 1) of each training step, which rises with the step.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseTable {
    sigmas: Vec<f64>,
}

impl NoiseTable {
    /// The table of a process's betas, the least noisy first. A last beta of 1, which has no finite sigma, counts as
    /// alpha_bar = 2^-24, as in diffusers.
    ///
    /// # Errors
    /// No betas, one outside (0, 1), but for a last one of 1.
    pub fn from_betas(betas: &[f64]) -> Result<Self> {
        let last = betas.len().saturating_sub(1);
        let fits = |(i, b): (usize, &f64)| *b > 0.0 && (*b < 1.0 || (*b == 1.0 && i == last));
        if betas.is_empty() || !betas.iter().enumerate().all(fits) {
            return Err(Error::Argument {
                op: "NoiseTable::from_betas",
                name: "betas",
                value: format!("{} numbers", betas.len()),
                need: "at least one, each in (0, 1); the last may be 1",
            });
        }
        let mut bar = 1.0;
        let sigmas = betas.iter().map(|beta| {
            bar *= 1.0 - beta;
            sigma_of(bar)
        });
        Ok(Self {
            sigmas: sigmas.collect(),
        })
    }

    /// The noise level of each step.
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// The smallest and the largest level.
    pub fn range(&self) -> (f64, f64) {
        (
            self.sigmas.first().copied().unwrap_or(0.0),
            self.sigmas.last().copied().unwrap_or(0.0),
        )
    }

    /// The level at a time, in units of steps: linear in sigma between steps, the nearest step's beyond them.
    pub fn sigma_at(&self, time: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let time = time.clamp(0.0, last as f64);
        let (low, part) = (time.floor() as usize, time.fract());
        let (a, b) = (self.sigmas[low], self.sigmas[(low + 1).min(last)]);
        a + part * (b - a)
    }

    /// The time of a level: linear in ln sigma between steps, the nearest step beyond them.
    pub fn time_of(&self, sigma: f64) -> f64 {
        index_of(self.sigmas.len(), |i| self.sigmas[i], sigma)
    }
}

/// sigma of an alpha_bar; of 0, which has none, that of 2^-24.
pub(crate) fn sigma_of(bar: f64) -> f64 {
    let seen = if bar == 0.0 { 2f64.powi(-24) } else { bar };
    ((1.0 - seen) / seen).sqrt()
}

/// Where `sigma` lies among `len` >= 1 rising levels: an index, linear in ln sigma between two of them.
pub(crate) fn index_of(len: usize, level: impl Fn(usize) -> f64, sigma: f64) -> f64 {
    let (mut above, mut end) = (0, len);
    while above < end {
        let mid = above + (end - above) / 2;
        match level(mid) < sigma {
            true => above = mid + 1,
            false => end = mid,
        }
    }
    if above == 0 {
        return 0.0;
    }
    if above == len {
        return (len - 1) as f64;
    }
    let (low, high) = (level(above - 1).ln(), level(above).ln());
    let index = (above - 1) as f64 + (sigma.ln() - low) / (high - low);
    // Rounding must not turn a step of the process into a time beside it.
    if (index - index.round()).abs() < 1e-9 {
        index.round()
    } else {
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::BetaSchedule;

    #[test]
    fn times_and_levels_undo_each_other_on_steps() {
        let betas = BetaSchedule::default().betas(50).unwrap();
        let table = NoiseTable::from_betas(&betas).unwrap();
        for t in [0.0, 1.0, 17.0, 49.0] {
            assert_eq!(table.time_of(table.sigma_at(t)), t);
        }
        let (low, high) = table.range();
        assert_eq!(
            (table.time_of(low / 2.0), table.time_of(2.0 * high)),
            (0.0, 49.0)
        );
        let between = table.time_of((table.sigma_at(7.0) * table.sigma_at(8.0)).sqrt());
        assert!((between - 7.5).abs() < 1e-12);
    }

    #[test]
    fn a_last_beta_of_one_is_finite_and_others_are_refused() {
        let table = NoiseTable::from_betas(&[0.1, 1.0]).unwrap();
        assert!((table.range().1 - 4096.0).abs() < 1e-3);
        assert!(
            NoiseTable::from_betas(&[1.0, 0.1]).is_err() && NoiseTable::from_betas(&[]).is_err()
        );
    }
}
