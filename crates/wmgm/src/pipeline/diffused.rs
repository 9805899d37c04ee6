//! SGM and WSGM of this program in use: every band is diffused, details given the low band so far.

use super::trajectory::{noisy, within_range};
use super::{Cost, OnStep, Pipeline, Plan, SampleOptions, no_class, no_trajectory};
use crate::bundle::{self, Bands, DiffusedBundle};
use crate::config::{SampleDefaults, check_sample};
use crate::error::Result;
use crate::model::{BandModel, Draw, finer};
use crate::transform::Transform;
use candle_core::{Device, Tensor};
use score_sde::sampler::SolverConfig;
use std::path::Path;

/// A model whose every band is diffused: without levels a diffusion on pixels (SGM); else the coarsest low band, then level
/// by level the details, standardised and given the low band (WSGM, Guth et al. 2022, arXiv 2208.05003), with the same
/// number of steps each.
#[derive(Debug, Clone)]
pub struct Diffused {
    config: DiffusedBundle,
    bands: Bands,
    transform: Transform,
    parameters: usize,
    device: Device,
}

impl Diffused {
    /// Loads a bundle.
    ///
    /// # Errors
    /// A missing file, a field out of range, a tensor that is missing, misshapen, of a wrong type or not finite.
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        let (config, bands, parameters) = bundle::read_diffused(folder, device)?;
        Ok(Self {
            transform: Transform::new(&config.wavelet)?,
            config,
            bands,
            parameters,
            device: device.clone(),
        })
    }

    /// What it is.
    pub fn config(&self) -> &DiffusedBundle {
        &self.config
    }

    /// The number of parameters of all networks.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    fn how(&self, options: &SampleOptions) -> Result<(String, SolverConfig, usize)> {
        no_class(options)?;
        let default = &self.config.sample;
        let how = SampleDefaults {
            sampler: (options.sampler.clone()).unwrap_or_else(|| default.sampler.clone()),
            steps: options.steps.unwrap_or(default.steps),
        };
        let solver = check_sample(&how, 1)?;
        Ok((how.sampler, solver, how.steps))
    }

    /// Finished bands of the finest level as pictures in [-1, 1].
    fn shown(&self, x: Tensor) -> Result<Tensor> {
        match &self.config.pixels {
            Some(stats) => Ok(x.affine(stats.std, stats.mean)?),
            None => Ok(x),
        }
    }

    /// All models in the order of their work.
    fn models(&self) -> impl Iterator<Item = &BandModel> {
        std::iter::once(&self.bands.low).chain(self.bands.details.iter().rev())
    }
}

impl Pipeline for Diffused {
    fn size(&self) -> [usize; 2] {
        [self.config.size; 2]
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        let (sampler, solver, steps) = self.how(options)?;
        let work = |model: &BandModel| {
            let evaluations = solver.evaluations(&model.preconditioner.edm().sigmas(steps));
            format!("{evaluations} at {0} x {0}", model.side >> model.fold)
        };
        let work: Vec<String> = self.models().map(work).collect();
        Ok(Plan {
            work: format!("evaluations of the networks, {}", work.join(", ")),
            sampler,
            steps: steps * self.models().count(),
        })
    }

    fn cost(&self, options: &SampleOptions) -> Result<Option<Cost>> {
        let (_, solver, steps) = self.how(options)?;
        let mut cost = Cost {
            passes: 0,
            multiply_adds: 0,
        };
        for model in self.models() {
            let evaluations = solver.evaluations(&model.preconditioner.edm().sigmas(steps));
            cost.passes += evaluations;
            cost.multiply_adds += evaluations as u64 * model.multiply_adds()?;
        }
        Ok(Some(cost))
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let (_, solver, steps) = self.how(options)?;
        let (seed, device) = (options.seed, &self.device);
        let mut done = 0;
        let mut count = |_: usize, _: &Tensor| {
            done += 1;
            on_step(done)
        };
        let draw = Draw::low(seed, indices);
        let low = &self.bands.low;
        let mut x = low.sample(&solver, steps, draw, None, device, &mut count)?;
        for (i, model) in self.bands.details.iter().enumerate().rev() {
            let draw = Draw::details(seed, indices, i + 1);
            let high = model.sample(&solver, steps, draw, Some(&x), device, &mut count)?;
            x = finer(&self.transform, &self.config.bands, i + 1, &x, &high)?;
        }
        self.shown(x)
    }

    /// Without levels the noisy pictures after every step, darkened and paled where the noise is stronger than any picture.
    fn frames(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_frame: &mut dyn FnMut(&Tensor) -> Result<()>,
        on_step: OnStep<'_>,
    ) -> Result<()> {
        if self.config.levels > 0 {
            return Err(no_trajectory());
        }
        let (_, solver, steps) = self.how(options)?;
        let low = &self.bands.low;
        let draw = Draw::low(options.seed, indices);
        let (states, finished) = noisy(steps, on_step, |watch| {
            low.sample(&solver, steps, draw, None, &self.device, watch)
        })?;
        for x in states {
            on_frame(&within_range(&self.shown(low.unfolded(&x)?)?)?)?;
        }
        on_frame(&self.shown(finished)?)
    }
}
