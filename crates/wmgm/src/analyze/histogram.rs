//! The second reading: how the values of every band are distributed, in units of its standard deviation.

use super::layout::Layout;
use super::spectra::Law;
use crate::error::Result;
use crate::transform::Transform;
use nn_ops::noise;
use std::f64::consts::FRAC_1_SQRT_2;

/// Bins a unit, such that a tenth is whole bins, and units to either side; what lies beyond is in the outermost bins.
const FINE: usize = 80;
const REACH: usize = 32;
const BINS: usize = 2 * REACH * FINE;
/// Bins that are one in a divergence: 1/16 of a deviation.
const COARSE: usize = 5;
/// The stream of the noise that undoes rounding.
const DITHER: u32 = 900;

/// Adds noise uniform over one level of 8 bits to a picture in [-1, 1], that of picture `index`: rounding to bytes piles
/// values up, which is no property of the pictures.
pub(super) fn dither(index: u64, planes: &mut [f32]) {
    let mut noise = vec![0f32; planes.len()];
    noise::fill_uniform(0, index, DITHER, 0, &mut noise);
    let pairs = planes.iter_mut().zip(noise);
    pairs.for_each(|(v, u)| *v += (u - 0.5) / 127.5);
}

/// Counts of every band.
pub(super) struct Histograms {
    counts: Vec<Vec<u64>>,
}

impl Histograms {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            counts: vec![vec![0; BINS]; layout.bands.len()],
        }
    }

    /// The counts of one picture.
    pub(super) fn of(
        pixels: &[f32],
        transform: &Transform,
        layout: &Layout,
        laws: &[Law],
    ) -> Result<Vec<Vec<u32>>> {
        let pyramid = transform.pyramid(pixels, 3, layout.size, layout.levels)?;
        let planes = layout.planes(pixels, &pyramid);
        Ok(planes
            .iter()
            .zip(laws)
            .map(|(x, law)| count(x, law))
            .collect())
    }

    pub(super) fn add(&mut self, part: &[Vec<u32>]) {
        for (total, part) in self.counts.iter_mut().zip(part) {
            let pairs = total.iter_mut().zip(part);
            pairs.for_each(|(t, p)| *t += u64::from(*p));
        }
    }

    /// What the counts of band `k` say.
    pub(super) fn shape(&self, k: usize) -> Shape {
        Shape::new(&self.counts[k])
    }
}

fn count(planes: &[f32], law: &Law) -> Vec<u32> {
    let mut counts = vec![0u32; BINS];
    let scale = FINE as f64 / law.std;
    for (plane, mean) in planes.chunks_exact((planes.len() / 3).max(1)).zip(law.mean) {
        for &v in plane {
            let place = (f64::from(v) - mean) * scale + (REACH * FINE) as f64;
            counts[place.clamp(0.0, (BINS - 1) as f64) as usize] += 1;
        }
    }
    counts
}

/// How values are distributed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// Divergence from N(0, 1), in nats, at a resolution of 1/16.
    pub kl: f64,
    /// The part of the values within a tenth of the deviation about the mean; 0.0797 of a Gaussian.
    pub near_zero: f64,
    /// The part of the values, the largest, that hold half of the energy; 0.124 of a Gaussian.
    pub half_energy: f64,
    /// Middles of bins of 1/16 and the density there, where there is any.
    pub density: Vec<(f64, f64)>,
}

impl Shape {
    fn new(counts: &[u64]) -> Self {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let edge = |bin: usize| (bin as f64 - (REACH * FINE) as f64) / FINE as f64;
        let width = COARSE as f64 / FINE as f64;
        let (mut kl, mut density) = (0.0, Vec::new());
        for (i, bins) in counts.chunks_exact(COARSE).enumerate() {
            let p = bins.iter().sum::<u64>() as f64 / total;
            if p > 0.0 {
                let from = edge(i * COARSE);
                kl += p * (p / mass(from, from + width)).ln();
                density.push((from + width / 2.0, p / width));
            }
        }
        Self {
            kl,
            near_zero: near_zero(counts) / total,
            half_energy: half_energy(counts) / total,
            density,
        }
    }
}

