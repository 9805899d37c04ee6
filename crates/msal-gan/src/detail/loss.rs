//! The hinge loss (Lim and Ye 2017, arXiv 1705.02894) and the L1 distance.

use candle_core::{Result, Tensor};

/// mean(max(0, 1 - real)) + mean(max(0, 1 + fake)): what the discriminator minimises.
///
/// # Errors
/// Only those of the device.
pub fn hinge_discriminator(real: &Tensor, fake: &Tensor) -> Result<Tensor> {
    let real = real.affine(-1.0, 1.0)?.relu()?.mean_all()?;
    let fake = fake.affine(1.0, 1.0)?.relu()?.mean_all()?;
    real + fake
}

/// -mean(fake): what the generator minimises.
///
/// # Errors
/// Only those of the device.
pub fn hinge_generator(fake: &Tensor) -> Result<Tensor> {
    fake.mean_all()?.neg()
}

/// mean(|a - b|).
///
/// # Errors
/// Shapes that differ.
pub fn l1(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    (a - b)?.abs()?.mean_all()
}
