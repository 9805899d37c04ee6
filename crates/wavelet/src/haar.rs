//! The orthonormal 2-D Haar transform of f32 planes in the caller's buffers: no tensors, no allocation of results.
//!
//! For data loaders and other code that holds plain slices. Same numbers, order of bands and speed as
//! [`Dwt::dwt2`](crate::Dwt::dwt2) with the wavelet `haar`; on even sizes every boundary mode is the same.

use crate::cpu::{Frame, haar};
use crate::error::{Error, Result};

/// Takes pictures of `[n, c, h, w]` apart, h and w even: `low` receives LL (n, c, h/2, w/2), `high` receives LH, HL, HH
/// (n, 3, c, h/2, w/2).
///
/// With p q above r t the four samples of a cell: LL = (p + q + r + t) / 2, LH = (p + q - r - t) / 2,
/// HL = (p - q + r - t) / 2, HH = (p - q - r + t) / 2.
///
/// ```
/// let x = [1.0, 3.0, 5.0, 7.0];
/// let (mut low, mut high) = ([0.0], [0.0; 3]);
/// wavelet::haar::analyze_into(&x, [1, 1, 2, 2], &mut low, &mut high)?;
/// assert_eq!((low, high), ([8.0], [-4.0, -2.0, 0.0]));
/// # Ok::<(), wavelet::Error>(())
/// ```
///
/// # Errors
/// [`Error::Odd`] if h or w is odd, [`Error::Buffer`] if a slice has another length than the sizes say.
pub fn analyze_into(x: &[f32], dims: [usize; 4], low: &mut [f32], high: &mut [f32]) -> Result<()> {
    let frame = frame("haar::analyze_into", dims, x.len(), low.len(), high.len())?;
    haar::forward(x, low, high, &frame);
    Ok(())
}

/// Undoes [`analyze_into`]: `low` (n, c, h/2, w/2) and `high` (n, 3, c, h/2, w/2) to pictures of `dims` = `[n, c, h, w]`.
///
/// # Errors
/// As [`analyze_into`].
pub fn synthesize_into(low: &[f32], high: &[f32], dims: [usize; 4], out: &mut [f32]) -> Result<()> {
    let frame = frame(
        "haar::synthesize_into",
        dims,
        out.len(),
        low.len(),
        high.len(),
    )?;
    haar::inverse(low, high, out, &frame);
    Ok(())
}

/// Checks the sizes.
fn frame(
    op: &'static str,
    dims: [usize; 4],
    picture: usize,
    low: usize,
    high: usize,
) -> Result<Frame> {
    let [outer, channels, h, w] = dims;
    if h % 2 == 1 || w % 2 == 1 {
        return Err(Error::Odd { op, h, w });
    }
    let px = dims.iter().product::<usize>();
    for (what, len, expected) in [
        ("pictures", picture, px),
        ("low", low, px / 4),
        ("high", high, px / 4 * 3),
    ] {
        if len != expected {
            return Err(Error::Buffer {
                op,
                what,
                len,
                expected,
                dims,
            });
        }
    }
    Ok(Frame {
        outer,
        channels,
        size: [h, w],
        band: [h / 2, w / 2],
    })
}
