//! The numbers of an analysis, as they are written.

use super::AnalyzeOptions;
use super::advice::Advice;
use super::histogram::{Histograms, Shape};
use super::layout::{Band, Layout};
use super::spectra::Law;
use crate::error::Result;
use rayon::prelude::*;
use score_sde::sde::{Sde, Vp};
use score_sde::theory::{Field, Spectrum, kl, steps_needed};
use serde::Serialize;
use wavelet::Wavelet;

/// The version of the file.
const FORMAT: u32 = 1;
/// Nats per dimension that steps are counted for, and how many are tried.
const EPSILON: f64 = 0.01;
const MOST_STEPS: usize = 20_000;
/// Eigenvalues this close, relatively, are one when steps are counted.
const GROUP: f64 = 0.02;
/// Times of the diffusion's curves.
const TIMES: usize = 100;

/// What a folder of pictures turned out to be. A number that is infinite is `null` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// Version of this format.
    pub format: u32,
    /// Pictures measured.
    pub pictures: usize,
    /// Those smaller than `size`, which had to be enlarged and so lack fine detail.
    pub enlarged: usize,
    /// Files left out, and why.
    pub skipped: Vec<String>,
    /// The wavelet.
    pub wavelet: String,
    /// Whether white noise stays white in its bands.
    pub orthogonal: bool,
    /// Relative sampling error of the power at one frequency, 1 / sqrt(pictures). With few pictures condition numbers come
    /// out too large; `condition_radial` hardly does.
    pub relative_error: f64,
    /// Nats per dimension that all numbers of steps are for.
    pub epsilon: f64,
    /// Every size, the largest first.
    pub sizes: Vec<SizeReport>,
    /// How the bands of the largest size drown.
    pub diffusion: Diffusion,
    /// How many levels to take.
    pub advice: Advice,
}

/// Pictures of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizeReport {
    /// Their side.
    pub size: usize,
    /// Levels of their transform.
    pub levels: usize,
    /// The pixels, then LL, LH, HL and HH of each level, the finest first.
    pub bands: Vec<BandReport>,
    /// With 0, 1 ... levels, every band standardised by itself.
    pub renormalised: Vec<Renormalised>,
}

/// A transform's low band and all details, each standardised, as one independent law.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Renormalised {
    /// Levels.
    pub levels: usize,
    /// Condition number of all eigenvalues together.
    pub condition: f64,
    /// Divergence per dimension of the Gaussian from N(0, 1).
    pub kl_gaussian: f64,
    /// Euler-Maruyama steps, the same in all bands; `null` if more than 20000.
    pub steps: Option<usize>,
}

/// One band.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BandReport {
    /// `pixels`, or LL, LH, HL or HH with its level.
    pub name: String,
    /// 0 for the pixels, 1 for the finest.
    pub level: usize,
    /// Its side.
    pub side: usize,
    /// Means of the channels, of pictures in [-1, 1].
    pub mean: [f64; 3],
    /// Standard deviation about them, over all channels.
    pub std: f64,
    /// The part of the pixels' variance in this band (of an orthonormal transform).
    pub share: f64,
    /// Fourth standardised moment; 3 for a Gaussian.
    pub kurtosis: f64,
    /// The part of the values within a tenth of the deviation about the mean; 0.0797 of a Gaussian.
    pub near_zero: f64,
    /// The part of the values, the largest, that hold half of the energy; 0.124 of a Gaussian.
    pub half_energy: f64,
    /// Variances of the principal components of the channels.
    pub components: Vec<f64>,
    /// The largest over the smallest eigenvalue of the stationary covariance.
    pub condition: f64,
    /// That of each principal component by itself: without what the channels' unequal strengths add, which standardising
    /// the components would take away.
    pub condition_components: Vec<f64>,
    /// The largest over the smallest of means over annuli of frequencies.
    pub condition_radial: f64,
    /// What rounding pixels to 8 bits adds to every eigenvalue: smaller ones are not the pictures' own.
    pub rounding_floor: f64,
    /// Divergence per dimension of N(0, Sigma) from N(0, 1), Tr Sigma = d, in nats.
    pub kl_gaussian: f64,
    /// The part of `kl_gaussian` that the channels' unequal strengths make; the rest is that of each principal component by
    /// itself.
    pub kl_colour: f64,
    /// Divergence of the histogram of all values from N(0, 1), in nats.
    pub kl_marginal: f64,
    /// Euler-Maruyama steps for `epsilon` nats per dimension, if the band were Gaussian; of low bands; `null` if more than
    /// 20000.
    pub steps: Option<usize>,
    /// The time at which noise is as strong as the band, see [`Diffusion`].
    pub drowns_at: f64,
    /// The mean eigenvalue at 0, 1 ... cycles a side, of each principal component.
    pub radial: Vec<Vec<f64>>,
    /// The density of values in units of the deviation: middles of bins, density.
    #[serde(skip)]
    pub density: Vec<(f64, f64)>,
}

