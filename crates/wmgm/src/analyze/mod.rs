//! What a folder of pictures says about the argument for wavelets: spectra and condition numbers of every band, how far each
//! is from a Gaussian, how sparse its details are, when they drown in a diffusion, and how many levels to take.
//!
//! Every band of the pyramid (the pixels, each level's low band and its three bands of details) is measured by itself, as a
//! stationary law: the channels are turned to their principal components, and of each the mean power per frequency is an
//! eigenvalue of the covariance Sigma, scaled to Tr Sigma = d, the band's number of values. From these eigenvalues follow
//! the condition number, the divergence of N(0, Sigma) from N(0, 1) and the steps of [`score_sde::theory`].
//!
//! Two lower bounds of a band's divergence per dimension from N(0, 1) stand beside each other: `kl_gaussian` sees the
//! correlation of values and nothing of their distribution, `kl_marginal` the distribution of single values (a histogram)
//! and nothing of their correlation. Both see the pictures as stationary, so that what is common to all of them at one place
//! (faces in the middle) is in neither.
//!
//! Pictures are read one batch after the other, twice; sums are formed per frequency in the order of the pictures and
//! histograms in integers, so that the numbers do not depend on the number of threads. Those of the Fourier transform
//! depend on the instruction set in their last digits.
//!
//! ```no_run
//! # fn main() -> wmgm::Result<()> {
//! use std::ops::ControlFlow;
//! use wmgm::analyze::{AnalyzeOptions, analyze, write};
//!
//! let options = AnalyzeOptions { size: 64, ..AnalyzeOptions::default() };
//! let analysis = analyze("pictures", &options, &|_| ControlFlow::Continue(()))?;
//! println!("{}", analysis.advice.reason);
//! write("analysis", &analysis)?;
//! # Ok(()) }
//! ```

mod advice;
mod fourier;
mod histogram;
mod layout;
mod pages;
mod report;
mod spectra;

pub use advice::Advice;
pub use report::{Analysis, BandReport, Diffusion, SizeReport, Snr};

use crate::data::{LoadOptions, LoadProgress, PictureStream};
use crate::error::{Error, Result};
use crate::files::{self, FileError};
use crate::picture::{self, RgbImage};
use crate::transform::Transform;
use histogram::Histograms;
use layout::Layout;
use spectra::{Law, Spectra};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use wavelet::Wavelet;

/// The file of numbers among those that [`write()`] writes.
pub const NUMBERS: &str = "analysis.json";
/// The low band of the deepest level that is measured unless told otherwise.
const LEAST_LOW: usize = 8;
/// The smallest pictures that larger ones are also measured at.
const LEAST_SIZE: usize = 32;
/// Bytes of sums that one batch of pictures may take.
const BATCH_BYTES: usize = 256 << 20;

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyzeOptions {
    /// Side of the squares that pictures are scaled and cropped to, 8 to 1024; half, a quarter ... of it down to 32 are
    /// measured, too.
    pub size: usize,
    /// Levels of the transform of the largest size; unless given, as many as leave a low band of at least 8 x 8. Smaller
    /// sizes end at the same low band.
    pub levels: Option<usize>,
    /// Wavelet, by its PyWavelets name.
    pub wavelet: String,
    /// How broken files are treated.
    pub load: LoadOptions,
}

impl Default for AnalyzeOptions {
    /// Pictures of 128 x 128 by the Haar wavelet.
    fn default() -> Self {
        Self {
            size: 128,
            levels: None,
            wavelet: "haar".into(),
            load: LoadOptions::default(),
        }
    }
}

impl AnalyzeOptions {
    /// Every size with its levels, the largest first.
    fn sizes(&self) -> Result<Vec<(usize, usize)>> {
        let size = self.size;
        if !(8..=1024).contains(&size) {
            return Err(Error::Argument(format!(
                "size is {size}, it must be 8 to 1024"
            )));
        }
        let fits = |l: &usize| size.is_multiple_of(1 << l);
        let deepest = (1..=8)
            .filter(fits)
            .filter(|l| size >> l >= LEAST_LOW)
            .max();
        let levels = match self.levels {
            Some(l) if (1..=8).contains(&l) && fits(&l) && size >> l >= 2 => l,
            Some(l) => {
                return Err(Error::Argument(format!(
                    "levels is {l}, it must be 1 to 8, and size {size} must divide by 2^levels and leave a low band of \
                     at least 2 x 2"
                )));
            }
            None => deepest.ok_or_else(|| {
                Error::Argument(format!(
                    "size is {size}, which no level halves to a low band of at least {LEAST_LOW} x {LEAST_LOW}; name \
                     an even one from {} up",
                    2 * LEAST_LOW
                ))
            })?,
        };
        let smaller = (1..levels).map(|k| (size >> k, levels - k));
        let smaller = smaller.filter(|(size, _)| *size >= LEAST_SIZE);
        Ok(std::iter::once((size, levels)).chain(smaller).collect())
    }
}

/// How far an analysis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnalyzeEvent {
    /// The first reading: spectra and moments.
    Spectra(LoadProgress),
    /// The second: histograms, which need the deviations.
    Histograms(LoadProgress),
}

