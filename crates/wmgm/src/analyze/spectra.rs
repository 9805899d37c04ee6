//! The first reading: mean products of Fourier coefficients and moments of every band, and the stationary law they make.

use super::fourier::PAIRS;
use super::layout::{Band, Layout};
use crate::bands::Moments;
use crate::error::{Error, Result};
use crate::transform::Transform;
use rayon::prelude::*;
use score_sde::theory::{Field, Spectrum, eigen};

/// Components with less of the variance than this are none: those of grey pictures stored in colour.
const NEGLIGIBLE: f64 = 1e-9;

/// Sums over one picture or many.
pub(super) struct Spectra {
    /// Products (6, side, side) of every band, one after the other.
    products: Vec<f64>,
    /// Sums of every band's channels.
    sums: Vec<[f64; 3]>,
    moments: Vec<Moments>,
}

/// A band as a stationary law.
#[derive(Debug, Clone)]
pub(super) struct Law {
    /// Means of the channels.
    pub mean: [f64; 3],
    /// The standard deviation about them, over all channels.
    pub std: f64,
    /// Fourth standardised moment of all values.
    pub kurtosis: f64,
    /// Variances of the principal components of the channels, the largest first.
    pub components: Vec<f64>,
    /// The power of each per frequency, scaled to a mean of 1 over all of them.
    pub fields: Vec<Field>,
}

impl Spectra {
    pub(super) fn zero(layout: &Layout) -> Self {
        Self {
            products: vec![0.0; layout.bytes() / 8],
            sums: vec![[0.0; 3]; layout.bands.len()],
            moments: vec![Moments::default(); layout.bands.len()],
        }
    }

    /// Those of one picture (3, size, size).
    pub(super) fn of(pixels: &[f32], transform: &Transform, layout: &Layout) -> Result<Self> {
        let pyramid = transform.pyramid(pixels, 3, layout.size, layout.levels)?;
        let mut part = Self::zero(layout);
        let mut rest = part.products.as_mut_slice();
        for (k, planes) in layout.planes(pixels, &pyramid).into_iter().enumerate() {
            let (products, after) = rest.split_at_mut(2 * planes.len());
            layout.fourier[k].products(planes, products);
            rest = after;
            for (sum, plane) in part.sums[k]
                .iter_mut()
                .zip(planes.chunks_exact(planes.len() / 3))
            {
                *sum = plane.iter().map(|&v| f64::from(v)).sum();
            }
            part.moments[k].add(planes);
        }
        Ok(part)
    }

    /// Adds pictures in their order, whatever the number of threads.
    pub(super) fn add<'a>(&mut self, parts: impl Iterator<Item = &'a Self>) {
        const CHUNK: usize = 1 << 13;
        let parts: Vec<&Self> = parts.collect();
        self.products
            .par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(i, total)| {
                for part in &parts {
                    let values = &part.products[i * CHUNK..][..total.len()];
                    total.iter_mut().zip(values).for_each(|(t, v)| *t += v);
                }
            });
        for part in parts {
            for (total, sums) in self.sums.iter_mut().zip(&part.sums) {
                total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
            }
            let pairs = self.moments.iter_mut().zip(&part.moments);
            pairs.for_each(|(total, m)| total.merge(m));
        }
    }

    /// The law of every band, from so many pictures.
    pub(super) fn laws(&self, layout: &Layout, pictures: usize) -> Result<Vec<Law>> {
        let mut rest = self.products.as_slice();
        let bands = layout.bands.iter().enumerate();
        bands
            .map(|(k, band)| {
                let (products, after) = rest.split_at(6 * band.side * band.side);
                rest = after;
                law(band, products, &self.sums[k], &self.moments[k], pictures)
            })
            .collect()
    }
}

fn law(
    band: &Band,
    products: &[f64],
    sums: &[f64; 3],
    moments: &Moments,
    pictures: usize,
) -> Result<Law> {
    let positions = band.side * band.side;
    let values = (pictures * positions) as f64;
    let mean = sums.map(|s| s / values);
    // Per pair and frequency; the mean over the frequencies is the covariance of the two channels.
    let powers: Vec<Vec<f64>> = products
        .chunks_exact(positions)
        .zip(PAIRS)
        .map(|(products, (a, b))| {
            let mut power: Vec<f64> = products.iter().map(|p| p / values).collect();
            power[0] -= positions as f64 * mean[a] * mean[b];
            power
        })
        .collect();
    let mut covariance = [[0.0; 3]; 3];
    for (power, (a, b)) in powers.iter().zip(PAIRS) {
        let value = power.iter().sum::<f64>() / positions as f64;
        (covariance[a][b], covariance[b][a]) = (value, value);
    }
    let mut pairs = eigen(covariance);
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = pairs.iter().map(|p| p.0.max(0.0)).sum();
    // Rounding alone leaves about 1e-14.
    if total.is_nan() || total <= 1e-12 {
        return Err(Error::Argument(format!(
            "the band {} of {1} x {1} is the same everywhere in all pictures; there is nothing to measure",
            band.name, band.side
        )));
    }
    let kept: Vec<_> = pairs
        .into_iter()
        .filter(|(variance, _)| *variance > NEGLIGIBLE * total)
        .collect();
    let scale = kept.len() as f64 / kept.iter().map(|p| p.0).sum::<f64>();
    let field = |e: &[f64; 3]| {
        let weight = |(a, b): (usize, usize)| {
            let twice = if a == b { 1.0 } else { 2.0 };
            twice * e[a] * e[b] * scale
        };
        let mut power = vec![0.0; positions];
        for (pair, values) in PAIRS.into_iter().zip(&powers) {
            let w = weight(pair);
            power.iter_mut().zip(values).for_each(|(p, v)| *p += w * v);
        }
        // A mean that was taken away leaves rounding errors of either sign.
        power.iter_mut().for_each(|p| *p = p.max(0.0));
        Ok(Field::of_power(band.side, power)?)
    };
    Ok(Law {
        mean,
        std: (total / 3.0).sqrt(),
        kurtosis: moments.stats().kurtosis,
        fields: kept.iter().map(|(_, e)| field(e)).collect::<Result<_>>()?,
        components: kept.into_iter().map(|(variance, _)| variance).collect(),
    })
}

impl Law {
    /// All eigenvalues; `None` where a frequency has no power at all, so that no divergence is finite.
    pub(super) fn spectrum(&self) -> Option<Spectrum> {
        let powers = self.fields.iter().flat_map(Field::power).copied();
        Spectrum::new(&powers.collect::<Vec<f64>>()).ok()
    }

    /// The mean power of annuli of frequencies, per component.
    pub(super) fn radial(&self) -> Vec<Vec<f64>> {
        self.fields.iter().map(Field::radial).collect()
    }
}
