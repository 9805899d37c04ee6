//! One step of each official network: loss, gradients, optimiser.

use super::discriminator::Discriminator;
use super::generator::Generator;
use super::haar;
use super::loss::{GeneratorLoss, LossConfig, discriminator_loss, generator_loss};
use crate::error::Result;
use candle_core::{ModuleT, Tensor};
use nn_ops::AdamW;

/// What a step at one level sees.
#[derive(Debug, Clone)]
pub struct Example {
    /// Low band (N, C, H, W).
    pub low: Tensor,
    /// Standard normal noise of the same shape.
    pub noise: Tensor,
    /// The picture (N, C, 2 H, 2 W) that the low band is of.
    pub target: Tensor,
}

/// Moves the generator, and returns its loss and the pictures it made, without gradients.
///
/// Both networks run in training, so the discriminator's running statistics see these pictures too; its parameters stay.
///
/// # Errors
/// Shapes that do not fit.
pub fn generator_step(
    generator: &Generator,
    discriminator: &Discriminator,
    optimiser: &mut AdamW,
    example: &Example,
    cfg: &LossConfig,
) -> Result<(GeneratorLoss, Tensor)> {
    let details = generator.forward(&example.low, &example.noise, true)?;
    let fake = haar::inverse(&example.low, &details)?;
    let logits = discriminator.forward_t(&fake, true)?;
    let loss = generator_loss(&logits, &fake, &example.target, cfg)?;
    optimiser.step(&loss.total.backward()?)?;
    Ok((loss, fake.detach()))
}

/// Moves the discriminator by pictures a generator made and real ones, (N, C, H, W) each; returns its loss.
///
/// # Errors
/// Shapes that do not fit.
pub fn discriminator_step(
    discriminator: &Discriminator,
    optimiser: &mut AdamW,
    fake: &Tensor,
    real: &Tensor,
) -> Result<Tensor> {
    let on_fake = discriminator.forward_t(&fake.detach(), true)?;
    let loss = discriminator_loss(&on_fake, &discriminator.forward_t(real, true)?)?;
    optimiser.step(&loss.backward()?)?;
    Ok(loss)
}
