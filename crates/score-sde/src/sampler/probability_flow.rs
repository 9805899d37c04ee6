//! The probability flow, integrated adaptively.

use super::OnStep;
use crate::error::{Result, ensure};
use crate::ode::{Rk45, Solution};
use crate::pictures::{like, pictures};
use crate::sde::{Reverse, Score, Sde};
use candle_core::Tensor;

/// Pictures carried along the probability flow.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Where they arrived, (N, ...).
    pub x: Tensor,
    /// Evaluations of the score that each picture asked for.
    pub evaluations: Vec<usize>,
}

/// Carries x (N, ...) along the probability flow (Song et al. 2021, arXiv 2011.13456, eq. 13) between two times, by Dormand
/// and Prince's method with adaptive steps: from [`Sde::end`] to a small eps it samples, the other way it encodes. The state
/// is f64, the score sees x's dtype. `on_step` is called after each round of steps.
///
/// # Errors
/// Times outside [0, end], tolerances out of range, a flow that cannot be followed, errors of the score and of `on_step`.
pub fn probability_flow(
    sde: &dyn Sde,
    score: &dyn Score,
    x: &Tensor,
    times: [f64; 2],
    ode: &Rk45,
    on_step: OnStep,
) -> Result<Flow> {
    sde.check()?;
    for t in times {
        let inside = (0.0..=sde.end()).contains(&t);
        ensure(
            inside,
            "probability_flow",
            "times",
            t,
            "from 0 to the process's end",
        )?;
    }
    let flow = Reverse {
        sde,
        score,
        probability_flow: true,
    };
    let mut slope = |t: &[f64], state: &[Vec<f64>]| {
        let at = like(x, state)?;
        pictures(&flow.drift(&at, t)?)
    };
    let mut seen = |i: usize, state: &[Vec<f64>]| Ok(on_step(i, &like(x, state)?)?);
    let Solution { y, evaluations } = ode.solve(&mut slope, pictures(x)?, times, &mut seen)?;
    let x = like(x, &y)?;
    Ok(Flow { x, evaluations })
}
