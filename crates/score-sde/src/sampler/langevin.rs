//! Langevin correctors.

use super::Coupling;
use crate::error::{Result, same_shape};
use crate::pictures::{check_times, per_picture, pictures};
use crate::sde::{Score, Sde};
use candle_core::Tensor;

/// One step of Langevin dynamics at times `t`, one per picture, with the noise `z` of x's shape (Song et al. 2021, arXiv
/// 2011.13456, algorithms 4 and 5): the step size makes `snr` the ratio of the drift's norm to the noise's. Returns the
/// new state, and the new state without the fresh noise.
///
/// Norms are each picture's own, or with [`Coupling::Batch`] their means over the batch as in score_sde. Where the score
/// is 0 everywhere, nothing moves.
///
/// # Errors
/// Shapes that do not fit, errors of the score.
pub fn langevin_step(
    sde: &dyn Sde,
    score: &dyn Score,
    x: &Tensor,
    t: &[f64],
    snr: f64,
    coupling: Coupling,
    z: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check_times("langevin_step", x, t)?;
    same_shape("langevin_step", "z", z, x)?;
    let gradient = score.score(x, t)?;
    let lengths = norms(&gradient, coupling)?.into_iter();
    let ratios = norms(z, coupling)?.into_iter().zip(lengths);
    let sizes = ratios.zip(t).map(|((noise, gradient), &t)| match gradient {
        0.0 => 0.0,
        _ => 2.0 * sde.langevin_alpha(t) * (snr * noise / gradient).powi(2),
    });
    climb(x, &gradient, z, sizes.collect())
}

/// One step of annealed Langevin dynamics at times `t` with the noise `z` (Song and Ermon 2019, arXiv 1907.05600,
/// algorithm 1, in score_sde's form): the step size is that of the noise level, 2 alpha (snr std)^2. Returns the new state,
/// and the new state without the fresh noise.
///
/// # Errors
/// Shapes that do not fit, errors of the score.
pub fn annealed_langevin_step(
    sde: &dyn Sde,
    score: &dyn Score,
    x: &Tensor,
    t: &[f64],
    snr: f64,
    z: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check_times("annealed_langevin_step", x, t)?;
    same_shape("annealed_langevin_step", "z", z, x)?;
    let size = |&t: &f64| 2.0 * sde.langevin_alpha(t) * (snr * sde.marginal(t).std).powi(2);
    climb(x, &score.score(x, t)?, z, t.iter().map(size).collect())
}

/// x + size gradient, and that plus sqrt(2 size) z.
fn climb(x: &Tensor, gradient: &Tensor, z: &Tensor, sizes: Vec<f64>) -> Result<(Tensor, Tensor)> {
    let mean = (x + gradient.broadcast_mul(&per_picture(x, &sizes)?)?)?;
    let widths: Vec<f64> = sizes.iter().map(|s| (2.0 * s).sqrt()).collect();
    let fresh = z.broadcast_mul(&per_picture(x, &widths)?)?;
    Ok(((&mean + fresh)?, mean))
}

/// The Euclidean norm of each picture, or for each their mean.
fn norms(x: &Tensor, coupling: Coupling) -> Result<Vec<f64>> {
    let norm = |p: Vec<f64>| p.iter().map(|v| v * v).sum::<f64>().sqrt();
    let own: Vec<f64> = pictures(x)?.into_iter().map(norm).collect();
    Ok(match coupling {
        Coupling::PerPicture => own,
        Coupling::Batch => vec![own.iter().sum::<f64>() / own.len() as f64; own.len()],
    })
}
