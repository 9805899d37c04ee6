//! Between two pictures.

use crate::error::{Result, ensure, same_shape};
use crate::ode::Rk45;
use crate::pictures::{per_picture, pictures};
use crate::sampler::{OnStep, check_eps, probability_flow};
use crate::sde::{Score, Sde};
use candle_core::Tensor;

/// Pictures between `a` and `b` (N, ...), one tensor per weight, 0 giving a and 1 giving b: both are encoded by the
/// probability flow from `eps` to the prior, their latents interpolated on the sphere ([`slerp`]) and decoded (Song et al.
/// 2021, arXiv 2011.13456, appendix D.4). `on_step` is called through all 2 + weights integrations.
///
/// # Errors
/// Shapes that differ, weights outside [0, 1], those of [`probability_flow`].
pub fn interpolate(
    sde: &dyn Sde,
    score: &dyn Score,
    a: &Tensor,
    b: &Tensor,
    weights: &[f64],
    eps: f64,
    ode: &Rk45,
    on_step: OnStep,
) -> Result<Vec<Tensor>> {
    same_shape("interpolate", "b", b, a)?;
    check_eps("interpolate", sde, eps)?;
    let inside = weights.iter().all(|w| (0.0..=1.0).contains(w));
    ensure(
        inside,
        "interpolate",
        "weights",
        format!("{weights:?}"),
        "in [0, 1]",
    )?;
    let (data, prior) = (eps, sde.end());
    let a = probability_flow(sde, score, a, [data, prior], ode, on_step)?.x;
    let b = probability_flow(sde, score, b, [data, prior], ode, on_step)?.x;
    let decode = |w: &f64| {
        let latent = slerp(&a, &b, *w)?;
        Ok(probability_flow(sde, score, &latent, [prior, data], ode, on_step)?.x)
    };
    weights.iter().map(decode).collect()
}

/// Spherical interpolation of latents (N, ...), per picture: sin((1 - w) angle) / sin(angle) a + sin(w angle) / sin(angle) b
/// with the angle between the two (Shoemake 1985). On a line where the two are (nearly) parallel or one is 0.
///
/// # Errors
/// Shapes that differ.
pub fn slerp(a: &Tensor, b: &Tensor, weight: f64) -> Result<Tensor> {
    same_shape("slerp", "b", b, a)?;
    let angles = pictures(a)?.into_iter().zip(pictures(b)?).map(|(a, b)| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cos = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
        cos.clamp(-1.0, 1.0).acos()
    });
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for angle in angles {
        // NaN, too, goes on a line.
        let curved = angle.sin() > 1e-6;
        let part = |w: f64| {
            if curved {
                (w * angle).sin() / angle.sin()
            } else {
                w
            }
        };
        first.push(part(1.0 - weight));
        second.push(part(weight));
    }
    let first = a.broadcast_mul(&per_picture(a, &first)?)?;
    Ok((first + b.broadcast_mul(&per_picture(b, &second)?)?)?)
}
