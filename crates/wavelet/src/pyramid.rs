//! Transforms of several levels.

use crate::Dwt;
use crate::error::{Error, Result};
use candle_core::Tensor;

/// A picture in bands of several scales.
#[derive(Debug, Clone)]
pub struct Pyramid {
    /// The coarsest low band, (.., c, h, w).
    pub low: Tensor,
    /// The high bands (.., 3, c, h, w) of each level, level 1, the finest, first. (PyWavelets' list is coarsest first.)
    pub high: Vec<Tensor>,
    /// [height, width] of what each level was made from, the picture's first; so odd sizes come back.
    pub sizes: Vec<[usize; 2]>,
}

impl Pyramid {
    /// The number of levels.
    pub fn levels(&self) -> usize {
        self.high.len()
    }
}

impl Dwt {
    /// Takes a picture apart into `levels` levels, by default as many as [`dwt_max_level`] says for its shorter side
    /// (PyWavelets' `wavedec2`). More are allowed, and are made of boundary effects.
    ///
    /// # Errors
    /// As [`Dwt::dwt2`].
    pub fn wavedec2(&self, x: &Tensor, levels: Option<usize>) -> Result<Pyramid> {
        let [.., h, w] = x.dims() else {
            return Err(Error::Rank {
                op: "wavedec2",
                what: "the picture",
                shape: x.dims().to_vec(),
                expected: "(.., channels, height, width)",
            });
        };
        let filter = self.wavelet().filter_len();
        let levels = levels.unwrap_or_else(|| dwt_max_level(*h.min(w), filter));
        let mut out = Pyramid {
            low: x.clone(),
            high: Vec::new(),
            sizes: Vec::new(),
        };
        for _ in 0..levels {
            let (low, high) = self.dwt2(&out.low)?;
            let last = |axis: usize| out.low.dims()[out.low.rank() - 2 + axis];
            out.sizes.push([last(0), last(1)]);
            out.high.push(high);
            out.low = low;
        }
        Ok(out)
    }

    /// Undoes [`Dwt::wavedec2`], in the true size.
    ///
    /// # Errors
    /// As [`Dwt::idwt2`], and [`Error::Levels`] if the pyramid has not one size per level.
    pub fn waverec2(&self, pyramid: &Pyramid) -> Result<Tensor> {
        if pyramid.high.len() != pyramid.sizes.len() {
            let (high, sizes) = (pyramid.high.len(), pyramid.sizes.len());
            return Err(Error::Levels {
                op: "waverec2",
                reason: format!("the pyramid has high bands of {high} levels and sizes of {sizes}"),
            });
        }
        let mut levels = pyramid.high.iter().zip(&pyramid.sizes).rev();
        levels.try_fold(pyramid.low.clone(), |low, (high, size)| {
            self.idwt2(&low, high, Some(*size))
        })
    }
}

/// The number of levels after which a signal of length `n` is shorter than a filter of length `filter`:
/// floor(log2(n / (filter - 1))), and 0 if that is less (PyWavelets' `dwt_max_level`).
pub fn dwt_max_level(n: usize, filter: usize) -> usize {
    let ratio = n.checked_div(filter.saturating_sub(1)).unwrap_or(0);
    ratio.checked_ilog2().unwrap_or(0) as usize
}
