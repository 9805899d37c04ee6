//! Discrete wavelet transforms on candle tensors: every PyWavelets family and boundary mode, with gradients.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use wavelet::{Dwt, Mode, Wavelet};
//!
//! // Two levels of a batch of pictures (N, C, H, W), and back.
//! let haar = Dwt::new(Wavelet::haar(), Mode::Periodization);
//! let x = Tensor::rand(-1f32, 1., (2, 3, 128, 128), &Device::Cpu)?;
//! let pyramid = haar.wavedec2(&x, Some(2))?;
//! assert_eq!(pyramid.low.dims(), [2, 3, 32, 32]);
//! assert_eq!(pyramid.high[0].dims(), [2, 3, 3, 64, 64]);
//! let back = haar.waverec2(&pyramid)?;
//! assert!((&x - back)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
//! # Ok::<(), wavelet::Error>(())
//! ```
//!
//! # Conventions
//! - Names, filters, signs and numbers are PyWavelets': `haar`, `db1`-`db38`, `sym2`-`sym20`, `coif1`-`coif17`, `bior*`,
//!   `rbio*`, `dmey`, and nine [`Mode`]s. The low band of an orthonormal wavelet grows by a factor of sqrt 2 per axis and
//!   level.
//! - Pictures are (.., C, H, W). Low bands are (.., C, h, w). High bands are stacked before the channels,
//!   (.., 3, C, h, w), in the order LH (horizontal edges: low along the rows, high along the columns), HL, HH:
//!   PyWavelets' (cH, cV, cD).
//! - Odd sizes come back as they were: [`Pyramid`] remembers them, [`Dwt::idwt2`] is told.
//! - A transform is linear, boundary included, and its gradient is its transpose. Both directions have gradients of any
//!   order.
//! - On the CPU the transforms are this crate's kernels (AVX-512, AVX2 or portable, chosen at run time). A picture's bands
//!   have the same bits in any batch and at any thread count, within one instruction set. On CUDA and Metal, and after
//!   [`Dwt::reference`], they are candle's own operators.
//!
//! Without tensors: [`haar`] works on slices, and [`Moments`] and [`LevelStats`] hold the statistics of bands. There are
//! no networks, files or random numbers here.

mod cpu;
mod dwt;
mod dwt2;
mod error;
mod functions;
pub mod haar;
mod matrix;
mod mode;
mod operator;
mod ops;
mod pyramid;
mod stats;
mod wavelet;

pub use dwt::Dwt;
pub use error::{Error, Result};
pub use functions::{dwt, dwt2, idwt, idwt2, wavedec2, waverec2};
pub use mode::Mode;
pub use pyramid::{Pyramid, dwt_max_level};
pub use stats::{BandStats, LevelMoments, LevelStats, Moments};
pub use wavelet::Wavelet;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
