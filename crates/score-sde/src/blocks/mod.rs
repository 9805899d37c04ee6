//! What every network of this crate is assembled from. A family of networks is a file that knows the order of its blocks
//! and the names of its tensors, and passes both in; the arithmetic is here, once.

mod attention;
mod body;
mod embedding;
mod layers;
mod nonlinearity;
mod resample;
mod residual;
mod shapes;

pub(crate) use attention::{AttentionBlock, AttentionNames, AttentionSpec, Qkv};
pub(crate) use body::{Body, DownLevel, Head, InputPath, OutputPath, Stage, UpLevel};
pub(crate) use embedding::{Mlp, fourier, host_values, sinusoids};
pub(crate) use layers::{Layout, Pointwise, Start, conv};
pub use nonlinearity::Nonlinearity;
pub(crate) use resample::{Downsample, Filter, Resampler, Upsample};
pub use residual::DropMask;
pub(crate) use residual::{ResBlock, ResNames, ResSpec, Resample, Skip};
pub(crate) use shapes::{MAX_WIDTH, check_count, shapes_of, within};