/// Called after every batch of pictures; a break cancels.
pub type Watch<'a> = &'a (dyn Fn(AnalyzeEvent) -> ControlFlow<()> + Sync);

/// Measures the pictures in `folder` and below.
///
/// # Errors
/// Options out of range, an unknown wavelet, what [`PictureStream`] finds, fewer than two pictures, pictures without any
/// contrast; [`Error::Cancelled`] when `watch` breaks.
pub fn analyze(
    folder: impl AsRef<Path>,
    options: &AnalyzeOptions,
    watch: Watch<'_>,
) -> Result<Analysis> {
    let sizes = options.sizes()?;
    let transform = Transform::new(&options.wavelet)?;
    let wavelet = Wavelet::new(&options.wavelet).map_err(crate::bands::failed)?;
    let stream = PictureStream::open(folder, &options.load)?;
    let layouts: Vec<Layout> = sizes
        .iter()
        .map(|&(size, levels)| Layout::new(size, levels, &wavelet))
        .collect();
    let bytes: usize = layouts.iter().map(Layout::bytes).sum();
    let batch = (BATCH_BYTES / bytes).clamp(1, 64);

    let mut spectra: Vec<Spectra> = layouts.iter().map(Spectra::zero).collect();
    let (mut pictures, mut enlarged) = (0, 0);
    let skipped = stream.read(
        batch,
        &|p| watch(AnalyzeEvent::Spectra(p)),
        |_, picture| {
            let (w, h) = picture.dimensions();
            let measure =
                |layout: &Layout| Spectra::of(&planes(&picture, layout), &transform, layout);
            let parts: Result<Vec<_>> = layouts.iter().map(measure).collect();
            Ok::<_, Error>(((w.min(h) as usize) < options.size, parts?))
        },
        |made| {
            pictures += made.len();
            enlarged += made.iter().filter(|(_, (small, _))| *small).count();
            let (_, parts): (Vec<_>, Vec<_>) = made.into_iter().map(|(_, m)| m).unzip();
            for (k, total) in spectra.iter_mut().enumerate() {
                total.add(parts.iter().map(|part| &part[k]));
            }
            Ok(())
        },
    )?;
    if pictures < 2 {
        return Err(Error::Argument(
            "one picture has no spectrum of its own; at least two are needed, and thousands for sharp numbers".into(),
        ));
    }
    let laws = layouts
        .iter()
        .zip(&spectra)
        .map(|(layout, spectra)| spectra.laws(layout, pictures))
        .collect::<Result<Vec<_>>>()?;
    drop(spectra);

    let mut histograms: Vec<Histograms> = layouts.iter().map(Histograms::new).collect();
    stream.read(
        batch,
        &|p| watch(AnalyzeEvent::Histograms(p)),
        |i, picture| {
            let count = |(layout, laws): (&Layout, &Vec<Law>)| {
                let mut x = planes(&picture, layout);
                histogram::dither(i as u64, &mut x);
                Histograms::of(&x, &transform, layout, laws)
            };
            layouts
                .iter()
                .zip(&laws)
                .map(count)
                .collect::<Result<Vec<_>>>()
        },
        |made| {
            for (_, parts) in made {
                let pairs = histograms.iter_mut().zip(&parts);
                pairs.for_each(|(total, part)| total.add(part));
            }
            Ok(())
        },
    )?;
    let sizes = layouts
        .iter()
        .zip(laws.iter().zip(&histograms))
        .map(|(layout, (laws, histograms))| SizeReport::new(layout, laws, histograms))
        .collect::<Result<Vec<_>>>()?;
    let skipped = skipped.iter().map(ToString::to_string).collect();
    Analysis::new(options, &wavelet, pictures, enlarged, skipped, sizes)
}

/// The planes (3, size, size) of a picture in [-1, 1], scaled and cropped as for training.
fn planes(picture: &RgbImage, layout: &Layout) -> Vec<f32> {
    picture::to_values(&picture::resize_crop(picture, layout.size as u32))
}

/// Fails where [`write()`] would: before long work whose result goes to `folder`.
///
/// # Errors
/// A folder that holds something else, or one that cannot be made.
pub fn check_out(folder: impl AsRef<Path>) -> Result<()> {
    Ok(files::check_folder(folder, NUMBERS)?)
}

/// Writes the numbers as [`NUMBERS`] and the charts as `spectra.png`, `divergence.png`, `details.png` and `drowning.png`: the
/// folder as a whole or not at all, an older analysis is replaced.
///
/// # Errors
/// What cannot be drawn or written; a folder that holds something else.
pub fn write(folder: impl AsRef<Path>, analysis: &Analysis) -> Result<()> {
    let mut json =
        serde_json::to_vec_pretty(analysis).map_err(|e| Error::Argument(e.to_string()))?;
    json.push(b'\n');
    let charts = pages::draw(analysis).map_err(|e| Error::Argument(e.to_string()))?;
    files::write_folder(folder, NUMBERS, |temporary| {
        let pages = charts.iter().map(|(name, bytes)| (*name, bytes));
        for (name, bytes) in pages.chain([(NUMBERS, &json)]) {
            files::write_atomic(temporary.join(name), |w| w.write_all(bytes))?;
        }
        Ok::<(), FileError>(())
    })?;
    Ok(())
}
