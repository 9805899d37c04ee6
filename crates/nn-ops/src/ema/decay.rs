//! How much of an average a step keeps.

use candle_core::{Result, bail};

/// The decay of each update: shadow <- decay shadow + (1 - decay) value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EmaDecay {
    /// min(decay, (1 + t) / (10 + t)), t = 0 in the first update: what [`Ema::new`](super::Ema::new) does.
    Warmup(f64),
    /// The same decay from the first update on.
    Constant(f64),
    /// min(decay, (1 + n) / (10 + n)), n = 1 in the first update: score_sde's, with its `num_updates`.
    ScoreSde(f64),
    /// That of diffusers' `EMAModel`, see [`InverseGamma`]: without it (1 + s) / (10 + s) in place of its curve.
    Diffusers {
        /// The largest decay, its `decay`.
        max: f64,
        /// The smallest, its `min_decay`. The first update always copies.
        min: f64,
        /// Updates that only copy, its `update_after_step`.
        after: u64,
        /// Its `use_ema_warmup` with `inv_gamma` and `power`.
        warmup: Option<InverseGamma>,
    },
    /// (1 - 1/n)^(gamma + 1), n = 1 in the first update: the power-function profile t^gamma of Karras et al. 2023, "Analyzing
    /// and improving the training dynamics of diffusion models" (EDM2, arXiv 2312.02696, eq. 127). Its width is a fixed
    /// part of the training so far; [`power_gamma`](super::power_gamma) gives gamma for a part.
    Power {
        /// The exponent, from 0.
        gamma: f64,
    },
}

/// The curve 1 - (1 + s / inv_gamma)^-power of diffusers' and k-diffusion's warm-up, s counting updates: with
/// power 1 a plain average, with 2/3 a decay of 0.999 after 31600 updates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InverseGamma {
    /// Stretches the curve, above 0.
    pub inv_gamma: f64,
    /// Its exponent, above 0.
    pub power: f64,
}

impl Default for InverseGamma {
    fn default() -> Self {
        Self {
            inv_gamma: 1.0,
            power: 2.0 / 3.0,
        }
    }
}

impl EmaDecay {
    /// The decay of the update that follows `done` others.
    pub fn at(&self, done: u64) -> f64 {
        let ramp = |t: f64| (1.0 + t) / (10.0 + t);
        let n = done as f64 + 1.0;
        match *self {
            Self::Warmup(decay) => decay.min(ramp(done as f64)),
            Self::Constant(decay) => decay,
            Self::ScoreSde(decay) => decay.min(ramp(n)),
            Self::Diffusers {
                max,
                min,
                after,
                warmup,
            } => {
                let s = done.saturating_sub(after) as f64;
                if s == 0.0 {
                    return 0.0;
                }
                let decay = match warmup {
                    Some(w) => 1.0 - (1.0 + s / w.inv_gamma).powf(-w.power),
                    None => ramp(s),
                };
                decay.min(max).max(min)
            }
            Self::Power { gamma } => (1.0 - 1.0 / n).powf(gamma + 1.0),
        }
    }

    /// # Errors
    /// A decay outside \[0, 1\], a curve or an exponent out of its range.
    pub fn check(&self) -> Result<()> {
        let unit = |x: f64| (0.0..=1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        match *self {
            Self::Warmup(d) | Self::Constant(d) | Self::ScoreSde(d) if !unit(d) => {
                bail!("EmaDecay: the decay is {d}, it must be in [0, 1]")
            }
            Self::Diffusers { max, min, .. } if !(unit(max) && unit(min) && min <= max) => {
                bail!(
                    "EmaDecay::Diffusers: (min, max) is ({min}, {max}), they must be in [0, 1] and ascend"
                )
            }
            Self::Diffusers {
                warmup: Some(w), ..
            } if !(positive(w.inv_gamma) && positive(w.power)) => {
                bail!("EmaDecay::Diffusers: {w:?} must have positive numbers")
            }
            Self::Power { gamma } if !(gamma >= 0.0 && gamma.is_finite()) => {
                bail!("EmaDecay::Power: gamma is {gamma}, it must be finite and not below 0")
            }
            _ => Ok(()),
        }
    }
}
