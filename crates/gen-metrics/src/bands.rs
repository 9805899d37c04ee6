//! Distances between the wavelet bands of two sets of pictures: they need no weights and say at which scale something is off.

use crate::error::{Error, Result};
use crate::picture::Picture;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use rustfft::{FftPlanner, num_complex::Complex};
use serde::Serialize;
use wavelet::{Dwt, Mode, Wavelet};

/// Bins of a histogram; they reach from -2^level to 2^level, which Haar coefficients of values in [-1, 1] do not leave.
const BINS: usize = 4096;
/// What bins are merged into, at most.
const GROUPS: u64 = 64;
/// The most levels.
const MAX_LEVELS: usize = 8;

/// How one band of the samples differs from the reference's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BandDistance {
    /// 1 is the finest level.
    pub level: usize,
    /// LH (horizontal edges), HL, HH, or LL for the low band that is left.
    pub band: &'static str,
    /// Kullback-Leibler divergence KL(reference || samples) of the coefficients' marginal distribution, in nats.
    pub kl: f64,
    /// Root mean square difference of the radial power spectra, in decibels.
    pub spectrum_db: f64,
    /// Standard deviation of the samples' coefficients, pictures being in [-1, 1].
    pub std: f64,
    /// That of the reference.
    pub reference_std: f64,
}

/// Histograms and spectra of the bands of pictures of one size.
///
/// Bands are those of the orthonormal Haar transform of pictures in [-1, 1], the three channels pooled.
#[derive(Debug, Clone, PartialEq)]
pub struct BandStatistics {
    size: [usize; 2],
    levels: usize,
    pictures: u64,
    bands: Vec<Band>,
}

/// Sums over one band of all pictures.
#[derive(Debug, Clone, PartialEq)]
struct Band {
    level: usize,
    name: &'static str,
    size: [usize; 2],
    histogram: Vec<u64>,
    /// Sum, sum of squares, and number of coefficients.
    moments: [f64; 3],
    /// Summed power of frequencies at a distance of r from zero, rounded.
    rings: Vec<f64>,
}

/// What one picture adds to a band.
struct Part {
    bins: Vec<u16>,
    moments: [f64; 3],
    rings: Vec<f64>,
}

impl BandStatistics {
    /// Empty statistics for pictures of `size` ([height, width]) and `levels` levels.
    ///
    /// # Errors
    /// [`Error::Argument`] without levels or if a side cannot be halved so often down to at least 2.
    pub fn new(size: [usize; 2], levels: usize) -> Result<Self> {
        let fits = |side: usize| {
            levels <= MAX_LEVELS && side.is_multiple_of(1 << levels) && side >> levels >= 2
        };
        if levels == 0 || !size.into_iter().all(fits) {
            return Err(Error::Argument(format!(
                "wavelet bands: pictures of {} x {} do not have {levels} levels (each halves both sides, at least 2 must be left)",
                size[1], size[0]
            )));
        }
        let mut bands = Vec::new();
        for level in 1..=levels {
            let mut names = vec!["LH", "HL", "HH"];
            if level == levels {
                names.push("LL");
            }
            for name in names {
                let size = size.map(|side| side >> level);
                bands.push(Band {
                    level,
                    name,
                    size,
                    histogram: vec![0; BINS],
                    moments: [0.0; 3],
                    rings: vec![0.0; rings_of(size)],
                });
            }
        }
        Ok(Self {
            size,
            levels,
            pictures: 0,
            bands,
        })
    }

    /// The most levels, up to three, that pictures of `size` have; none for odd or tiny ones.
    pub fn levels_for(size: [usize; 2]) -> Option<usize> {
        (1..=3)
            .rev()
            .find(|&levels| Self::new(size, levels).is_ok())
    }

