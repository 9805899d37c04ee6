//! Structural similarity (Wang et al. 2004, IEEE Trans. Image Processing 13), with gradients.

use crate::error::{Error, Result, dims4};
use candle_core::{D, Tensor};

/// Width of the Gaussian window in pixels and its standard deviation.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// (0.01 L)^2 and (0.03 L)^2 for values of range L = 1.
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;

/// Mean structural similarity of pictures (N, C, H, W) with values in [0, 1]: a scalar, 1 where they are equal.
///
/// As in the paper a Gaussian window of 11 x 11, sigma 1.5, the constants 0.01 and 0.03; as in the `pytorch_ssim` of the
/// official code the pictures are continued by zeros beyond their edges, every pixel counts, and channels are averaged.
///
/// # Errors
/// Shapes that differ or a rank other than 4.
pub fn ssim(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(ssim_per_picture(a, b)?.mean_all()?)
}

/// [`ssim`] of each pair of pictures: (N).
///
/// # Errors
/// As [`ssim`].
pub fn ssim_per_picture(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = dims4(
        "ssim",
        "a",
        a,
        || "(N, C, H, W)".into(),
        |_, c, h, w| c * h * w > 0,
    )?;
    if a.dims() != b.dims() {
        return Err(Error::Shape {
            op: "ssim",
            name: "b",
            got: b.dims().to_vec(),
            expected: format!("{:?}", a.dims()),
        });
    }
    // Five windowed means at once: (5 N C, H, W).
    let five =
        Tensor::cat(&[a, b, &a.sqr()?, &b.sqr()?, &(a * b)?], 0)?.reshape((5 * n * c, h, w))?;
    let means = blur(&five)?.reshape((5, n, c * h * w))?;
    let part = |i| means.get(i);
    let (mu_a, mu_b) = (part(0)?, part(1)?);
    let (aa, bb, ab) = (mu_a.sqr()?, mu_b.sqr()?, (&mu_a * &mu_b)?);
    let (var_a, var_b, cov) = ((part(2)? - &aa)?, (part(3)? - &bb)?, (part(4)? - &ab)?);
    let above = (ab.affine(2.0, C1)? * cov.affine(2.0, C2)?)?;
    let below = ((aa + bb)?.affine(1.0, C1)? * (var_a + var_b)?.affine(1.0, C2)?)?;
    Ok((above / below)?.mean(D::Minus1)?)
}

/// Gaussian means of planes (B, H, W). The window is separable and zeros lie outside, so each axis is a product with a
/// banded matrix.
fn blur(x: &Tensor) -> Result<Tensor> {
    let (b, h, w) = x.dims3()?;
    let band = |len| {
        Ok::<_, Error>(Tensor::from_vec(band(len), (len, len), x.device())?.to_dtype(x.dtype())?)
    };
    let rows = x
        .reshape((b * h, w))?
        .matmul(&band(w)?)?
        .reshape((b, h, w))?;
    let columns = rows
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b * w, h))?
        .matmul(&band(h)?)?;
    Ok(columns.reshape((b, w, h))?.transpose(1, 2)?.contiguous()?)
}

/// The symmetric matrix (len, len) of the window's weights.
fn band(len: usize) -> Vec<f64> {
    let weight = |d: usize| (-((d * d) as f64) / (2.0 * SIGMA * SIGMA)).exp();
    let half = WINDOW / 2;
    let total: f64 = weight(0) + 2.0 * (1..=half).map(weight).sum::<f64>();
    let entry = |i: usize| {
        let d = (i / len).abs_diff(i % len);
        if d > half { 0.0 } else { weight(d) / total }
    };
    (0..len * len).map(entry).collect()
}
