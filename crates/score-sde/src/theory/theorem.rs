//! Theorem 1 of Xiao et al. 2024, term by term, beside what the recursion says.

use super::{Spectrum, horizon_kl, kl, step_kl};

/// f(t) = t - log(1 + t), twice the divergence of normal laws whose variances have the ratio 1 + t. NaN below -1.
pub fn f(t: f64) -> f64 {
    if t == f64::INFINITY {
        return t;
    }
    if t.abs() < 1e-3 {
        // The difference would lose what it is made of.
        return t * t * (0.5 - t * (1.0 / 3.0 - t * (0.25 - t * (0.2 - t / 6.0))));
    }
    t - t.ln_1p()
}

/// c(l) of v = l (1 + delta c(l) + O(delta^2)), the variance the reverse process makes of eigenvalue l from a distant
/// horizon: c = 1/l - l log(l) / (2 (l - 1)), its limit at l = 1 being 1/2.
pub fn first_order(l: f64) -> f64 {
    let t = l - 1.0;
    // log(l) / (l - 1), from its series where the quotient is 0 / 0.
    let ratio = if t.abs() < 1e-5 {
        1.0 - t * (0.5 - t / 3.0)
    } else {
        t.ln_1p() / t
    };
    1.0 / l - 0.5 * l * ratio
}

/// The same as Theorem 1 has it: with (1 - 1/l) / 3 added, which the recursion does not show.
pub fn printed_order(l: f64) -> f64 {
    first_order(l) + (1.0 - 1.0 / l) / 3.0
}

/// The divergence and its parts for one spectrum, horizon and number of steps, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The exact divergence.
    pub kl: f64,
    /// Exact: the part of the horizon, with infinitely many steps.
    pub horizon: f64,
    /// E_T = f(e^(-4T) |Tr((Sigma - 1) Sigma)|) of the theorem.
    pub theorem_horizon: f64,
    /// Exact: the part of the steps, started from the exact law at the horizon.
    pub step: f64,
    /// Its first order, half the sum of f(-delta c / (1 + delta c)) over all eigenvalues.
    pub step_first_order: f64,
    /// E_delta = f(delta |Tr c(Sigma)|): the theorem's form with the exact c.
    pub theorem_step: f64,
    /// E_delta as printed, with the summand (1 - Sigma^-1) / 3.
    pub theorem_step_printed: f64,
}

impl Terms {
    /// All of them. The theorem asks for Tr Sigma = d, see [`Spectrum::normalised`]. With 0 steps nothing happens to the
    /// start: `kl` and `step` are its divergence, and the first orders of endless steps are infinite.
    pub fn new(spectrum: &Spectrum, horizon: f64, steps: usize) -> Self {
        let delta = horizon / steps as f64;
        let part = |l: f64| {
            let shift = delta * first_order(l);
            let kl = 0.5 * f(-shift / (1.0 + shift));
            // A first order below -1 promises a negative variance: it says nothing there.
            if kl.is_nan() { f64::INFINITY } else { kl }
        };
        Self {
            kl: kl(spectrum, horizon, steps),
            horizon: horizon_kl(spectrum, horizon),
            theorem_horizon: f((-4.0 * horizon).exp() * spectrum.trace(|l| (l - 1.0) * l).abs()),
            step: step_kl(spectrum, horizon, steps),
            step_first_order: spectrum.trace(part),
            theorem_step: f(delta * spectrum.trace(first_order).abs()),
            theorem_step_printed: f(delta * spectrum.trace(printed_order).abs()),
        }
    }
}
