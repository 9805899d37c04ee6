//! The wavelet transform between pictures and bands, by any wavelet, one picture at a time.

use crate::bands::{Level, LevelMoments, LevelStats, failed};
use crate::data::PictureSet;
use crate::error::Result;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use wavelet::{Dwt, Mode, Wavelet, haar};

/// A wavelet in periodization: the sides of bands halve exactly, and an orthonormal wavelet keeps white noise white.
///
/// Pictures are square planes (C, side, side) with a side that divides by 2^levels. A picture goes through alone, so its
/// bands cannot depend on others.
#[derive(Debug, Clone)]
pub struct Transform {
    /// None is Haar, which needs no filters.
    dwt: Option<Dwt>,
}

impl Transform {
    /// The transform of a wavelet by its PyWavelets name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn new(name: &str) -> Result<Self> {
        let wavelet = Wavelet::new(name).map_err(failed)?;
        let haar = wavelet.dec_lo() == Wavelet::haar().dec_lo();
        Ok(Self {
            dwt: (!haar).then(|| Dwt::new(wavelet, Mode::Periodization)),
        })
    }

    /// The same transform as an operator on tensors, which gradients pass through.
    pub(crate) fn filters(&self) -> Dwt {
        let haar = || Dwt::new(Wavelet::haar(), Mode::Periodization);
        self.dwt.clone().unwrap_or_else(haar)
    }

    /// The bands of every level of planes `x`, the finest level first.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn pyramid(
        &self,
        x: &[f32],
        channels: usize,
        side: usize,
        levels: usize,
    ) -> Result<Vec<Level>> {
        let Some(dwt) = &self.dwt else {
            return haar_pyramid(x, channels, side, levels);
        };
        let mut low = Tensor::from_slice(x, (channels, side, side), &Device::Cpu)?;
        let mut out = Vec::with_capacity(levels);
        for _ in 0..levels {
            let (next, high) = dwt.dwt2(&low).map_err(failed)?;
            out.push(Level {
                low: next.flatten_all()?.to_vec1()?,
                high: high.flatten_all()?.to_vec1()?,
            });
            low = next;
        }
        Ok(out)
    }

    /// Mean, deviation and kurtosis of every band over a set of pictures, the finest level first.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn statistics(&self, set: &PictureSet, levels: usize) -> Result<Vec<LevelStats>> {
        let side = set.size() as usize;
        // Fixed chunks merged in order: the same numbers for any thread count.
        let chunk = 64;
        let parts = (0..set.len().div_ceil(chunk))
            .into_par_iter()
            .map(|part| {
                let mut moments = vec![LevelMoments::default(); levels];
                let mut x = vec![0f32; 3 * side * side];
                for i in part * chunk..((part + 1) * chunk).min(set.len()) {
                    set.fill_f32(i, false, &mut x)?;
                    let pyramid = self.pyramid(&x, 3, side, levels)?;
                    for (m, level) in moments.iter_mut().zip(&pyramid) {
                        m.add(&level.low, &level.high);
                    }
                }
                Ok(moments)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut total = vec![LevelMoments::default(); levels];
        for part in &parts {
            for (t, p) in total.iter_mut().zip(part) {
                t.merge(p);
            }
        }
        Ok(total.iter().map(LevelMoments::stats).collect())
    }

    /// Undoes one level: low (C, s, s) and high (3, C, s, s) to (C, 2 s, 2 s).
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn merge(&self, low: &[f32], high: &[f32], channels: usize, s: usize) -> Result<Vec<f32>> {
        self.merge_planes(low, high, channels, [s, s])
    }

    /// The same of planes that need not be square: low (C, h, w) and high (3, C, h, w) to (C, 2 h, 2 w).
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn merge_planes(
        &self,
        low: &[f32],
        high: &[f32],
        channels: usize,
        [h, w]: [usize; 2],
    ) -> Result<Vec<f32>> {
        let Some(dwt) = &self.dwt else {
            let mut out = vec![0.0; 4 * low.len()];
            let dims = [1, channels, 2 * h, 2 * w];
            haar::synthesize_into(low, high, dims, &mut out).map_err(failed)?;
            return Ok(out);
        };
        let low = Tensor::from_slice(low, (channels, h, w), &Device::Cpu)?;
        let high = Tensor::from_slice(high, (3, channels, h, w), &Device::Cpu)?;
        let picture = dwt.idwt2(&low, &high, None).map_err(failed)?;
        Ok(picture.flatten_all()?.to_vec1()?)
    }
}

/// [`Transform::pyramid`] by slices.
fn haar_pyramid(x: &[f32], channels: usize, side: usize, levels: usize) -> Result<Vec<Level>> {
    let mut out: Vec<Level> = Vec::with_capacity(levels);
    for l in 0..levels {
        let from = out.last().map_or(x, |level| &level.low);
        let n = from.len() / 4;
        let (mut low, mut high) = (vec![0.0; n], vec![0.0; 3 * n]);
        let dims = [1, channels, side >> l, side >> l];
        haar::analyze_into(from, dims, &mut low, &mut high).map_err(failed)?;
        out.push(Level { low, high });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(n: usize) -> Vec<f32> {
        let mut x = vec![0f32; n];
        nn_ops::noise::fill_normal(1, 2, 3, 4, &mut x);
        x
    }

    #[test]
    fn every_wavelet_comes_back() {
        let x = planes(3 * 32 * 32);
        for name in [
            "haar", "db2", "db8", "sym4", "coif3", "bior4.4", "rbio2.2", "dmey",
        ] {
            let transform = Transform::new(name).unwrap();
            let levels = transform.pyramid(&x, 3, 32, 3).unwrap();
            assert_eq!(levels.len(), 3);
            let mut low = levels[2].low.clone();
            for (level, bands) in levels.iter().enumerate().rev() {
                low = transform
                    .merge(&low, &bands.high, 3, 32 >> (level + 1))
                    .unwrap();
            }
            let worst = x
                .iter()
                .zip(&low)
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            // dmey's filters are cut off: PyWavelets itself comes back to 0.018 to 0.024 of such noise.
            let bound = if name == "dmey" { 0.04 } else { 2e-5 };
            assert!(low.len() == x.len() && worst < bound, "{name}: {worst}");
        }
        assert!(
            Transform::new("cats")
                .unwrap_err()
                .to_string()
                .contains("cats")
        );
    }

    /// Both ways to Haar, by slices and by filters, and the order and sign of its bands.
    #[test]
    fn haar_by_slices_is_haar_by_filters() {
        let x = planes(2 * 16 * 16);
        let slices = Transform::new("haar").unwrap();
        assert!(slices.dwt.is_none() && Transform::new("db1").unwrap().dwt.is_none());
        let filters = Transform {
            dwt: Some(Dwt::new(Wavelet::haar(), Mode::Periodization).reference()),
        };
        let (a, b) = (
            slices.pyramid(&x, 2, 16, 2).unwrap(),
            filters.pyramid(&x, 2, 16, 2).unwrap(),
        );
        for (a, b) in a.iter().zip(&b) {
            let pairs = a.low.iter().zip(&b.low).chain(a.high.iter().zip(&b.high));
            let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(a.high.len() == b.high.len() && worst < 1e-5, "{worst}");
        }
    }
}
