//! Tensor files of the field, read without trust.

// Its examples need the hub.
#![cfg_attr(feature = "hub", doc = include_str!("../README.md"))]

mod bytes;
mod checkpoint;
pub mod error;
mod flatten;
#[cfg(feature = "hub")]
pub mod hub;
pub mod names;
pub mod pickle;
pub mod safetensors;
mod state;
mod tensor;
mod torch;
mod weights;
pub mod zip;

pub use ::safetensors::Dtype;
pub use bytes::Bytes;
pub use checkpoint::{Checkpoint, Format, WEIGHTS};
pub use error::{Error, Result};
pub use state::{Layout, Parameters, difference};
pub use tensor::{Storage, StoredTensor};
pub use weights::Weights;
