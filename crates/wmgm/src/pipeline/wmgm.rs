//! WMGM in use: pictures from a seed, details from true low bands.

use super::trajectory::shows;
use super::{Cost, OnStep, Pipeline, Plan, SampleOptions, Watch, no_class};
use crate::bundle::Bundle;
use crate::config::{FEWEST_STEPS, SampleDefaults, check_guidance, check_sample};
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::guide::Guide;
use crate::model::Draw;
use crate::picture::{self, RgbImage};
use candle_core::{Device, Tensor};
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

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

    /// The same model, its diffusion led away from that of a worse one: autoguidance, which costs a second evaluation for each.
    ///
    /// # Errors
    /// A model of other bands, or a weight out of range.
    pub fn guided(mut self, worse: &Self, weight: f64) -> Result<Self> {
        let fail = |reason: String| Err(Error::Argument(format!("guide: {reason}")));
        if let Err(reason) = check_guidance(weight) {
            return fail(format!("the weight is {reason}"));
        }
        let [ours, theirs] = [&self, worse].map(|model| {
            let c = &model.bundle.config;
            (
                &c.wavelet,
                c.size >> c.levels,
                c.levels,
                c.fold,
                c.edm.sigma_data,
            )
        });
        if ours != theirs {
            return fail(format!(
                "its wavelet, side of the low band, levels, fold and sigma_data are {theirs:?}, those of the model {ours:?}; an earlier \
                 or smaller model of the same bands can guide"
            ));
        }
        let net = worse.bundle.low.net.clone();
        self.bundle.low.guide = Some(Guide { net, weight });
        Ok(self)
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
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

    /// Evaluations of the low band's network.
    fn evaluations(&self, how: &SampleDefaults) -> Result<usize> {
        let solver = check_sample(how, FEWEST_STEPS)?;
        Ok(solver.evaluations(&self.bundle.config.edm.sigmas(how.steps)))
    }

    /// Pictures from a seed; [`Pipeline::sample`] without the trait.
    ///
    /// # Errors
    /// Options out of range.
    pub fn sample(&self, options: &SampleOptions) -> Result<Vec<RgbImage>> {
        Pipeline::sample(self, options)
    }

    /// As [`Wmgm::sample`], telling `watch` how far it is.
    ///
    /// # Errors
    /// Options out of range; [`Error::Cancelled`] when `watch` breaks.
    pub fn sample_with(&self, options: &SampleOptions, watch: Watch<'_>) -> Result<Vec<RgbImage>> {
        Pipeline::sample_with(self, options, watch)
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
        Pipeline::sample_each(self, options, watch, &mut each)
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

impl Pipeline for Wmgm {
    fn size(&self) -> [usize; 2] {
        [self.bundle.config.size; 2]
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        no_class(options)?;
        let (config, how) = (&self.bundle.config, self.how(options));
        let evaluations = self.evaluations(&how)?;
        let guide = match &self.bundle.low.guide {
            Some(_) => " and as many of its guide",
            None => "",
        };
        let side = config.size >> config.levels;
        let folded = match side >> config.fold {
            same if same == side => String::new(),
            less => format!(", folded to {less} x {less}"),
        };
        Ok(Plan {
            work: format!(
                "{evaluations} evaluations of the low band's network at {side} x {side}{folded}{guide}, {} generator passes",
                config.levels
            ),
            sampler: how.sampler,
            steps: how.steps,
        })
    }

    fn cost(&self, options: &SampleOptions) -> Result<Option<Cost>> {
        let evaluations = self.evaluations(&self.how(options))?;
        let config = &self.bundle.config;
        let generator = &self.bundle.high.generator;
        let networks = 1 + usize::from(self.bundle.low.guide.is_some());
        let details: u64 = (1..=config.levels)
            .map(|level| generator.multiply_adds([config.size >> level; 2]))
            .sum();
        Ok(Some(Cost {
            passes: evaluations * networks + config.levels,
            multiply_adds: evaluations as u64 * self.bundle.low.multiply_adds()? + details,
        }))
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let how = self.how(options);
        let low = self.bundle.low.sample(
            &check_sample(&how, FEWEST_STEPS)?,
            how.steps,
            Draw::low(options.seed, indices),
            None,
            &self.device,
            &mut |i, _| on_step(i + 1),
        )?;
        let levels = self.bundle.config.levels;
        self.bundle
            .high
            .details(&low, levels, options.seed, indices)
    }

    /// The network's idea of the clean low band at every step, the low band itself at the last, and the pictures after
    /// each level of details; what is not there yet is left out.
    fn frames(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_frame: &mut dyn FnMut(&Tensor) -> Result<()>,
        on_step: OnStep<'_>,
    ) -> Result<()> {
        let how = self.how(options);
        let Bundle {
            low, high, config, ..
        } = &self.bundle;
        // A solver of second order evaluates twice a step: the first is that of the step's own noise.
        let estimate = RefCell::new(None);
        let mut shown = Vec::new();
        let made = low.sample_watched(
            (&check_sample(&how, FEWEST_STEPS)?, how.steps),
            Draw::low(options.seed, indices),
            None,
            &self.device,
            &|clean| {
                estimate.borrow_mut().get_or_insert_with(|| clean.clone());
            },
            &mut |i, _| {
                let estimate = estimate.take();
                if shows(i + 1, how.steps) && i + 1 < how.steps {
                    shown.extend(estimate);
                }
                on_step(i + 1)
            },
        )?;
        for estimate in &shown {
            let band = low.unfolded(estimate)?;
            on_frame(&high.without_details(&band, config.levels)?)?;
        }
        on_frame(&high.without_details(&made, config.levels)?)?;
        let seed = options.seed;
        high.details_watched(&made, config.levels, seed, indices, &mut |level, low| {
            on_frame(&high.without_details(low, level)?)
        })?;
        Ok(())
    }
}
