//! Euler and Maruyama's method on the reverse process.

use super::{Noise, OnStep};
use crate::error::{Result, ensure, same_shape};
use crate::pictures::scale;
use crate::sde::Reverse;
use candle_core::Tensor;

/// Euler and Maruyama's method (Song et al. 2021, arXiv 2011.13456, appendix D) on the reverse process, or Euler's on its
/// probability flow, down a grid of times that descends: n - 1 evaluations for n times, from x (N, ...), the prior's
/// standard deviation times noise. No noise is added in the last step; none is asked for by the flow.
///
/// # Errors
/// Times that do not descend, are fewer than two or outside the process, errors of the score, of `noise` and of `on_step`.
pub fn euler_maruyama(
    reverse: &Reverse,
    mut x: Tensor,
    times: &[f64],
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    reverse.sde.check()?;
    let descends = times.len() > 1 && times.windows(2).all(|w| w[0] > w[1]);
    let need = "at least two, each below the one before";
    ensure(
        descends,
        "euler_maruyama",
        "times",
        format!("{times:?}"),
        need,
    )?;
    let inside = |t: &f64| (0.0..=reverse.sde.end()).contains(t);
    ensure(
        times.iter().all(inside),
        "euler_maruyama",
        "times",
        format!("{times:?}"),
        "from the process's end down to 0 at most",
    )?;
    let n = x.dims().first().copied().unwrap_or(0);
    for (i, w) in times.windows(2).enumerate() {
        let z = match reverse.probability_flow || i + 2 == times.len() {
            true => x.zeros_like()?,
            false => noise(i, &x)?,
        };
        x = euler_maruyama_step(reverse, &x, &vec![w[0]; n], w[0] - w[1], &z)?.0;
        on_step(i, &x)?;
    }
    Ok(x)
}

/// One step of it from times `t`, one per picture, back by `dt`, with the noise `z` of x's shape: the new state, and the
/// new state without the fresh noise.
///
/// # Errors
/// Shapes that do not fit, errors of the score.
pub fn euler_maruyama_step(
    reverse: &Reverse,
    x: &Tensor,
    t: &[f64],
    dt: f64,
    z: &Tensor,
) -> Result<(Tensor, Tensor)> {
    same_shape("euler_maruyama_step", "z", z, x)?;
    let mean = (x - (reverse.drift(x, t)? * dt)?)?;
    let fresh = scale(z, t, |t| reverse.diffusion(t) * dt.sqrt())?;
    Ok(((&mean + fresh)?, mean))
}
