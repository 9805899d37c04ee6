//! Fast multi-scale image generation in the wavelet domain: train, sample, look.

#![doc = include_str!("../README.md")]

pub mod analyze;
pub mod bands;
pub mod bundle;
pub mod compare;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod files;
pub mod guide;
pub mod import;
pub mod model;
pub mod picture;
pub mod pipeline;
pub mod sgm;
pub mod train;
pub mod transform;
pub mod upscale;
pub mod wsgm;

pub use bundle::Bundle;
pub use error::{Error, Result};
pub use pipeline::{Diffused, Model, Pair, Pipeline, SampleOptions, Sgm, Wmgm};
pub use upscale::UpscaleOptions;
pub use wsgm::Wsgm;