/// A variance-preserving process on the pixels, and what it leaves of every band.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diffusion {
    /// Its constants: beta from `beta_min` at 0 to `beta_max` at 1.
    pub process: Vp,
    /// Times.
    pub times: Vec<f64>,
    /// The bands.
    pub bands: Vec<Snr>,
}

/// The strength of a band in a diffusion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snr {
    /// The band.
    pub name: String,
    /// The variance of its signal over that of its noise at every time.
    pub snr: Vec<f64>,
}

impl BandReport {
    /// Whether it is a low band or the pixels.
    pub fn is_low(&self) -> bool {
        self.level == 0 || self.name.starts_with("LL")
    }

    fn new(band: &Band, law: &Law, shape: Shape, pixels: f64, positions: usize) -> Self {
        let spectrum = law.spectrum();
        let radial = law.radial();
        let per_dimension = |s: &Spectrum| kl(s, 1.0, 0) / s.dimension();
        let variance = law.std * law.std;
        let mean_component = law.components.iter().sum::<f64>() / law.components.len() as f64;
        let floor = band.gain / (12.0 * 127.5 * 127.5);
        Self {
            name: band.name.clone(),
            level: band.level,
            side: band.side,
            mean: law.mean,
            std: law.std,
            share: variance / pixels * (band.side * band.side) as f64 / positions as f64,
            kurtosis: law.kurtosis,
            near_zero: shape.near_zero,
            half_energy: shape.half_energy,
            components: law.components.clone(),
            condition: spectrum.as_ref().map_or(f64::INFINITY, Spectrum::condition),
            condition_components: law.fields.iter().map(Field::condition).collect(),
            condition_radial: condition(radial.iter().flatten()),
            rounding_floor: floor / mean_component,
            kl_gaussian: spectrum.as_ref().map_or(f64::INFINITY, per_dimension),
            kl_colour: Spectrum::new(&law.components)
                .map_or(f64::INFINITY, |s| per_dimension(&s.normalised())),
            kl_marginal: shape.kl,
            steps: None,
            drowns_at: Vp::default().time((variance / band.gain).sqrt()),
            radial,
            density: shape.density,
        }
    }
}

fn condition<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    let (low, high) = values.fold((f64::INFINITY, 0f64), |(l, h), &v| (l.min(v), h.max(v)));
    high / low
}

/// Steps for [`EPSILON`] nats per dimension.
fn steps(spectrum: &Spectrum) -> Result<Option<usize>> {
    let found = steps_needed(spectrum, EPSILON * spectrum.dimension(), MOST_STEPS)?;
    Ok(found.map(|s| s.steps))
}

