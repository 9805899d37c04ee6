//! The transforms as functions, with PyWavelets' names: for single calls.

use crate::error::Result;
use crate::{Dwt, Mode, Pyramid, Wavelet};
use candle_core::Tensor;
use candle_core::shape::Dim;

/// [`Dwt::dwt`] for one call; a [`Dwt`] keeps its operators between calls.
///
/// # Errors
/// As there.
pub fn dwt(x: &Tensor, wavelet: &Wavelet, mode: Mode, axis: impl Dim) -> Result<(Tensor, Tensor)> {
    Dwt::new(wavelet.clone(), mode).dwt(x, axis)
}

/// [`Dwt::idwt`] for one call.
///
/// # Errors
/// As there.
pub fn idwt(
    low: &Tensor,
    high: &Tensor,
    wavelet: &Wavelet,
    mode: Mode,
    axis: impl Dim,
    len: Option<usize>,
) -> Result<Tensor> {
    Dwt::new(wavelet.clone(), mode).idwt(low, high, axis, len)
}

/// [`Dwt::dwt2`] for one call.
///
/// # Errors
/// As there.
pub fn dwt2(x: &Tensor, wavelet: &Wavelet, mode: Mode) -> Result<(Tensor, Tensor)> {
    Dwt::new(wavelet.clone(), mode).dwt2(x)
}

/// [`Dwt::idwt2`] for one call.
///
/// # Errors
/// As there.
pub fn idwt2(
    low: &Tensor,
    high: &Tensor,
    wavelet: &Wavelet,
    mode: Mode,
    size: Option<[usize; 2]>,
) -> Result<Tensor> {
    Dwt::new(wavelet.clone(), mode).idwt2(low, high, size)
}

/// [`Dwt::wavedec2`] for one call.
///
/// # Errors
/// As there.
pub fn wavedec2(
    x: &Tensor,
    wavelet: &Wavelet,
    mode: Mode,
    levels: Option<usize>,
) -> Result<Pyramid> {
    Dwt::new(wavelet.clone(), mode).wavedec2(x, levels)
}

/// [`Dwt::waverec2`] for one call.
///
/// # Errors
/// As there.
pub fn waverec2(pyramid: &Pyramid, wavelet: &Wavelet, mode: Mode) -> Result<Tensor> {
    Dwt::new(wavelet.clone(), mode).waverec2(pyramid)
}
