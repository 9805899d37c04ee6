//! The two-dimensional transform of a tensor's last two axes.

use crate::Dwt;
use crate::cpu::Frame;
use crate::dwt::{check_alike, mismatch, widened};
use crate::error::{Error, Result};
use crate::ops::{self, Map, Shapes};
use candle_core::Tensor;

impl Dwt {
    /// One level of the last two axes: the low band (.., c, h, w) and the high bands (.., 3, c, h, w), in the order LH,
    /// HL, HH, which is PyWavelets' (cH, cV, cD).
    ///
    /// Pictures are (.., c, H, W), or (H, W) without channels, whose high bands are (3, h, w).
    ///
    /// # Errors
    /// [`Error::Rank`] below two dimensions, [`Error::TooShort`], [`Error::DType`].
    pub fn dwt2(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        const OP: &str = "dwt2";
        let (lead, size) = last_two(OP, "the picture", x, "(.., channels, height, width)")?;
        size.iter().try_for_each(|&n| self.check_len(OP, x, n))?;
        let filter = self.wavelet().filter_len();
        let band = size.map(|n| self.mode().band_len(n, filter));
        let frame = frame(lead, size, band);
        let map = match self.is_haar(size) {
            true => Map::Haar(frame),
            false => Map::Two {
                h: self.analysis(size[0]),
                w: self.analysis(size[1]),
                frame,
            },
        };
        let (wide, dtype) = widened(OP, x)?;
        let shapes = shapes(lead, &frame);
        let (low, high) = ops::split(&wide, &map, &shapes, !self.is_reference())?;
        Ok((low.to_dtype(dtype)?, high.to_dtype(dtype)?))
    }

    /// Undoes [`Dwt::dwt2`]: low (.., c, h, w) and high (.., 3, c, h, w) to (.., c, H, W).
    ///
    /// `size` is the true [height, width]; None gives PyWavelets' answer, which is one too long along an axis that was
    /// odd.
    ///
    /// # Errors
    /// [`Error::Rank`] below two dimensions, [`Error::Mismatch`] if the bands do not belong together, [`Error::Size`]
    /// if no picture of that size has such bands, [`Error::DType`].
    pub fn idwt2(&self, low: &Tensor, high: &Tensor, size: Option<[usize; 2]>) -> Result<Tensor> {
        const OP: &str = "idwt2";
        let (lead, band) = last_two(OP, "the low band", low, "(.., channels, height, width)")?;
        let expected = high_dims(lead, band);
        if high.dims() != expected {
            let expected = format!("the high bands LH, HL, HH must be {expected:?}");
            return Err(mismatch(OP, low, high, expected));
        }
        check_alike(OP, low, high)?;
        let length = |axis: usize| self.signal_len(OP, band[axis], size.map(|s| s[axis]));
        let size = [length(0)?, length(1)?];
        let frame = frame(lead, size, band);
        let map = match self.is_haar(size) {
            true => Map::Haar(frame),
            false => Map::Two {
                h: self.synthesis(band[0], size[0]),
                w: self.synthesis(band[1], size[1]),
                frame,
            },
        };
        let ((low, dtype), (high, _)) = (widened(OP, low)?, widened(OP, high)?);
        let shapes = shapes(lead, &frame);
        Ok(ops::join(&low, &high, &map, &shapes, !self.is_reference())?.to_dtype(dtype)?)
    }
}

/// The leading dimensions and the last two.
fn last_two<'a>(
    op: &'static str,
    what: &'static str,
    x: &'a Tensor,
    expected: &'static str,
) -> Result<(&'a [usize], [usize; 2])> {
    match x.dims() {
        [lead @ .., h, w] => Ok((lead, [*h, *w])),
        dims => Err(Error::Rank {
            op,
            what,
            shape: dims.to_vec(),
            expected,
        }),
    }
}

fn frame(lead: &[usize], size: [usize; 2], band: [usize; 2]) -> Frame {
    let (outer, channels) = match lead {
        [outer @ .., channels] => (outer.iter().product(), *channels),
        [] => (1, 1),
    };
    Frame {
        outer,
        channels,
        size,
        band,
    }
}

fn shapes(lead: &[usize], frame: &Frame) -> Shapes {
    Shapes {
        low: [lead, &frame.band].concat(),
        high: high_dims(lead, frame.band),
        picture: [lead, &frame.size].concat(),
    }
}

/// The three high bands stacked before the channels.
fn high_dims(lead: &[usize], band: [usize; 2]) -> Vec<usize> {
    let at = lead.len().saturating_sub(1);
    [&lead[..at], &[3], &lead[at..], &band].concat()
}
