//! A model in use: pictures from a seed, details from true low bands.

use crate::bundle::Bundle;
use crate::config::SampleDefaults;
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::model::Sampler;
use crate::picture::{self, RgbImage};
use candle_core::{Device, Tensor};
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// What to sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// Seed: with the picture's number it determines the picture.
    pub seed: u64,
    /// Numbers of the pictures.
    pub pictures: Range<u64>,
    /// Pictures at a time; has no influence on them.
    pub batch: usize,
    /// Sampler and steps; the bundle's unless given.
    pub sampler: Option<String>,
    /// Steps of the sampler; the bundle's unless given.
    pub steps: Option<usize>,
}

impl Default for SampleOptions {
    /// Pictures 0 to 15 of seed 0.
    fn default() -> Self {
        Self {
            seed: 0,
            pictures: 0..16,
            batch: 16,
            sampler: None,
            steps: None,
        }
    }
}

/// How far sampling is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleEvent {
    /// A step of a diffusion's sampler was done for a batch.
    Step {
        /// From 1.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// Pictures are finished.
    Done {
        /// So far.
        done: u64,
        /// Asked for.
        total: u64,
    },
}

/// Called at every event; a break cancels.
pub type Watch<'a> = &'a dyn Fn(SampleEvent) -> ControlFlow<()>;

/// Called after every step of a batch with its number, from 1; an error ends the batch.
pub(crate) type OnCount<'a> = &'a mut dyn FnMut(usize) -> candle_core::Result<()>;

/// Makes the pictures of `options` in batches: `make` gives the values (N, 3, height, width) of those numbered, in `steps`
/// steps.
///
/// # Errors
/// Options out of range, errors of `make` and `each`; [`Error::Cancelled`] when `watch` breaks.
pub(crate) fn in_batches(
    options: &SampleOptions,
    [height, width]: [usize; 2],
    steps: usize,
    watch: Watch<'_>,
    make: &mut dyn FnMut(&[u64], OnCount<'_>) -> Result<Tensor>,
    each: &mut dyn FnMut(u64, RgbImage) -> Result<()>,
) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::Argument("batch is 0, it must be at least 1".into()));
    }
    if options.pictures.end > 1 << 48 {
        return Err(Error::Argument("pictures are numbered below 2^48".into()));
    }
    let total = options.pictures.end.saturating_sub(options.pictures.start);
    let mut done = 0;
    while done < total {
        let first = options.pictures.start + done;
        let indices: Vec<u64> = (first..first + (options.batch as u64).min(total - done)).collect();
        let mut cancelled = false;
        let made = make(&indices, &mut |step| {
            if watch(SampleEvent::Step { step, steps }).is_break() {
                cancelled = true;
                candle_core::bail!("cancelled");
            }
            Ok(())
        });
        if cancelled {
            return Err(Error::Cancelled);
        }
        let values = made?.flatten_all()?.to_vec1::<f32>()?;
        let pictures = picture::from_values(&values, width as u32, height as u32, first as usize)?;
        for (i, picture) in indices.iter().zip(pictures) {
            each(*i, picture)?;
        }
        done += indices.len() as u64;
        if watch(SampleEvent::Done { done, total }).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(())
}

/// A model ready to make pictures.
///
/// ```no_run
/// # fn main() -> wmgm::Result<()> {
/// let model = wmgm::Wmgm::from_bundle("assets/model")?;
/// for (i, picture) in model.sample(&Default::default())?.iter().enumerate() {
///     wmgm::picture::save_png(format!("cat-{i}.png"), picture)?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Wmgm {
    bundle: Bundle,
    device: Device,
}

impl Wmgm {
    /// Loads a bundle for the CPU.
    ///
    /// # Errors
    /// See [`Bundle::read`].
    pub fn from_bundle(folder: impl AsRef<Path>) -> Result<Self> {
        Self::from_bundle_on(folder, &Device::Cpu)
    }

    /// Loads a bundle for a device.
    ///
    /// # Errors
    /// See [`Bundle::read`].
    pub fn from_bundle_on(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Ok(Self::new(Bundle::read(folder.as_ref(), device)?, device))
    }

