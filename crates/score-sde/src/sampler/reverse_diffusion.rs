//! The discretised process backwards.

use crate::error::{Result, same_shape};
use crate::pictures::per_picture;
use crate::sde::{Reverse, Score, Sde};
use candle_core::Tensor;

/// One step of reverse diffusion sampling (Song et al. 2021, arXiv 2011.13456, eq. 46) at times `t`, one per picture, with
/// the noise `z` of x's shape: the discretised process of the forward equation, backwards. Returns the new state, and the
/// new state without the fresh noise.
///
/// # Errors
/// Shapes that do not fit, errors of the score.
pub fn reverse_diffusion_step(
    reverse: &Reverse,
    x: &Tensor,
    t: &[f64],
    z: &Tensor,
) -> Result<(Tensor, Tensor)> {
    same_shape("reverse_diffusion_step", "z", z, x)?;
    let (f, g) = reverse.discretize(x, t)?;
    let mean = (x - f)?;
    let fresh = z.broadcast_mul(&per_picture(x, &g)?)?;
    Ok(((&mean + fresh)?, mean))
}

/// Denoises x (N, ...), which stands at time t: the mean of one step of reverse diffusion. score_sde ends its ODE
/// sampler so.
///
/// # Errors
/// Those of the score.
pub fn remove_noise(sde: &dyn Sde, score: &dyn Score, x: &Tensor, t: f64) -> Result<Tensor> {
    let reverse = Reverse {
        sde,
        score,
        probability_flow: false,
    };
    let n = x.dims().first().copied().unwrap_or(0);
    Ok((x - reverse.discretize(x, &vec![t; n])?.0)?)
}
