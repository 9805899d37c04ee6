//! One level of the orthonormal Haar transform in the official program's layout, on any device, with gradients.
//!
//! The official networks know this wavelet alone. Details are (N, 3 C, H, W): LH, HL, HH of C channels each, PyWavelets'
//! cH, cV, cD (`db1`, `periodization`).

use crate::error::{Result, dims4};
use candle_core::Tensor;

/// Pictures (N, C, 2 H, 2 W) to low band (N, C, H, W) and details (N, 3 C, H, W).
///
/// # Errors
/// A rank other than 4 or an odd size.
pub fn forward(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let even = |_: usize, _: usize, h: usize, w: usize| h % 2 == 0 && w % 2 == 0;
    let (n, c, h, w) = dims4(
        "haar",
        "x",
        x,
        || "(N, C, H, W) with H and W even".into(),
        even,
    )?;
    let grid = x.reshape(&[n, c, h / 2, 2, w / 2, 2][..])?;
    // The pixel of every 2 x 2 block at (row, column).
    let at = |row, column| {
        grid.narrow(3, row, 1)?
            .narrow(5, column, 1)?
            .reshape((n, c, h / 2, w / 2))
    };
    let (a, b, c, d) = (at(0, 0)?, at(0, 1)?, at(1, 0)?, at(1, 1)?);
    let (top, bottom) = ((&a + &b)?, (&c + &d)?);
    let (left, right) = ((a - b)?, (c - d)?);
    let high = [
        ((&top - &bottom)? * 0.5)?,
        ((&left + &right)? * 0.5)?,
        ((left - right)? * 0.5)?,
    ];
    Ok((((top + bottom)? * 0.5)?, Tensor::cat(&high, 1)?))
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
    let band = |i| high.narrow(1, i * c, c);
    let (lh, hl, hh) = (band(0)?, band(1)?, band(2)?);
    let (top, bottom) = ((low + &lh)?, (low - &lh)?);
    let (left, right) = ((&hl + &hh)?, (&hl - &hh)?);
    // (N, C, H, W, 2): the two pixels of a row of every block.
    let row = |sum: &Tensor, difference: &Tensor| {
        Tensor::stack(&[(sum + difference)?, (sum - difference)?], 4)?.reshape((n, c, h, 2 * w))
    };
    let rows = [row(&top, &left)?, row(&bottom, &right)?];
    Ok((Tensor::stack(&rows, 3)?.reshape((n, c, 2 * h, 2 * w))? * 0.5)?)
}
