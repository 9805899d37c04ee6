//! DPM-Solver++ that remembers its last evaluations.

use super::exponential::{Form, History, Third, check_order, check_sigmas, integrals};
use super::{Denoiser, Noise, OnStep};
use crate::error::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// Choices of [`dpmpp_multistep`] and [`dpmpp_singlestep`](super::dpmpp_singlestep), with diffusers' names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpmpp {
    /// 1, 2 or 3; the first steps are of lower order.
    pub order: usize,
    /// Solve the reverse SDE instead of the ODE: SDE-DPM-Solver++.
    pub sde: bool,
    /// Form of second order.
    pub form: Form,
    /// The curvature term of third order.
    pub third: Third,
    /// Multistep: second order at most in the last step but one, first in the last, if there are fewer than 15.
    /// Singlestep: the last steps fill up what is left over by groups of `order`.
    pub lower_order_final: bool,
    /// First order in the last step (multistep). A step to sigma 0 always is.
    pub euler_at_final: bool,
}

impl Default for Dpmpp {
    fn default() -> Self {
        Self {
            order: 2,
            sde: false,
            form: Form::Midpoint,
            third: Third::Exact,
            lower_order_final: true,
            euler_at_final: false,
        }
    }
}

/// DPM-Solver++ and SDE-DPM-Solver++, multistep (Lu et al. 2022, arXiv 2211.01095, algorithm 2 and appendix B): one
/// evaluation per step. diffusers' DPMSolverMultistepScheduler; noise is asked for only with `sde`.
///
/// With `sde` the third order is not better than the second in order (`examples/order`): the parabola does not see the noise
/// inside a step.
///
/// # Errors
/// An order not in 1..=3, no steps, levels that do not fall, errors of the denoiser, of `noise` and of `on_step`.
pub fn dpmpp_multistep(
    d: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    options: &Dpmpp,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    check_order("dpmpp_multistep", options.order)?;
    check_sigmas("dpmpp_multistep", sigmas)?;
    walk(d, x, sigmas, options, noise, on_step)
}

/// The same on any grid.
pub(super) fn walk(
    d: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    options: &Dpmpp,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let mut past = History::new(options.order);
    for (i, w) in sigmas.windows(2).enumerate() {
        let (s, next) = (w[0], w[1]);
        past.push(d.denoise(&x, s)?, s);
        let left = sigmas.len() - 1 - i;
        let order = options.order_of(left, sigmas.len() - 1, w).min(past.len());
        let decay = options.decay(next / s);
        let guess = past.sum(&options.weights(&past, order, s.ln() - next.ln())[..order])?;
        x = ((&x * decay)? + (guess * (1.0 - decay))?)?;
        if options.sde && next > 0.0 {
            x = (&x + (noise(i, &x)? * (next * (1.0 - decay).sqrt()))?)?;
        }
        on_step(i, &x)?;
    }
    Ok(x)
}

impl Dpmpp {
    /// What is left of x after a step by this ratio of levels.
    pub(super) fn decay(&self, ratio: f64) -> f64 {
        if self.sde { ratio * ratio } else { ratio }
    }

    /// The integrals over a step of size h in lambda, relative to the first, and the curvature's factor.
    pub(super) fn slopes(&self, h: f64) -> (f64, f64) {
        let z = if self.sde { 2.0 * h } else { h };
        let [c0, c1, c2] = integrals(z);
        let curvature = match (self.third, self.sde) {
            (Third::Published, true) => -(0.5 + c1 / z),
            _ => c2,
        };
        (c1 / c0, curvature / c0)
    }

    /// The order of a step with `left` to go, itself included, of `steps`.
    fn order_of(&self, left: usize, steps: usize, w: &[f64]) -> usize {
        let few = self.lower_order_final && steps < 15;
        match left {
            _ if w[1] == 0.0 || w[1] == w[0] => 1,
            1 if few || self.euler_at_final => 1,
            2 if few => self.order.min(2),
            _ => self.order,
        }
    }

    /// Weights of the last values in the guess at D: the line or parabola through them, integrated.
    fn weights(&self, past: &History, order: usize, h: f64) -> [f64; 3] {
        if order == 1 {
            return [1.0, 0.0, 0.0];
        }
        let (slope, curvature) = self.slopes(h);
        let r0 = past.log_ratio(1) / h;
        if order == 2 {
            let half = match self.form {
                Form::Midpoint => 0.5,
                Form::Heun => slope,
            } / r0;
            return [1.0 + half, -half, 0.0];
        }
        // Divided differences D1_0 and D1_1 of the values, of lengths r0 and r1, and what each counts.
        let r1 = past.log_ratio(2) / h - r0;
        let twice = if self.third == Third::Exact { 2.0 } else { 1.0 };
        let bend = (slope * r0 + curvature * twice) / (r0 + r1);
        let (first, second) = ((slope + bend) / r0, -bend / r1);
        [1.0 + first, second - first, -second]
    }
}
