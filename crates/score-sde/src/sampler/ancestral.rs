//! Ancestral sampling of the discrete chains.

use crate::error::{Error, Result, ensure, same_shape};
use crate::pictures::{check_times, scale};
use crate::sde::{Ancestral, Score, Sde};
use candle_core::Tensor;

/// One step of ancestral sampling at times `t`, one per picture, with the noise `z` of x's shape: DDPM's for VP (Ho et al.
/// 2020, arXiv 2006.11239, algorithm 2, with variance beta), SMLD's for VE (Song et al. 2021, arXiv 2011.13456, eq. 47).
/// Returns the new state, and the new state without the fresh noise.
///
/// # Errors
/// A process without a chain (sub-VP), a step of VP whose beta reaches 1, shapes that do not fit, errors of the score.
pub fn ancestral_step(
    sde: &dyn Sde,
    score: &dyn Score,
    x: &Tensor,
    t: &[f64],
    z: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check_times("ancestral_step", x, t)?;
    same_shape("ancestral_step", "z", z, x)?;
    let steps: Option<Vec<Ancestral>> = t.iter().map(|&t| sde.ancestral(t)).collect();
    let Some(steps) = steps else {
        return Err(unfit(sde));
    };
    let flat = steps.iter().find(|s| s.signal.is_nan() || s.signal <= 0.0);
    let need = "above 0: take more scales than beta_max";
    let signal = flat.map_or(1.0, |s| s.signal);
    ensure(flat.is_none(), "ancestral_step", "signal", signal, need)?;
    let gain = per(&steps, |s| s.gain);
    let pulled = (x + scale(&score.score(x, t)?, &gain, |g| g)?)?;
    let mean = scale(&pulled, &per(&steps, |s| 1.0 / s.signal), |v| v)?;
    let fresh = scale(z, &per(&steps, |s| s.noise), |v| v)?;
    Ok(((&mean + fresh)?, mean))
}

fn per(steps: &[Ancestral], f: impl Fn(&Ancestral) -> f64) -> Vec<f64> {
    steps.iter().map(f).collect()
}

/// Why a process without a chain has no ancestral sampling.
pub(super) fn unfit(sde: &dyn Sde) -> Error {
    Error::Unfit {
        op: "ancestral_sampling",
        sde: sde.name(),
        fits: "it needs the discrete chain of vp or ve; reverse_diffusion and euler_maruyama fit every process",
    }
}
