//! A picture's wavelet pyramid as the networks see it: standardised bands, and the numbers that standardise them.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Mean and standard deviation of one band over a data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BandStats {
    /// Mean over pictures, channels and positions.
    pub mean: f64,
    /// Standard deviation over the same.
    pub std: f64,
    /// Fourth standardised moment; 3 for a Gaussian.
    pub kurtosis: f64,
}

impl BandStats {
    fn standardise(&self, x: &mut [f32]) {
        let (a, b) = ((1.0 / self.std) as f32, (-self.mean / self.std) as f32);
        x.iter_mut().for_each(|v| *v = *v * a + b);
    }

    fn restore(&self, x: &mut [f32]) {
        let (a, b) = (self.std as f32, self.mean as f32);
        x.iter_mut().for_each(|v| *v = *v * a + b);
    }
}

/// The bands of one level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelStats {
    /// The low band (LL).
    pub low: BandStats,
    /// LH, HL, HH.
    pub high: [BandStats; 3],
}

impl LevelStats {
    /// (x - mean) / std of the low band.
    pub fn standardise_low(&self, low: &mut [f32]) {
        self.low.standardise(low);
    }

    /// (x - mean) / std of the three high bands, one after another.
    pub fn standardise_high(&self, high: &mut [f32]) {
        let len = high.len() / 3;
        for (stats, band) in self.high.iter().zip(high.chunks_exact_mut(len.max(1))) {
            stats.standardise(band);
        }
    }

    /// The inverse of [`LevelStats::standardise_low`].
    pub fn restore_low(&self, low: &mut [f32]) {
        self.low.restore(low);
    }

    /// The inverse of [`LevelStats::standardise_high`].
    pub fn restore_high(&self, high: &mut [f32]) {
        let len = high.len() / 3;
        for (stats, band) in self.high.iter().zip(high.chunks_exact_mut(len.max(1))) {
            stats.restore(band);
        }
    }

    /// Whether every number can be used to standardise.
    ///
    /// # Errors
    /// Names the band whose mean or standard deviation cannot.
    pub fn check(&self) -> Result<()> {
        for (name, b) in ["low", "LH", "HL", "HH"]
            .iter()
            .zip([self.low].iter().chain(&self.high))
        {
            // Bands of pictures in [-1, 1] stay within 2^levels; the rest is damage, or pictures of one colour.
            if !(-1e6..=1e6).contains(&b.mean) || !(1e-9..=1e6).contains(&b.std) {
                return Err(Error::Argument(format!(
                    "the band {name} has mean {} and standard deviation {}; the first must be -1e6 to 1e6, the second 1e-9 to 1e6 (0 is that of pictures without any detail)",
                    b.mean, b.std
                )));
            }
        }
        Ok(())
    }
}

/// One level of a pyramid of one picture: planes (C, h, w) each.
#[derive(Debug, Clone, Default)]
pub struct Level {
    /// LL, C planes.
    pub low: Vec<f32>,
    /// LH, HL, HH, C planes each.
    pub high: Vec<f32>,
}

/// The orthonormal Haar pyramid of `channels` square planes of side `side`: level 1 (finest) first.
pub fn haar_pyramid(x: &[f32], channels: usize, side: usize, levels: usize) -> Vec<Level> {
    let mut out: Vec<Level> = Vec::with_capacity(levels);
    for l in 0..levels {
        let from = out.last().map_or(x, |l| &l.low);
        let s = side >> (l + 1);
        let (px, n) = (s * s, channels * s * s);
        let mut level = Level {
            low: vec![0.0; n],
            high: vec![0.0; 3 * n],
        };
        for c in 0..channels {
            let plane = &from[c * 4 * px..][..4 * px];
            for y in 0..s {
                let (a, b) = plane[4 * y * s..][..4 * s].split_at(2 * s);
                for x in 0..s {
                    let at = c * px + y * s + x;
                    let (p, q, r, t) = (a[2 * x], a[2 * x + 1], b[2 * x], b[2 * x + 1]);
                    level.low[at] = 0.5 * ((p + q) + (r + t));
                    level.high[at] = 0.5 * ((p + q) - (r + t));
                    level.high[n + at] = 0.5 * ((p - q) + (r - t));
                    level.high[2 * n + at] = 0.5 * ((p - q) - (r - t));
                }
            }
        }
        out.push(level);
    }
    out
}

/// Undoes one level of [`haar_pyramid`]: low (C, s, s) and high (3 C, s, s) to (C, 2 s, 2 s).
pub fn haar_merge(low: &[f32], high: &[f32], channels: usize, s: usize) -> Vec<f32> {
    let (px, n) = (s * s, channels * s * s);
    let mut out = vec![0f32; 4 * n];
    for c in 0..channels {
        let plane = &mut out[c * 4 * px..][..4 * px];
        for y in 0..s {
            let (a, b) = plane[4 * y * s..][..4 * s].split_at_mut(2 * s);
            for x in 0..s {
                let at = c * px + y * s + x;
                let (l, h, v, d) = (low[at], high[at], high[n + at], high[2 * n + at]);
                a[2 * x] = 0.5 * ((l + h) + (v + d));
                a[2 * x + 1] = 0.5 * ((l + h) - (v + d));
                b[2 * x] = 0.5 * ((l - h) + (v - d));
                b[2 * x + 1] = 0.5 * ((l - h) - (v - d));
            }
        }
    }
    out
}

/// `times` Haar transforms of every plane, the bands kept as channels: (C, side, side) to (4^times C, side / 2^times, ..).
///
/// An orthonormal change of coordinates: white noise stays white noise of the same strength, so that a diffusion in
/// folded coordinates is the diffusion of the band itself, seen by a network that works at a smaller size.
pub fn fold(x: Vec<f32>, channels: usize, side: usize, times: usize) -> Vec<f32> {
    (0..times).fold(x, |x, i| {
        let mut level = haar_pyramid(&x, channels << (2 * i), side >> i, 1).pop();
        level.as_mut().map_or(Vec::new(), |level| {
            level.low.append(&mut level.high);
            std::mem::take(&mut level.low)
        })
    })
}

/// The inverse of [`fold`]; `channels` and `side` are those of the unfolded band.
pub fn unfold(x: Vec<f32>, channels: usize, side: usize, times: usize) -> Vec<f32> {
    (0..times).rev().fold(x, |x, i| {
        let c = channels << (2 * i);
        let s = side >> (i + 1);
        let (low, high) = x.split_at(c * s * s);
        haar_merge(low, high, c, s)
    })
}

/// Running moments up to the fourth, mergeable, in f64.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moments {
    n: f64,
    sums: [f64; 4],
}

impl Moments {
    /// Adds values.
    pub fn add(&mut self, values: &[f32]) {
        self.n += values.len() as f64;
        for &v in values {
            let v = v as f64;
            let v2 = v * v;
            self.sums[0] += v;
            self.sums[1] += v2;
            self.sums[2] += v2 * v;
            self.sums[3] += v2 * v2;
        }
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        for (a, b) in self.sums.iter_mut().zip(other.sums) {
            *a += b;
        }
    }

    /// Mean, standard deviation and kurtosis.
    pub fn stats(&self) -> BandStats {
        let [m1, m2, m3, m4] = self.sums.map(|s| s / self.n.max(1.0));
        let var = (m2 - m1 * m1).max(0.0);
        let fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * m1.powi(4);
        BandStats {
            mean: m1,
            std: var.sqrt(),
            kurtosis: if var > 0.0 { fourth / (var * var) } else { 0.0 },
        }
    }
}
