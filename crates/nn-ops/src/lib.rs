//! Neural-network operators and layers with right gradients and fast CPU paths, on candle tensors.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod clip;
pub mod combine;
pub mod conv;
pub mod ema;
pub mod group_norm;
pub mod linear;
pub mod memory;
pub mod noise;
pub mod params;
pub mod path;
pub mod resample;
pub mod simd;

mod cpu;
mod storage;

pub use activation::{leaky_relu, silu};
pub use adamw::{AdamW, AdamWConfig};
pub use attention::self_attention;
pub use clip::clip_grad_norm;
pub use combine::{add, cat_channels, mask};
pub use conv::{Conv2d, Conv2dConfig, conv2d};
pub use ema::Ema;
pub use group_norm::{Activation, GroupNorm, group_norm};
pub use linear::{Linear, linear};
pub use params::Params;
pub use resample::{avg_pool2x, upsample_nearest2x};
