//! Giving colour to grey pictures.

use super::inpaint::Known;
use crate::error::{Error, Result};
use crate::sampler::{Noise, OnStep, PredictorCorrector};
use crate::sde::{Score, Sde};
use candle_core::{Device, Tensor};

/// Gives colour to the grey pictures `gray` (N, 3, H, W), of which only the mean over the channels counts: [`inpaint`] in
/// an orthonormal basis of colours, whose first axis is grey and known (Song et al. 2021, arXiv 2011.13456, appendix I.3).
/// `x` is the prior's standard deviation times noise.
///
/// [`inpaint`]: super::inpaint()
///
/// # Errors
/// Those of [`inpaint`], and pictures that have not three channels.
pub fn colourise(
    sde: &dyn Sde,
    score: &dyn Score,
    gray: &Tensor,
    x: Tensor,
    options: &PredictorCorrector,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let data = to_colour_basis(gray)?;
    let first = data.narrow(1, 0, 1)?.ones_like()?;
    let rest = data.narrow(1, 1, 2)?.zeros_like()?;
    let known = Known {
        mask: Tensor::cat(&[first, rest], 1)?,
        data,
        basis: &to_colour_basis,
        back: &from_colour_basis,
    };
    known.sample(sde, score, x, options, noise, on_step)
}

/// RGB pictures (N, 3, H, W) in the basis (1, 1, 1) / sqrt 3, (-2, 1, 1) / sqrt 6, (0, 1, -1) / sqrt 2: sqrt 3 times grey, and
/// two axes of colour.
///
/// # Errors
/// Pictures that have not three channels.
pub fn to_colour_basis(x: &Tensor) -> Result<Tensor> {
    mix(x, "to_colour_basis", |i, j| AXES[i][j] / length(i))
}

/// The way back.
///
/// # Errors
/// As [`to_colour_basis`].
pub fn from_colour_basis(x: &Tensor) -> Result<Tensor> {
    mix(x, "from_colour_basis", |i, j| AXES[j][i] / length(j))
}

const AXES: [[f64; 3]; 3] = [[1.0, 1.0, 1.0], [-2.0, 1.0, 1.0], [0.0, 1.0, -1.0]];

fn length(i: usize) -> f64 {
    AXES[i].iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The 3 x 3 matrix with these entries on the channels of x.
fn mix(x: &Tensor, op: &'static str, entry: impl Fn(usize, usize) -> f64) -> Result<Tensor> {
    if x.rank() != 4 || x.dims()[1] != 3 {
        return Err(Error::Shape {
            op,
            name: "x",
            got: x.dims().to_vec(),
            expected: "(N, 3, H, W)".into(),
        });
    }
    let column = |j: usize| -> candle_core::Result<Tensor> {
        let weights = Tensor::new(&[entry(0, j), entry(1, j), entry(2, j)], &Device::Cpu)?;
        let weights = weights.to_dtype(x.dtype())?.to_device(x.device())?;
        // (N, 1, H, W) times (1, 3, 1, 1)
        x.narrow(1, j, 1)?
            .broadcast_mul(&weights.reshape((1, 3, 1, 1))?)
    };
    Ok(((column(0)? + column(1)?)? + column(2)?)?)
}
