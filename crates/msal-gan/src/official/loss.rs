//! The official losses, on the pictures of a level after the inverse transform.

use crate::error::{Error, Result};
use crate::ssim::ssim;
use candle_core::Tensor;
use candle_nn::ops::sigmoid;
use serde::{Deserialize, Serialize};

/// How pictures are mapped to [0, 1] before their structural similarity is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureRange {
    /// (x + 1) / 2, right for pictures in [-1, 1]. The official program uses it on pictures in [0, 2^k], which weakens the
    /// contrasts the similarity sees.
    Signed,
    /// As they are, right for pictures in [0, 1].
    Unit,
}

/// Weights of the generator's loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Of the adversarial term.
    pub alpha: f64,
    /// Of the mean squared error.
    pub lambda: f64,
    /// Of 1 - SSIM.
    pub nu: f64,
    /// The pictures' range as the similarity takes it.
    pub range: PictureRange,
}

impl Default for LossConfig {
    /// The official program's: 0.1, 20, 0.5, [`PictureRange::Signed`].
    fn default() -> Self {
        Self {
            alpha: 0.1,
            lambda: 20.0,
            nu: 0.5,
            range: PictureRange::Signed,
        }
    }
}

/// The generator's loss and its terms before weighting, scalars.
#[derive(Debug, Clone)]
pub struct GeneratorLoss {
    /// alpha * adversarial + lambda * mse + nu * dissimilarity.
    pub total: Tensor,
    /// -mean(sigmoid(D(fake))).
    pub adversarial: Tensor,
    /// mean((fake - target)^2).
    pub mse: Tensor,
    /// 1 - SSIM(fake, target).
    pub dissimilarity: Tensor,
}

/// What the generator minimises: `logits` are the discriminator's of `fake`; both pictures (N, C, H, W).
///
/// # Errors
/// Shapes that differ.
pub fn generator_loss(
    logits: &Tensor,
    fake: &Tensor,
    target: &Tensor,
    cfg: &LossConfig,
) -> Result<GeneratorLoss> {
    if fake.dims() != target.dims() {
        let expected = format!("{:?}", target.dims());
        return Err(Error::Shape {
            op: "generator_loss",
            name: "fake",
            got: fake.dims().to_vec(),
            expected,
        });
    }
    let adversarial = sigmoid(logits)?.mean_all()?.neg()?;
    let mse = (fake - target)?.sqr()?.mean_all()?;
    let unit = |x: &Tensor| match cfg.range {
        PictureRange::Signed => x.affine(0.5, 0.5),
        PictureRange::Unit => Ok(x.clone()),
    };
    let dissimilarity = ssim(&unit(fake)?, &unit(target)?)?.affine(-1.0, 1.0)?;
    let total = ((&adversarial * cfg.alpha)? + (&mse * cfg.lambda)?)?;
    Ok(GeneratorLoss {
        total: (total + (&dissimilarity * cfg.nu)?)?,
        adversarial,
        mse,
        dissimilarity,
    })
}

/// What the discriminator minimises: (mean(sigmoid(D(fake))) - mean(sigmoid(D(real)))) / 2, of its logits.
///
/// # Errors
/// Only those of the device.
pub fn discriminator_loss(fake: &Tensor, real: &Tensor) -> Result<Tensor> {
    Ok(((sigmoid(fake)?.mean_all()? - sigmoid(real)?.mean_all()?)? * 0.5)?)
}
