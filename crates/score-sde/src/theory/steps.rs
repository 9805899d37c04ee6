//! The number of steps that a divergence takes.

use super::{Spectrum, kl};
use crate::error::{Error, Result};

/// A number of steps with its best horizon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Steps {
    /// N.
    pub steps: usize,
    /// The horizon T of the smallest divergence with N steps; delta is T / N.
    pub horizon: f64,
    /// That divergence in nats.
    pub kl: f64,
}

/// Where the horizon is looked for: e^(-2T) from 0.98 down to 1e-26.
const HORIZONS: (f64, f64) = (0.01, 30.0);

/// The horizon with which `steps` steps do best: a scan and a golden-section search of log T, to 0.2 % of T.
pub fn best_horizon(spectrum: &Spectrum, steps: usize) -> Steps {
    const POINTS: usize = 16;
    let width = (HORIZONS.1 / HORIZONS.0).ln() / POINTS as f64;
    let scan = |i: usize| HORIZONS.0 * (width * i as f64).exp();
    let better = |a: (f64, usize), b: (f64, usize)| if b.0 < a.0 { b } else { a };
    let best = (0..=POINTS)
        .map(|i| (kl(spectrum, scan(i), steps), i))
        .fold((f64::INFINITY, 0), better)
        .1;
    let bracket = (scan(best.max(1) - 1), scan((best + 1).min(POINTS)));
    best_within(spectrum, steps, bracket)
}

/// The same where the horizon is known to lie within `bracket`.
fn best_within(spectrum: &Spectrum, steps: usize, bracket: (f64, f64)) -> Steps {
    let at = |log: f64| kl(spectrum, log.exp(), steps);
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (bracket.0.ln(), bracket.1.ln());
    let (mut c, mut d) = (b - golden * (b - a), a + golden * (b - a));
    let (mut at_c, mut at_d) = (at(c), at(d));
    // The divergence is flat at its smallest: this tolerance costs it some 1e-6 of itself.
    while b - a > 2e-3 {
        if at_c < at_d {
            (b, d, at_d) = (d, c, at_c);
            c = b - golden * (b - a);
            at_c = at(c);
        } else {
            (a, c, at_c) = (c, d, at_d);
            d = a + golden * (b - a);
            at_d = at(d);
        }
    }
    let (log, kl) = if at_c < at_d { (c, at_c) } else { (d, at_d) };
    Steps {
        steps,
        horizon: log.exp(),
        kl,
    }
}

/// The fewest steps whose divergence is at most `kl`, each number of steps with its best horizon; `None` if `limit` steps
/// do not reach it.
///
/// More steps allow a longer horizon and a smaller divergence. The search relies on both: it doubles the steps until the
/// divergence is reached, and bisects from there between known horizons.
///
/// # Errors
/// A `kl` that is not positive and finite, a `limit` of 0.
pub fn steps_needed(spectrum: &Spectrum, kl: f64, limit: usize) -> Result<Option<Steps>> {
    if !(kl > 0.0 && kl.is_finite()) || limit == 0 {
        return Err(Error::Argument {
            op: "steps_needed",
            name: "(kl, limit)",
            value: format!("({kl}, {limit})"),
            need: "positive and finite, and at least 1",
        });
    }
    let mut low = best_horizon(spectrum, 1);
    if low.kl <= kl {
        return Ok(Some(low));
    }
    let mut found = low;
    while found.kl > kl {
        if found.steps >= limit {
            return Ok(None);
        }
        low = found;
        found = best_horizon(spectrum, (2 * low.steps).min(limit));
    }
    while found.steps - low.steps > 1 {
        let middle = low.steps + (found.steps - low.steps) / 2;
        let bracket = (0.99 * low.horizon, 1.01 * found.horizon);
        let middle = best_within(spectrum, middle, bracket);
        if middle.kl > kl {
            low = middle;
        } else {
            found = middle;
        }
    }
    Ok(Some(found))
}

/// The exponent p of y = C x^p by least squares of the logarithms, given (x, y). NaN for fewer than two distinct x.
pub fn power_fit(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs = || points.iter().map(|(x, y)| (x.ln(), y.ln()));
    let (mx, my) = (
        logs().map(|p| p.0).sum::<f64>() / n,
        logs().map(|p| p.1).sum::<f64>() / n,
    );
    let covariance: f64 = logs().map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / logs().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}
