//! What the exponential integrators share.
//!
//! With lambda = -ln sigma and h its step, the probability-flow equation is solved by x' = e^-h x + the integral of
//! e^(u-h) D du over [0, h], the reverse SDE by the same with z = 2 h in place of h and fresh noise (Lu et al. 2022, arXiv
//! 2211.01095, propositions 4.1 and 4.2, in coordinates where alpha is 1). A solver replaces D by a polynomial in u / h
//! through values it knows.

use crate::error::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Form of DPM-Solver++'s second order, diffusers' `solver_type`; with singlestep also of the third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The slope times half the integral of 1: as accurate, and what the paper prints. Third order singlestep: the slope to
    /// the last value alone, right to third order where that lies at two thirds of the step.
    #[default]
    Midpoint,
    /// The slope times the integral of u / h. Third order singlestep: the parabola through all three values.
    Heun,
}

/// The curvature term of third-order DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Third {
    /// The parabola's own.
    #[default]
    Exact,
    /// As in diffusers. Multistep has half of it, which leaves an error of second order; with fresh noise, in the forms with
    /// a parabola, the term has a constant of the wrong sign, which leaves one of first order.
    Published,
}

/// Factors of 1, u / h and (u / h)^2 / 2 in the integral over the step, over a step z: c0 = 1 - e^-z, c1 =
/// 1 - c0 / z, c2 = 1/2 - c1 / z.
pub(super) fn integrals(z: f64) -> [f64; 3] {
    if z.abs() < 0.5 {
        // The sum of (-1)^(n+1) z^n / (n + k)! keeps the digits that the differences lose.
        let mut sums = [0.0; 3];
        for (sum, (mut term, mut n)) in
            sums.iter_mut()
                .zip([(z, 1.0), (z / 2.0, 2.0), (z / 6.0, 3.0)])
        {
            while term.abs() > f64::EPSILON * 1e-3 * z.abs() {
                *sum += term;
                n += 1.0;
                term *= -z / n;
            }
        }
        return sums;
    }
    let c0 = -(-z).exp_m1();
    let c1 = 1.0 - c0 / z;
    [c0, c1, 0.5 - c1 / z]
}

/// The sum of tensors times factors; those with factor 0 are left out.
pub(super) fn combine(terms: &[(f64, &Tensor)]) -> candle_core::Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for &(factor, tensor) in terms.iter().filter(|t| t.0 != 0.0) {
        let term = if factor == 1.0 {
            tensor.clone()
        } else {
            (tensor * factor)?
        };
        sum = Some(match sum {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    match (sum, terms.first()) {
        (Some(sum), _) => Ok(sum),
        (None, Some((_, tensor))) => tensor.zeros_like(),
        (None, None) => candle_core::bail!("combine: no tensors"),
    }
}

/// The last values of a multistep solver with their noise levels, the newest first.
pub(super) struct History {
    values: std::collections::VecDeque<(Tensor, f64)>,
    order: usize,
}

impl History {
    /// Room for `order` values.
    pub(super) fn new(order: usize) -> Self {
        let values = std::collections::VecDeque::new();
        Self { values, order }
    }

    /// A new value; it replaces the last one if that has the same level.
    pub(super) fn push(&mut self, value: Tensor, sigma: f64) {
        if self.values.front().is_some_and(|(_, s)| *s == sigma) {
            self.values.pop_front();
        }
        self.values.push_front((value, sigma));
        self.values.truncate(self.order);
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// ln(level / the newest level) of value i, positive for the older ones.
    pub(super) fn log_ratio(&self, i: usize) -> f64 {
        let ln = |i: usize| self.values.get(i).map_or(0.0, |(_, s)| s.ln());
        ln(i) - ln(0)
    }

    /// The value.
    pub(super) fn value(&self, i: usize) -> Option<&Tensor> {
        self.values.get(i).map(|(v, _)| v)
    }

    /// The weighted sum of the newest values.
    pub(super) fn sum(&self, weights: &[f64]) -> candle_core::Result<Tensor> {
        let values = self.values.iter().map(|(v, _)| v);
        let terms: Vec<(f64, &Tensor)> = weights.iter().copied().zip(values).collect();
        combine(&terms)
    }
}

/// Errs unless `order` is 1, 2 or 3.
pub(super) fn check_order(op: &'static str, order: usize) -> Result<()> {
    match (1..=3).contains(&order) {
        true => Ok(()),
        false => Err(Error::Argument {
            op,
            name: "order",
            value: order.to_string(),
            need: "1, 2 or 3",
        }),
    }
}

/// Errs unless `sigmas` are at least two finite levels that do not rise, none but the last being 0.
pub(super) fn check_sigmas(op: &'static str, sigmas: &[f64]) -> Result<()> {
    let refuse = |name, value, need| {
        Err(Error::Argument {
            op,
            name,
            value,
            need,
        })
    };
    if sigmas.len() < 2 {
        let steps = sigmas.len().saturating_sub(1);
        return refuse("steps", steps.to_string(), "at least 1: two noise levels");
    }
    let bad = sigmas
        .windows(2)
        .position(|w| !(w[0] > 0.0 && w[0].is_finite() && w[1] >= 0.0 && w[1] <= w[0]));
    match bad {
        None => Ok(()),
        Some(i) => refuse(
            "sigmas",
            format!("{:?} at step {i}", &sigmas[i..i + 2]),
            "finite and falling, positive but for the last",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrals_agree_where_both_ways_are_exact() {
        for z in [0.3, 0.499_999, 0.500_001, 2.0, 40.0] {
            let c0 = 1.0 - f64::exp(-z);
            let c1 = 1.0 - c0 / z;
            let want = [c0, c1, 0.5 - c1 / z];
            for (got, want) in integrals(z).iter().zip(want) {
                assert!((got - want).abs() < 1e-13, "{z}: {got} {want}");
            }
        }
        let small = integrals(1e-9);
        assert!((small[0] / 1e-9 - 1.0).abs() < 1e-8);
        assert!((small[1] / 1e-9 - 0.5).abs() < 1e-8 && (small[2] / 1e-9 - 1.0 / 6.0).abs() < 1e-8);
    }

    #[test]
    fn bad_grids_and_orders_are_named() {
        for (sigmas, text) in [
            (&[][..], "steps is 0"),
            (&[1.0], "steps is 0"),
            (&[1.0, 2.0], "[1.0, 2.0] at step 0"),
            (&[2.0, 0.0, 0.0], "at step 1"),
            (&[2.0, f64::NAN], "at step 0"),
            (&[f64::INFINITY, 1.0], "at step 0"),
        ] {
            let e = check_sigmas("op", sigmas).unwrap_err().to_string();
            assert!(e.contains(text), "{e}");
        }
        assert!(check_sigmas("op", &[2.0, 1.0, 1.0, 0.0]).is_ok());
        let e = check_order("op", 4).unwrap_err().to_string();
        assert!(e.contains("order is 4") && e.contains("1, 2 or 3"));
    }
}
