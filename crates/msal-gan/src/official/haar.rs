//! One level of the orthonormal Haar transform in the official program's layout, on any device, with gradients.
//!
//! The official networks know this wavelet alone. Details are (N, 3 C, H, W): LH, HL, HH of C channels each, PyWavelets'
//! cH, cV, cD (`db1`, `periodization`).

use crate::error::{Result, dims4};
use candle_core::Tensor;
use wavelet::{Dwt, Mode, Wavelet};

fn haar() -> Dwt {
    Dwt::new(Wavelet::haar(), Mode::Periodization)
}

/// Pictures (N, C, 2 H, 2 W) to low band (N, C, H, W) and details (N, 3 C, H, W).
///
/// # Errors
/// A rank other than 4 or an odd size.
pub fn forward(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, c, h, w) = dims4(
        "haar",
        "x",
        x,
        || "(N, C, H, W) with H and W even".into(),
        |_, _, h, w| h.is_multiple_of(2) && w.is_multiple_of(2),
    )?;
    let (low, high) = haar().dwt2(x)?;
    Ok((low, high.reshape((n, 3 * c, h / 2, w / 2))?))
}

/// The inverse of [`forward`]: low band (N, C, H, W) and details (N, 3 C, H, W) to pictures (N, C, 2 H, 2 W).
///
/// # Errors
/// Shapes that do not fit each other.
pub fn inverse(low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = dims4(
        "haar",
        "low",
        low,
        || "(N, C, H, W)".into(),
        |_, _, _, _| true,
    )?;
    let fits = |hn: usize, hc: usize, hh: usize, hw: usize| (hn, hc, hh, hw) == (n, 3 * c, h, w);
    dims4(
        "haar",
        "high",
        high,
        || format!("({n}, {}, {h}, {w})", 3 * c),
        fits,
    )?;
    Ok(haar().idwt2(low, &high.reshape((n, 3, c, h, w))?, None)?)
}
