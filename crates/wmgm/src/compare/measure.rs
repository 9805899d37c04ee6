//! How far pictures are from those of a reference.

use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::picture::{self, RgbImage};
use crate::transform::Transform;
use rayon::prelude::*;

/// Distances to a reference, of what one look at the pictures tells; lower is better.
pub trait Measure: Sync {
    /// What its numbers are called, and what they are distances of: a name is never that of another metric.
    fn names(&self) -> Vec<String>;

    /// What its numbers depend on beside the pictures and the reference: numbers of two identities cannot be compared.
    fn identity(&self) -> String;

    /// The numbers for some pictures, one for each name.
    ///
    /// # Errors
    /// Pictures that cannot be compared.
    fn distances(&self, pictures: &[RgbImage]) -> Result<Vec<f64>>;
}

/// The most pictures of a set that stand for it, evenly spread over it.
const REFERENCE: usize = 1024;
/// The values of a band that stand for its distribution.
const QUANTILES: usize = 512;

/// The distance of the values of wavelet bands, which needs no network: for every band of a Haar pyramid, the 2-Wasserstein
/// distance of its values (all positions, channels and pictures together) to those of the reference, in standard deviations
/// of the reference's band; the mean over bands.
///
/// It sees contrast, sharpness and outliers of every scale and orientation, not whether a picture shows anything.
#[derive(Debug, Clone)]
pub struct BandDistance {
    size: usize,
    levels: usize,
    transform: Transform,
    /// Quantiles and deviation of each band.
    reference: Vec<(Vec<f64>, f64)>,
}

impl BandDistance {
    /// The distance to the pictures of a set; of a large one, to every k-th so that at most 1024 stand for it.
    ///
    /// # Errors
    /// Pictures without any detail.
    pub fn new(set: &PictureSet) -> Result<Self> {
        let size = set.size() as usize;
        // Down to low bands of 8 pixels or the odd.
        let levels = (0..).take_while(|l| (size >> l).is_multiple_of(2) && size >> l > 8);
        let mut measure = Self {
            size,
            levels: levels.count(),
            transform: Transform::new("haar")?,
            reference: Vec::new(),
        };
        let side = size * size;
        let step = set.len().div_ceil(REFERENCE).max(1);
        let picks: Vec<usize> = (0..set.len()).step_by(step).collect();
        let pictures = picks.into_par_iter().map(|i| {
            let mut x = vec![0f32; 3 * side];
            set.fill_f32(i, false, &mut x)?;
            Ok(x)
        });
        for values in measure.bands(&pictures.collect::<Result<Vec<_>>>()?)? {
            let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
            let squares = values.iter().map(|v| (f64::from(*v) - mean).powi(2));
            let std = (squares.sum::<f64>() / values.len() as f64).sqrt();
            if std < 1e-9 {
                return Err(Error::Argument(
                    "the reference pictures have a band without any detail".into(),
                ));
            }
            measure.reference.push((quantiles(&values), std));
        }
        Ok(measure)
    }

    /// The sorted values of every band of pictures (3, size, size).
    fn bands(&self, pictures: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let pyramids = (pictures.par_iter())
            .map(|x| self.transform.pyramid(x, 3, self.size, self.levels))
            .collect::<Result<Vec<_>>>()?;
        let mut bands = Vec::new();
        for level in 0..self.levels {
            for band in 0..3 {
                let values = pyramids.iter().flat_map(|p| {
                    let high = &p[level].high;
                    high[band * high.len() / 3..(band + 1) * high.len() / 3].iter()
                });
                bands.push(values.copied().collect::<Vec<f32>>());
            }
        }
        match self.levels {
            0 => bands.push(pictures.concat()),
            n => bands.push(
                pyramids
                    .iter()
                    .flat_map(|p| p[n - 1].low.iter().copied())
                    .collect(),
            ),
        }
        bands
            .par_iter_mut()
            .for_each(|b| b.par_sort_unstable_by(f32::total_cmp));
        Ok(bands)
    }
}

/// Of sorted values, at the middles of equal parts.
fn quantiles(sorted: &[f32]) -> Vec<f64> {
    let at = |i: usize| ((2 * i + 1) * sorted.len() / (2 * QUANTILES)).min(sorted.len() - 1);
    (0..QUANTILES).map(|i| f64::from(sorted[at(i)])).collect()
}

impl Measure for BandDistance {
    fn names(&self) -> Vec<String> {
        vec!["band distance".into()]
    }

    fn identity(&self) -> String {
        format!(
            "{} Haar levels, {QUANTILES} quantiles, {REFERENCE} pictures",
            self.levels
        )
    }

    fn distances(&self, pictures: &[RgbImage]) -> Result<Vec<f64>> {
        let side = self.size as u32;
        if pictures.is_empty() || pictures.iter().any(|p| p.dimensions() != (side, side)) {
            return Err(Error::Argument(format!(
                "band distance: one or more pictures of {side} x {side} are needed"
            )));
        }
        let values: Vec<Vec<f32>> = pictures.par_iter().map(picture::to_values).collect();
        let bands = self.bands(&values)?;
        let one = |(values, (reference, std)): (&Vec<f32>, &(Vec<f64>, f64))| {
            let pairs = quantiles(values);
            let squares = pairs.iter().zip(reference).map(|(a, b)| (a - b).powi(2));
            (squares.sum::<f64>() / QUANTILES as f64).sqrt() / std
        };
        let distances: Vec<f64> = bands.iter().zip(&self.reference).map(one).collect();
        Ok(vec![distances.iter().sum::<f64>() / distances.len() as f64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, count: usize, contrast: f32) -> Vec<RgbImage> {
        let picture = |i: usize| {
            let mut values = vec![0f32; 3 * 16 * 16];
            nn_ops::noise::fill_normal(seed, i as u64, 0, 0, &mut values);
            let byte = |v: &f32| (128.0 + contrast * v).clamp(0.0, 255.0) as u8;
            RgbImage::from_raw(16, 16, values.iter().map(byte).collect()).unwrap()
        };
        (0..count).map(picture).collect()
    }

    #[test]
    fn equal_is_near_and_half_the_contrast_is_half_a_deviation() {
        let named = noise(1, 60, 30.0).into_iter().enumerate();
        let named = named.map(|(i, p)| (format!("{i}.png").into(), p));
        let set = PictureSet::from_pictures(16, named).unwrap();
        let measure = BandDistance::new(&set).unwrap();
        let distance = |pictures: &[RgbImage]| measure.distances(pictures).map(|d| d[0]);
        assert_eq!(distance(&noise(1, 60, 30.0)).unwrap(), 0.0);
        let other = distance(&noise(2, 60, 30.0)).unwrap();
        assert!(other < 0.05, "{other}");
        // W2 of N(0, s^2) and N(0, s^2 / 4) is s / 2.
        let flat = distance(&noise(3, 60, 15.0)).unwrap();
        assert!((flat - 0.5).abs() < 0.05, "{flat}");
        assert!(distance(&[]).is_err());
        assert!(distance(&[RgbImage::new(8, 8)]).is_err());
    }
}