    /// A model from a bundle at hand, loaded for `device`.
    pub fn new(bundle: Bundle, device: &Device) -> Self {
        Self {
            bundle,
            device: device.clone(),
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The sampler and steps that `options` come to.
    ///
    /// # Errors
    /// An unknown sampler, steps out of range.
    pub fn plan(&self, options: &SampleOptions) -> Result<(Sampler, usize)> {
        let how = self.how(options);
        Ok((crate::config::check_sample(&how)?, how.steps))
    }

    fn how(&self, options: &SampleOptions) -> SampleDefaults {
        let default = &self.bundle.config.sample;
        SampleDefaults {
            sampler: options
                .sampler
                .clone()
                .unwrap_or_else(|| default.sampler.clone()),
            steps: options.steps.unwrap_or(default.steps),
        }
    }

    /// Pictures from a seed.
    ///
    /// # Errors
    /// Options out of range.
    pub fn sample(&self, options: &SampleOptions) -> Result<Vec<RgbImage>> {
        self.sample_with(options, &|_| ControlFlow::Continue(()))
    }

    /// As [`Wmgm::sample`], telling `watch` how far it is.
    ///
    /// # Errors
    /// Options out of range; [`Error::Cancelled`] when `watch` breaks.
    pub fn sample_with(&self, options: &SampleOptions, watch: Watch<'_>) -> Result<Vec<RgbImage>> {
        let mut pictures = Vec::new();
        self.sample_each(options, watch, |_, picture| {
            pictures.push(picture);
            Ok(())
        })?;
        Ok(pictures)
    }

    /// As [`Wmgm::sample_with`], handing every picture with its number to `each` as soon as its batch is done.
    ///
    /// # Errors
    /// Options out of range, errors of `each`; [`Error::Cancelled`] when `watch` breaks.
    pub fn sample_each(
        &self,
        options: &SampleOptions,
        watch: Watch<'_>,
        mut each: impl FnMut(u64, RgbImage) -> Result<()>,
    ) -> Result<()> {
        let (bundle, how) = (&self.bundle, self.how(options));
        let config = &bundle.config;
        let mut make = |indices: &[u64], on_step: OnCount<'_>| {
            let low =
                bundle
                    .low
                    .sample(&how, options.seed, indices, &self.device, &mut |i, _| {
                        on_step(i + 1)
                    })?;
            let levels = config.levels;
            bundle.high.details(&low, levels, options.seed, indices)
        };
        in_batches(
            options,
            [config.size; 2],
            how.steps,
            watch,
            &mut make,
            &mut each,
        )
    }

    /// The level whose low band has side `low`.
    ///
    /// # Errors
    /// A side that is not that of one of the model's levels.
    pub fn level_of(&self, low: usize) -> Result<usize> {
        let config = &self.bundle.config;
        (1..=config.levels)
            .find(|l| config.size >> l == low)
            .ok_or_else(|| {
                let sides: Vec<String> = (1..=config.levels)
                    .map(|l| (config.size >> l).to_string())
                    .collect();
                Error::Argument(format!(
                    "this model has no low band of side {low}; it has {}",
                    sides.join(", ")
                ))
            })
    }

    /// Pictures of a set with their true low band of side `low` and details made anew; `index` addresses the noise of
    /// each picture.
    ///
    /// # Errors
    /// A set of another size, a side that no level has.
    pub fn regenerate(
        &self,
        set: &PictureSet,
        pictures: Range<usize>,
        low: usize,
        seed: u64,
        index: impl Fn(usize) -> u64,
    ) -> Result<Vec<RgbImage>> {
        let config = &self.bundle.config;
        let level = self.level_of(low)?;
        let size = config.size;
        if set.size() as usize != size {
            return Err(Error::Argument(format!(
                "pictures have size {}, the model {size}",
                set.size()
            )));
        }
        let (mut lows, mut indices) = (Vec::new(), Vec::new());
        let mut values = vec![0f32; 3 * size * size];
        for i in pictures.clone() {
            set.fill_f32(i, false, &mut values)?;
            if let Some(coarsest) = self
                .bundle
                .high
                .transform
                .pyramid(&values, 3, size, level)?
                .pop()
            {
                let mut band = coarsest.low;
                config.bands[level - 1].standardise_low(&mut band);
                lows.extend(band);
            }
            indices.push(index(i));
        }
        let lows = Tensor::from_vec(lows, (indices.len(), 3, low, low), &self.device)?;
        let made = self.bundle.high.details(&lows, level, seed, &indices)?;
        let values = made.flatten_all()?.to_vec1::<f32>()?;
        Ok(picture::from_values(
            &values,
            size as u32,
            size as u32,
            pictures.start,
        )?)
    }
}
