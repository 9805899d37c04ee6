//! Multi-scale adversarial generation of wavelet details: generators, discriminators, losses.
#![doc = include_str!("../README.md")]

pub mod detail;
pub mod error;
pub mod official;
pub mod ssim;

pub use detail::{DetailDiscriminator, DetailGenerator};
pub use error::{Error, Result};
pub use ssim::{ssim, ssim_per_picture};