impl SizeReport {
    pub(super) fn new(layout: &Layout, laws: &[Law], histograms: &Histograms) -> Result<Self> {
        let (pixels, positions) = (laws[0].std * laws[0].std, layout.size * layout.size);
        let each = layout.bands.iter().zip(laws).enumerate();
        let mut bands: Vec<BandReport> = each
            .map(|(k, (band, law))| {
                BandReport::new(band, law, histograms.shape(k), pixels, positions)
            })
            .collect();
        let grouped: Vec<Option<Spectrum>> = laws
            .par_iter()
            .map(|law| law.spectrum().map(|s| s.grouped(GROUP)))
            .collect();
        bands
            .par_iter_mut()
            .zip(&grouped)
            .filter(|(band, _)| band.is_low())
            .try_for_each(|(band, spectrum)| -> Result<()> {
                band.steps = spectrum.as_ref().map_or(Ok(None), steps)?;
                Ok(())
            })?;
        let renormalised = (0..=layout.levels)
            .into_par_iter()
            .map(|levels| {
                let chosen = layout.bands.iter().map(|b| match b.low {
                    true => b.level == levels,
                    false => b.level <= levels,
                });
                let chosen: Vec<usize> = (0..laws.len())
                    .zip(chosen)
                    .filter(|c| c.1)
                    .map(|c| c.0)
                    .collect();
                let joint = |all: Vec<Option<Spectrum>>| -> Option<Spectrum> {
                    let mut all = all.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
                    let first = all.next()?;
                    Some(all.fold(first, |joint, next| joint.join(&next)))
                };
                let exact = joint(chosen.iter().map(|&k| laws[k].spectrum()).collect());
                let coarse = joint(chosen.iter().map(|&k| grouped[k].clone()).collect());
                Ok(Renormalised {
                    levels,
                    condition: exact.as_ref().map_or(f64::INFINITY, Spectrum::condition),
                    kl_gaussian: exact
                        .as_ref()
                        .map_or(f64::INFINITY, |s| kl(s, 1.0, 0) / s.dimension()),
                    steps: coarse
                        .as_ref()
                        .map_or(Ok(None), |s| steps(&s.grouped(GROUP)))?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            size: layout.size,
            levels: layout.levels,
            bands,
            renormalised,
        })
    }

    /// The low band of a level, the pixels for 0.
    pub fn low(&self, level: usize) -> Option<&BandReport> {
        self.bands.iter().find(|b| b.level == level && b.is_low())
    }

    /// The details of a level: LH, HL, HH.
    pub fn details(&self, level: usize) -> impl Iterator<Item = &BandReport> {
        self.bands
            .iter()
            .filter(move |b| b.level == level && !b.is_low())
    }
}

impl Analysis {
    pub(super) fn new(
        options: &AnalyzeOptions,
        wavelet: &Wavelet,
        pictures: usize,
        enlarged: usize,
        skipped: Vec<String>,
        sizes: Vec<SizeReport>,
    ) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            pictures,
            enlarged,
            skipped,
            wavelet: options.wavelet.clone(),
            orthogonal: wavelet.is_orthogonal(),
            relative_error: 1.0 / (pictures as f64).sqrt(),
            epsilon: EPSILON,
            diffusion: Diffusion::of(&sizes[0]),
            advice: Advice::of(&sizes[0]),
            sizes,
        })
    }
}

impl Diffusion {
    /// The signal-to-noise ratio follows from the time of equality: both are the process's, and the band's variance only
    /// scales it.
    fn of(report: &SizeReport) -> Self {
        let process = Vp::default();
        let times: Vec<f64> = (1..=TIMES).map(|i| i as f64 / TIMES as f64).collect();
        // (signal / std)^2 of a band of variance 1.
        let unit = |t: f64| {
            let m = process.marginal(t);
            (m.signal / m.std).powi(2)
        };
        let bands = report.bands.iter().map(|band| {
            let variance = 1.0 / unit(band.drowns_at);
            Snr {
                name: band.name.clone(),
                snr: times.iter().map(|&t| variance * unit(t)).collect(),
            }
        });
        Self {
            bands: bands.collect(),
            process,
            times,
        }
    }
}
