//! The networks, losses and sampling of the official program, number for number.
//!
//! Source: "Multi-scale Generative Modeling for Fast Sampling" (Xiao et al., arXiv 2411.09356) and its code (GitHub
//! Shixuan01/WMGM). Parameters have the names of its `state_dict`, so its checkpoints load:
//! `candle_nn::VarBuilder::from_pth`.
//!
//! Pictures are (N, 3, H, W) **in \[0, 1\]**, bands those of the orthonormal Haar transform, so that a low band after k
//! levels lies in \[0, 2^k\]; details are (N, 9, H, W) in the order LH RGB, HL RGB, HH RGB. Nothing is standardised, and the
//! generator's tanh cannot reach coefficients beyond \[-1, 1\]. The default model of this crate ([`crate::detail`]) has none
//! of these limits. Choices of the official program that are right only for its units are options here, named
//! [`loss::PictureRange`] and [`sampling::LowInput`]. Its call of `clip_grad_norm_` comes before `backward`, when there are no
//! gradients, and has no effect: here it is absent.

mod blocks;
pub mod discriminator;
pub mod generator;
pub mod haar;
pub mod loss;
pub mod sampling;
pub mod step;

pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use generator::{Generator, GeneratorConfig, Pooling};
pub use loss::{GeneratorLoss, LossConfig, PictureRange, discriminator_loss, generator_loss};
pub use sampling::{EightBit, LowInput, sample};
pub use step::{Example, discriminator_step, generator_step};
