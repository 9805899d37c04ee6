//! Per-band statistics: moments in f64 that can be merged, and the numbers that standardise a band.

use crate::error::{Error, Result};

/// Mean, standard deviation and kurtosis of one band over a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct BandStats {
    /// Mean over pictures, channels and positions.
    pub mean: f64,
    /// Standard deviation over the same (of the population: divided by n).
    pub std: f64,
    /// Fourth standardised moment; 3 for a Gaussian, and 0 where the deviation is 0.
    pub kurtosis: f64,
}

impl BandStats {
    /// (x - mean) / std, in place.
    pub fn standardise(&self, x: &mut [f32]) {
        let (a, b) = ((1.0 / self.std) as f32, (-self.mean / self.std) as f32);
        x.iter_mut().for_each(|v| *v = *v * a + b);
    }

    /// The inverse of [`BandStats::standardise`]: x std + mean, in place.
    pub fn restore(&self, x: &mut [f32]) {
        let (a, b) = (self.std as f32, self.mean as f32);
        x.iter_mut().for_each(|v| *v = *v * a + b);
    }
}

/// The statistics of one level's bands.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct LevelStats {
    /// The low band, LL.
    pub low: BandStats,
    /// LH, HL, HH.
    pub high: [BandStats; 3],
}

impl LevelStats {
    /// (x - mean) / std of the low band.
    pub fn standardise_low(&self, low: &mut [f32]) {
        self.low.standardise(low);
    }

    /// (x - mean) / std of one picture's high bands (3, c, h, w).
    pub fn standardise_high(&self, high: &mut [f32]) {
        self.each_high(high, BandStats::standardise);
    }

    /// The inverse of [`LevelStats::standardise_low`].
    pub fn restore_low(&self, low: &mut [f32]) {
        self.low.restore(low);
    }

    /// The inverse of [`LevelStats::standardise_high`].
    pub fn restore_high(&self, high: &mut [f32]) {
        self.each_high(high, BandStats::restore);
    }

    fn each_high(&self, high: &mut [f32], f: fn(&BandStats, &mut [f32])) {
        let len = (high.len() / 3).max(1);
        let bands = self.high.iter().zip(high.chunks_exact_mut(len));
        bands.for_each(|(stats, band)| f(stats, band));
    }

    /// Whether every number can be used to standardise.
    ///
    /// # Errors
    /// [`Error::Stats`], with the first band whose mean is not finite or whose deviation is not finite and positive.
    pub fn check(&self) -> Result<()> {
        let bands = [&self.low, &self.high[0], &self.high[1], &self.high[2]];
        for (band, s) in ["LL", "LH", "HL", "HH"].into_iter().zip(bands) {
            if !s.mean.is_finite() || !s.std.is_finite() || s.std <= 0.0 {
                let (mean, std) = (s.mean, s.std);
                return Err(Error::Stats { band, mean, std });
            }
        }
        Ok(())
    }
}

/// Running central moments up to the fourth, in f64; sets seen by different threads can be merged.
///
/// Added and merged by the formulas of Pébay (Sandia report SAND2008-6212), which lose nothing to a mean far from zero.
///
/// ```
/// let mut m = wavelet::Moments::default();
/// m.add(&[1.0, 2.0]);
/// m.add(&[3.0, 6.0]);
/// assert_eq!((m.stats().mean, m.stats().std), (3.0, 3.5f64.sqrt()));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    count: u64,
    mean: f64,
    /// Sums of (x - mean)^2, ^3, ^4.
    central: [f64; 3],
}

/// Values summed about their own mean before they are merged.
const CHUNK: usize = 4096;
/// Independent partial sums, so that the loop vectorises.
const LANES: usize = 8;

impl Moments {
    /// Adds values.
    pub fn add(&mut self, values: &[f32]) {
        values.chunks(CHUNK).for_each(|c| self.merge(&Self::of(c)));
    }

    /// Two passes over a chunk that stays in the cache.
    fn of(chunk: &[f32]) -> Self {
        let n = chunk.len() as f64;
        let mean = sums(chunk, |v| [v, 0.0, 0.0])[0] / n;
        let central = sums(chunk, |v| {
            let d = v - mean;
            let d2 = d * d;
            [d2, d2 * d, d2 * d2]
        });
        Self {
            count: chunk.len() as u64,
            mean,
            central,
        }
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Self) {
        if self.count == 0 || other.count == 0 {
            if self.count == 0 {
                *self = *other;
            }
            return;
        }
        let (na, nb) = (self.count as f64, other.count as f64);
        let n = na + nb;
        let d = other.mean - self.mean;
        let (d2, ab) = (d * d, na * nb);
        let ([a2, a3, a4], [b2, b3, b4]) = (self.central, other.central);
        self.count += other.count;
        self.mean += d * nb / n;
        self.central = [
            a2 + b2 + d2 * ab / n,
            a3 + b3 + d2 * d * ab * (na - nb) / (n * n) + 3.0 * d * (na * b2 - nb * a2) / n,
            a4 + b4
                + d2 * d2 * ab * (na * na - ab + nb * nb) / (n * n * n)
                + 6.0 * d2 * (na * na * b2 + nb * nb * a2) / (n * n)
                + 4.0 * d * (na * b3 - nb * a3) / n,
        ];
    }

    /// How many values were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean, standard deviation and kurtosis; all 0 of no values.
    pub fn stats(&self) -> BandStats {
        let n = (self.count as f64).max(1.0);
        let var = self.central[0] / n;
        let kurtosis = self.central[2] / n / (var * var);
        BandStats {
            mean: self.mean,
            std: var.sqrt(),
            kurtosis: if var == 0.0 { 0.0 } else { kurtosis },
        }
    }
}

fn sums(chunk: &[f32], f: impl Fn(f64) -> [f64; 3]) -> [f64; 3] {
    let mut lanes = [[0.0; LANES]; 3];
    let (wide, rest) = chunk.as_chunks::<LANES>();
    let mut add = |lane: usize, v: f32| {
        let terms = f(v as f64);
        (0..3).for_each(|p| lanes[p][lane] += terms[p]);
    };
    for values in wide {
        (0..LANES).for_each(|lane| add(lane, values[lane]));
    }
    rest.iter().enumerate().for_each(|(lane, &v)| add(lane, v));
    lanes.map(|l| l.iter().sum())
}

/// The moments of one level's bands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LevelMoments {
    /// The low band, LL.
    pub low: Moments,
    /// LH, HL, HH.
    pub high: [Moments; 3],
}

impl LevelMoments {
    /// Adds one picture's bands: `low` (c, h, w) and `high` (3, c, h, w).
    pub fn add(&mut self, low: &[f32], high: &[f32]) {
        self.low.add(low);
        let bands = high.chunks_exact((high.len() / 3).max(1));
        self.high.iter_mut().zip(bands).for_each(|(m, b)| m.add(b));
    }

    /// Adds another set.
    pub fn merge(&mut self, other: &Self) {
        self.low.merge(&other.low);
        let pairs = self.high.iter_mut().zip(&other.high);
        pairs.for_each(|(a, b)| a.merge(b));
    }

    /// The statistics of every band.
    pub fn stats(&self) -> LevelStats {
        LevelStats {
            low: self.low.stats(),
            high: self.high.map(|m| m.stats()),
        }
    }
}
