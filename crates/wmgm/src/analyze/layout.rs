//! The bands of a pyramid in a fixed order, and where each one's numbers lie.

use super::fourier::Fourier;
use crate::bands::Level;
use wavelet::Wavelet;

/// Names of a level's bands.
const ORIENTATIONS: [&str; 4] = ["LL", "LH", "HL", "HH"];

/// One band.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Band {
    /// `pixels`, or LL, LH, HL or HH with its level.
    pub name: String,
    /// 0 for the pixels, 1 for the finest.
    pub level: usize,
    /// Whether it is low, or holds details.
    pub low: bool,
    /// Its side.
    pub side: usize,
    /// The variance of its coefficients of white noise of variance 1: 1 for an orthonormal wavelet.
    pub gain: f64,
}

/// All bands of one size: the pixels, then LL, LH, HL and HH of level 1, of level 2 ...
pub(super) struct Layout {
    pub size: usize,
    pub levels: usize,
    pub bands: Vec<Band>,
    /// The Fourier transform of each band's planes.
    pub fourier: Vec<Fourier>,
}

impl Layout {
    pub(super) fn new(size: usize, levels: usize, wavelet: &Wavelet) -> Self {
        let pixels = Band {
            name: "pixels".into(),
            level: 0,
            low: true,
            side: size,
            gain: 1.0,
        };
        let level = |level: usize| {
            let [low, high] = gains(wavelet, level, size);
            let gains = [low * low, high * low, low * high, high * high];
            [0, 1, 2, 3].map(|k| Band {
                name: format!("{}{level}", ORIENTATIONS[k]),
                level,
                low: k == 0,
                side: size >> level,
                gain: gains[k],
            })
        };
        let bands: Vec<Band> = std::iter::once(pixels)
            .chain((1..=levels).flat_map(level))
            .collect();
        Self {
            size,
            levels,
            fourier: bands.iter().map(|b| Fourier::new(b.side)).collect(),
            bands,
        }
    }

    /// Bytes of the sums of one picture.
    pub(super) fn bytes(&self) -> usize {
        let values = self.bands.iter().map(|b| 6 * b.side * b.side);
        8 * values.sum::<usize>()
    }

    /// The planes (3, side, side) of every band.
    pub(super) fn planes<'a>(&self, pixels: &'a [f32], pyramid: &'a [Level]) -> Vec<&'a [f32]> {
        let level = |level: &'a Level| {
            let high = level.high.chunks_exact((level.high.len() / 3).max(1));
            std::iter::once(level.low.as_slice()).chain(high)
        };
        std::iter::once(pixels)
            .chain(pyramid.iter().flat_map(level))
            .collect()
    }
}

/// What one axis does to the variance of white noise: of the low and of the high coefficients at `level`, on a periodic
/// signal of length `size`. The filters of coarser levels are dilated by zeros and convolved.
fn gains(wavelet: &Wavelet, level: usize, size: usize) -> [f64; 2] {
    let convolved = |signal: &[f64], filter: &[f64], dilation: usize| {
        let mut out = vec![0.0; size];
        for (i, v) in signal.iter().enumerate() {
            for (k, h) in filter.iter().enumerate() {
                out[(i + k * dilation) % size] += v * h;
            }
        }
        out
    };
    let mut low = vec![0.0; size];
    low[0] = 1.0;
    for l in 1..level {
        low = convolved(&low, wavelet.dec_lo(), 1 << (l - 1));
    }
    [wavelet.dec_lo(), wavelet.dec_hi()].map(|filter| {
        let row = convolved(&low, filter, 1 << (level - 1));
        row.iter().map(|v| v * v).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthonormal_wavelets_keep_white_noise() {
        for name in ["haar", "db2", "sym4"] {
            let layout = Layout::new(32, 3, &Wavelet::new(name).unwrap());
            assert_eq!(layout.bands.len(), 13);
            for band in &layout.bands {
                assert!((band.gain - 1.0).abs() < 1e-6, "{name} {band:?}");
            }
        }
        let layout = Layout::new(32, 2, &Wavelet::new("bior2.2").unwrap());
        assert!(layout.bands.iter().any(|b| (b.gain - 1.0).abs() > 0.1));
    }
}
