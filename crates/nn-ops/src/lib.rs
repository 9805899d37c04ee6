//! Neural-network operators and layers with right gradients and fast CPU paths, on candle tensors.
#![doc = include_str!("../README.md")]

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod bilinear;
pub mod clip;
pub mod combine;
pub mod conv;
pub mod count;
pub mod device;
pub mod dropout;
pub mod ema;
pub mod fir;
pub mod group_norm;
pub mod linear;
pub mod max_pool;
pub mod memory;
pub mod noise;
pub mod params;
pub mod path;
pub mod plan;
pub mod precision;
pub mod resample;
pub mod scale;
pub mod simd;
pub mod softmax;

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod kept;
mod storage;

pub use activation::{leaky_relu, sigmoid, silu, tanh};
pub use adamw::{AdamW, AdamWConfig};
pub use attention::{pixel_attention, self_attention};
pub use batch_norm::{BatchNorm, BatchNormConfig, batch_norm_eval, batch_norm_train};
pub use bilinear::upsample_bilinear2x;
pub use clip::clip_grad_norm;
pub use combine::{add, add_channels, add_scaled, cat_channels, gate, mask};
pub use conv::{Conv2d, Conv2dConfig, conv2d};
pub use count::{conv2d_multiply_adds, self_attention_multiply_adds};
pub use dropout::{Dropout, dropout};
pub use ema::{Ema, EmaDecay};
pub use fir::{downsample_fir2x, upfirdn2d, upsample_fir2x, with_sum};
pub use group_norm::{Activation, GroupNorm, group_norm};
pub use linear::{Linear, linear};
pub use max_pool::max_pool2x;
pub use params::Params;
pub use precision::Precision;
pub use resample::{avg_pool2x, upsample_nearest2x};
pub use scale::{Pool2x, Upsample2x};
pub use softmax::softmax;
