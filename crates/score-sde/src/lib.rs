//! Score-based diffusion models: schedules, preconditioning, samplers, networks and training objectives.

pub mod edm;
pub mod sampler;
pub mod unet;

pub use edm::Edm;
pub use unet::{UNet, UNetConfig};
