//! Neural-network operators and layers with right gradients and fast CPU paths, on candle tensors.

pub mod conv;
pub mod group_norm;
pub mod memory;
pub mod path;
pub mod simd;

mod cpu;
mod storage;

pub use conv::{Conv2d, Conv2dConfig, conv2d};
pub use group_norm::{Activation, GroupNorm, group_norm};