    /// Pictures added so far.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// Adds pictures. The sums are the same for any number of threads and however pictures are spread over calls.
    ///
    /// # Errors
    /// [`Error::Shape`] naming a picture of another size.
    pub fn add(&mut self, pictures: &[Picture<'_>]) -> Result<()> {
        if let Some(other) = pictures.iter().find(|p| p.size() != self.size) {
            return Err(Error::Shape {
                what: "wavelet bands".into(),
                found: other.size()[1] * other.size()[0],
                expected: format!(
                    "pixels of a picture of {} x {} where {} x {} were expected",
                    other.size()[1],
                    other.size()[0],
                    self.size[1],
                    self.size[0]
                ),
            });
        }
        let dwt = Dwt::new(Wavelet::haar(), Mode::Periodization);
        for some in pictures.chunks(64) {
            let parts = some
                .par_iter()
                .map(|p| self.parts(p, &dwt))
                .collect::<Result<Vec<_>>>()?;
            for picture in parts {
                for (band, part) in self.bands.iter_mut().zip(picture) {
                    part.bins
                        .iter()
                        .for_each(|&b| band.histogram[usize::from(b)] += 1);
                    let sums = band.moments.iter_mut().zip(part.moments);
                    sums.for_each(|(sum, v)| *sum += v);
                    let sums = band.rings.iter_mut().zip(part.rings);
                    sums.for_each(|(sum, v)| *sum += v);
                }
            }
            self.pictures += some.len() as u64;
        }
        Ok(())
    }

    fn parts(&self, picture: &Picture<'_>, dwt: &Dwt) -> Result<Vec<Part>> {
        let [h, w] = self.size;
        let planes = picture.planes(1.0 / 127.5, -1.0);
        let x = Tensor::from_vec(planes, (3, h, w), &Device::Cpu)?;
        let pyramid = dwt.wavedec2(&x, Some(self.levels))?;
        let mut values = Vec::new();
        for high in &pyramid.high {
            // (3 bands, 3 channels, h, w)
            for band in 0..3 {
                values.push(high.get(band)?.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        values.push(pyramid.low.flatten_all()?.to_vec1::<f32>()?);
        let mut planner = FftPlanner::new();
        let each = self.bands.iter().zip(&values);
        Ok(each.map(|(band, v)| band.part(v, &mut planner)).collect())
    }

    /// How each band of these samples differs from the same band of `reference`, finest level first.
    ///
    /// The marginal divergence is taken over bins that hold equal shares of the reference (64, fewer where many
    /// coefficients are equal), half a count being added to each on both sides. A ring of the spectrum holds the
    /// frequencies whose distance from zero rounds to r, from 1 to half the shorter side.
    ///
    /// # Errors
    /// [`Error::TooFew`] if either is empty, [`Error::Argument`] if sizes or levels differ.
    pub fn distances(&self, reference: &Self) -> Result<Vec<BandDistance>> {
        if (self.size, self.levels) != (reference.size, reference.levels) {
            return Err(Error::Argument(format!(
                "wavelet bands: the samples are {:?} (height, width) with {} levels, the reference {:?} with {}",
                self.size, self.levels, reference.size, reference.levels
            )));
        }
        for (what, set) in [
            ("the samples", self),
            ("the reference's pictures", reference),
        ] {
            if set.pictures == 0 {
                return Err(Error::TooFew {
                    metric: "wavelet bands",
                    what,
                    have: 0,
                    need: 1,
                    hint: "add pictures",
                });
            }
        }
        let pairs = self.bands.iter().zip(&reference.bands);
        Ok(pairs
            .map(|(a, b)| BandDistance {
                level: a.level,
                band: a.name,
                kl: divergence(&b.histogram, &a.histogram),
                spectrum_db: a.decibels(b),
                std: a.std(),
                reference_std: b.std(),
            })
            .collect())
    }
}

/// Rings from 0 to half the shorter side.
fn rings_of([h, w]: [usize; 2]) -> usize {
    h.min(w) / 2 + 1
}

impl Band {
    /// Of coefficients (3, h, w).
    fn part(&self, values: &[f32], planner: &mut FftPlanner<f64>) -> Part {
        let most = f64::from(1u32 << self.level);
        let bin = |v: f32| {
            let at = (f64::from(v) + most) / (2.0 * most) * BINS as f64;
            at.clamp(0.0, (BINS - 1) as f64) as u16
        };
        let mut moments = [0.0, 0.0, values.len() as f64];
        for &v in values {
            moments[0] += f64::from(v);
            moments[1] += f64::from(v).powi(2);
        }
        let [h, w] = self.size;
        let (rows, columns) = (planner.plan_fft_forward(w), planner.plan_fft_forward(h));
        let mut rings = vec![0.0; self.rings.len()];
        for plane in values.chunks_exact(h * w) {
            let mut x: Vec<Complex<f64>> =
                plane.iter().map(|&v| Complex::new(v.into(), 0.0)).collect();
            rows.process(&mut x);
            let mut turned: Vec<Complex<f64>> = (0..w)
                .flat_map(|c| (0..h).map(move |r| (r, c)))
                .map(|(r, c)| x[r * w + c])
                .collect();
            columns.process(&mut turned);
            for (i, v) in turned.iter().enumerate() {
                let ring = radius(i % h, h).hypot(radius(i / h, w)).round_ties_even() as usize;
                if let Some(sum) = rings.get_mut(ring) {
                    *sum += v.norm_sqr() / (h * w) as f64;
                }
            }
        }
        Part {
            bins: values.iter().map(|&v| bin(v)).collect(),
            moments,
            rings,
        }
    }

    fn std(&self) -> f64 {
        let [sum, squares, n] = self.moments;
        (squares / n - (sum / n).powi(2)).max(0.0).sqrt()
    }

    /// The spectra compared; both have the same rings, so that only the numbers of pictures differ.
    fn decibels(&self, other: &Self) -> f64 {
        // A power that no eye and no 8-bit picture has: constant pictures compare as equal.
        const FLOOR: f64 = 1e-12;
        let power = |band: &Self, r: usize| band.rings[r] / band.moments[2] + FLOOR;
        let rings = 1..self.rings.len();
        let count = rings.len().max(1) as f64;
        let squares = rings.map(|r| (10.0 * (power(self, r) / power(other, r)).log10()).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    }
}

/// The signed frequency of place `i` of `n`.
fn radius(i: usize, n: usize) -> f64 {
    if i < n.div_ceil(2) {
        i as f64
    } else {
        i as f64 - n as f64
    }
}

/// KL(p || q) of two histograms over the same bins, which are merged by the shares of `p`.
fn divergence(p: &[u64], q: &[u64]) -> f64 {
    let total: u64 = p.iter().sum();
    let mut groups: Vec<(u64, [f64; 2])> = Vec::new();
    let mut before = 0;
    for (&p, &q) in p.iter().zip(q) {
        // By the middle of the bin's share: what lies beyond the reference on either side is apart from a peak at its end.
        let group = (GROUPS * (2 * before + p) / (2 * total).max(1)).min(GROUPS - 1);
        before += p;
        let more = [p as f64, q as f64];
        match groups.last_mut() {
            Some((last, sums)) if *last == group => {
                sums.iter_mut().zip(more).for_each(|(s, m)| *s += m);
            }
            _ => groups.push((group, more)),
        }
    }
    let half = 0.5;
    let sum = |side: usize| groups.iter().map(|(_, s)| s[side] + half).sum::<f64>();
    let (all_p, all_q) = (sum(0), sum(1));
    let each = groups.iter().map(|(_, [p, q])| {
        let (p, q) = ((p + half) / all_p, (q + half) / all_q);
        p * (p / q).ln()
    });
    each.sum()
}
