//! The official second stage: from a low band to a picture, one generator pass per level.

use super::generator::Generator;
use super::haar;
use crate::error::{Error, Result};
use candle_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// What the official program multiplies low pictures in [0, 1] by, whatever the number of levels; right for two.
pub const LOW_SCALE: f64 = 4.0;

/// How a value in [0, 1] becomes one of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EightBit {
    /// To the nearest.
    Nearest,
    /// To the next below, as improved-diffusion's cast to bytes does.
    Below,
}

/// What the low-frequency input of the second stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowInput {
    /// The band itself: nothing is done to it.
    Band,
    /// A picture in [0, 1], as the official program reads from files: multiplied by [`LOW_SCALE`].
    UnitPicture,
    /// A sample in [-1, 1] of a model trained on such pictures: clamp((x + 1) / 2, 0, 1), perhaps through 8 bits as if it had
    /// been a file in between, multiplied by [`LOW_SCALE`].
    SignedPicture(Option<EightBit>),
}

impl LowInput {
    /// The low band that the generator expects.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn to_band(self, low: &Tensor) -> Result<Tensor> {
        let unit = match self {
            Self::Band => return Ok(low.clone()),
            Self::UnitPicture => low.clone(),
            Self::SignedPicture(rounding) => {
                let unit = low.affine(0.5, 0.5)?.clamp(0.0, 1.0)?;
                match rounding {
                    None => unit,
                    Some(EightBit::Nearest) => ((unit * 255.0)?.round()? / 255.0)?,
                    Some(EightBit::Below) => ((unit * 255.0)?.floor()? / 255.0)?,
                }
            }
        };
        Ok((unit * LOW_SCALE)?)
    }
}

/// Doubles a low band (N, C, H, W) `levels` times: each round generates the details and inverts the transform.
///
/// `noise(round, shape)` gives the standard normal noise of a round (0 is the coarsest); `on_round(round, band)` sees every
/// result and may stop the run with an error. The generator runs in evaluation.
///
/// # Errors
/// No level at all, noise of another shape, shapes the generator refuses, an error of a callback.
pub fn sample(
    generator: &Generator,
    low: &Tensor,
    levels: usize,
    noise: &mut dyn FnMut(usize, &Shape) -> candle_core::Result<Tensor>,
    on_round: &mut dyn FnMut(usize, &Tensor) -> candle_core::Result<()>,
) -> Result<Tensor> {
    if levels == 0 {
        let value = levels.to_string();
        return Err(Error::Argument {
            op: "sample",
            name: "levels",
            value,
            need: "at least 1",
        });
    }
    let mut x = low.clone();
    for round in 0..levels {
        let z = noise(round, x.shape())?;
        if z.dims() != x.dims() {
            let expected = format!("{:?}", x.dims());
            return Err(Error::Shape {
                op: "sample",
                name: "noise",
                got: z.dims().to_vec(),
                expected,
            });
        }
        let details = generator.forward(&x, &z, false)?;
        x = haar::inverse(&x, &details)?.detach();
        on_round(round, &x)?;
    }
    Ok(x)
}
