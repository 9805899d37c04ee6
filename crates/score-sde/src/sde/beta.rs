//! What VP and sub-VP share: a beta linear in time.

use super::check_scales;
use crate::error::{Result, ensure};

/// Checks of the parameters that VP and sub-VP share.
pub(super) fn check_betas(op: &'static str, min: f64, max: f64, scales: usize) -> Result<()> {
    ensure(
        min.is_finite() && min >= 0.0,
        op,
        "beta_min",
        min,
        "finite and not negative",
    )?;
    ensure(
        max.is_finite() && max >= min && max > 0.0,
        op,
        "beta_max",
        max,
        "finite, above 0 and not below beta_min",
    )?;
    check_scales(op, scales)
}

/// -ln signal of VP and sub-VP at time t: half the integral of beta.
pub(super) fn half_integral(min: f64, max: f64, t: f64) -> f64 {
    0.25 * t * t * (max - min) + 0.5 * t * min
}

/// Its inverse in [0, 1].
pub(super) fn time_of_half_integral(min: f64, max: f64, value: f64) -> f64 {
    if value <= 0.0 || value >= half_integral(min, max, 1.0) {
        return f64::from(u8::from(value > 0.0));
    }
    // a t^2 + b t = value, by the form that does not cancel.
    let (a, b) = (0.25 * (max - min), 0.5 * min);
    let root = (b * b + 4.0 * a * value).max(0.0).sqrt();
    2.0 * value / (b + root)
}

/// beta of step i of DDPM's chain of n steps, that of sub-VP's Langevin steps, too.
pub(super) fn discrete_beta(min: f64, max: f64, n: usize, i: usize) -> f64 {
    let part = i as f64 / (n.saturating_sub(1)).max(1) as f64;
    (min + part * (max - min)) / n as f64
}
