//! The default detail model: a small generator, shared by all levels or one for each, and a patch discriminator, both in the wavelet
//! domain, trained with the hinge loss and an L1 term.
//!
//! The official networks are 60 times larger and judge pictures; here the bands are standardised, so that every level
//! looks alike to one small network and nothing needs to be transformed back while training.

mod discriminator;
mod generator;
mod loss;

pub use discriminator::{DetailDiscriminator, DetailDiscriminatorConfig, Pass};
pub use generator::{DetailGenerator, DetailGeneratorConfig};
pub use loss::{hinge_discriminator, hinge_generator, l1};

use candle_core::{Result, Tensor};

/// Constant planes (N, levels, H, W) that tell a network which level each item is of: 1 in plane `level` - 1, else 0.
fn level_planes(x: &Tensor, of: &[usize], levels: usize) -> Result<Tensor> {
    let (n, _, h, w) = x.dims4()?;
    if of.len() != n {
        candle_core::bail!("detail network: {} levels for a batch of {n}", of.len())
    }
    let mut one_hot = vec![0f32; n * levels];
    for (i, &level) in of.iter().enumerate() {
        if level == 0 || level > levels {
            candle_core::bail!("detail network: level {level} is not between 1 and {levels}")
        }
        one_hot[i * levels + level - 1] = 1.0;
    }
    Tensor::from_vec(one_hot, (n, levels, 1, 1), x.device())?
        .to_dtype(x.dtype())?
        .broadcast_as((n, levels, h, w))?
        .contiguous()
}