/// The probability of a standard normal value between two numbers of one sign; never 0.
fn mass(from: f64, to: f64) -> f64 {
    let (near, far) = match from < 0.0 {
        true => (-to, -from),
        false => (from, to),
    };
    // Beyond 37 even the tail itself is below the smallest f64.
    let tail = |x: f64| 0.5 * libm::erfc(x * FRAC_1_SQRT_2);
    (tail(near) - tail(far)).max(f64::MIN_POSITIVE)
}

/// Values within 0.1.
fn near_zero(counts: &[u64]) -> f64 {
    let (middle, reach) = (REACH * FINE, FINE / 10);
    counts[middle - reach..middle + reach].iter().sum::<u64>() as f64
}

/// How many of the largest values hold half of the sum of squares, squares being those of the bins' middles.
fn half_energy(counts: &[u64]) -> f64 {
    let middle = REACH * FINE;
    // By magnitude, the largest first.
    let rings = (0..middle).rev().map(|r| {
        let size = (r as f64 + 0.5) / FINE as f64;
        let count = (counts[middle + r] + counts[middle - 1 - r]) as f64;
        (count, count * size * size)
    });
    let half = 0.5 * rings.clone().map(|(_, energy)| energy).sum::<f64>();
    let (mut held, mut largest) = (0.0, 0.0);
    for (count, energy) in rings {
        if held + energy >= half {
            let part = if energy > 0.0 {
                (half - held) / energy
            } else {
                0.0
            };
            return largest + part * count;
        }
        held += energy;
        largest += count;
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[f32]) -> Shape {
        let law = Law {
            mean: [0.0; 3],
            std: 1.0,
            kurtosis: 3.0,
            components: vec![],
            fields: vec![],
        };
        let counts: Vec<u64> = count(values, &law).into_iter().map(u64::from).collect();
        Shape::new(&counts)
    }

    #[test]
    fn a_gaussian_is_one() {
        let mut x = vec![0f32; 3 << 18];
        noise::fill_normal(1, 2, 3, 4, &mut x);
        let s = shape(&x);
        assert!(s.kl.abs() < 5e-4, "{}", s.kl);
        assert!((s.near_zero - 0.079656).abs() < 1e-3, "{}", s.near_zero);
        assert!((s.half_energy - 0.1241).abs() < 2e-3, "{}", s.half_energy);
    }

    /// Laplace's law with deviation 1: KL = ln(sqrt(pi) / e) + 1/2 + ... in closed form, tails and peak alike.
    #[test]
    fn a_laplacian_has_its_closed_form() {
        let mut u = vec![0f32; 3 << 18];
        noise::fill_uniform(1, 2, 3, 4, &mut u);
        let b = std::f64::consts::FRAC_1_SQRT_2;
        let laplace = |u: f32| {
            let u = f64::from(u) - 0.5 + 1e-9;
            (-b * u.signum() * (1.0 - 2.0 * u.abs()).ln()) as f32
        };
        let x: Vec<f32> = u.into_iter().map(laplace).collect();
        let s = shape(&x);
        // -h + ln(2 pi)/2 + E x^2 / 2, h = 1 + ln(2 b).
        let want = -(1.0 + (2.0 * b).ln()) + 0.5 * std::f64::consts::TAU.ln() + 0.5;
        assert!((s.kl - want).abs() < 2e-3, "{} {want}", s.kl);
        let near = 1.0 - (-0.1 / b).exp();
        assert!((s.near_zero - near).abs() < 2e-3, "{} {near}", s.near_zero);
        // P(|x| > t) with E(x^2; |x| > t) = e^(-t/b) (t^2 + 2 b t + 1) = 1/2: t = 1.8908.
        assert!((s.half_energy - 0.0690).abs() < 2e-3, "{}", s.half_energy);
    }

    #[test]
    fn values_far_out_are_counted() {
        let s = shape(&[100.0, -100.0, 0.0]);
        assert!(s.kl.is_finite() && s.kl > 100.0);
        // The third value counts as the middle of its bin, 1/160.
        assert!((s.half_energy - 1.0 / 3.0).abs() < 1e-7);
        assert!(mass(31.0, 32.0) > 0.0 && mass(-32.0, -31.0) == mass(31.0, 32.0));
        assert!((mass(0.0, 1.0) - 0.341_344_746).abs() < 1e-8);
    }
}
