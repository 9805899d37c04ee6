//! Score-based diffusion models: schedules, preconditioning, samplers, networks and training objectives.

#![doc = include_str!("../README.md")]

pub mod control;
pub mod diffusion;
pub mod edm;
pub mod error;
pub mod likelihood;
pub mod objective;
pub mod ode;
mod pictures;
pub mod sampler;
pub mod sde;
pub mod theory;
pub mod unet;

pub use diffusion::{DiffusionConfig, GaussianDiffusion};
pub use edm::Edm;
pub use error::Error;
pub use unet::{UNet, UNetConfig};
