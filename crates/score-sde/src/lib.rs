//! Score-based diffusion models: schedules, preconditioning, SDEs, samplers, likelihoods, controlled generation, networks,
//! training objectives and the theory of their steps.

#![doc = include_str!("../README.md")]

mod blocks;
pub mod cascade;
pub mod control;
pub mod diffusion;
pub mod edm;
pub mod error;
pub mod grid;
pub mod likelihood;
pub mod objective;
pub mod ode;
mod pictures;
mod preconditioner;
pub mod prediction;
pub mod sampler;
pub mod score_net;
pub mod sde;
pub mod theory;
pub mod unet;
pub mod unet2d;

pub use blocks::Nonlinearity;
pub use cascade::{ConditionalDiffuser, DiffuserConfig};
pub use diffusion::{DiffusionConfig, GaussianDiffusion};
pub use edm::Edm;
pub use error::Error;
pub use preconditioner::Preconditioner;
pub use score_net::{ScoreNet, ScoreNetConfig};
pub use unet::{UNet, UNetConfig};
pub use unet2d::{UNet2DConfig, UNet2DModel};
