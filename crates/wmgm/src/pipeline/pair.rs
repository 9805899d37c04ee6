//! WMGM of the official program in use: a diffusion of low bands as pictures, then the official generator.

use super::{OnStep, Pipeline, Plan, SampleOptions, Sgm};
use crate::bundle::{self, PairConfig, Parts};
use crate::error::Result;
use crate::model::DETAIL;
use candle_core::{Device, Tensor};
use msal_gan::official::{Generator, LowInput, sample};
use nn_ops::noise;
use std::path::Path;

/// A diffusion of low bands and the official generator of details.
#[derive(Debug, Clone)]
pub struct Pair {
    config: PairConfig,
    low: Sgm,
    generator: Generator,
    parameters: [usize; 2],
}

impl Pair {
    /// Loads a bundle.
    ///
    /// # Errors
    /// A missing file, a field out of range, a tensor that is missing, misshapen, of a wrong type or not finite.
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        let Parts {
            config,
            low,
            generator,
            parameters,
        } = bundle::read_pair(folder, device)?;
        Ok(Self {
            low: Sgm::of(config.low.clone(), low, parameters[0], device),
            config,
            generator,
            parameters,
        })
    }

    /// What it is.
    pub fn config(&self) -> &PairConfig {
        &self.config
    }

    /// The numbers of parameters of the low band's network and of the generator.
    pub fn parameters(&self) -> [usize; 2] {
        self.parameters
    }

    /// Pictures (N, 3, H, W) in [-1, 1] from low bands as pictures in [-1, 1]; `noise(round, shape)` gives the noise of a
    /// round, 0 being the coarsest.
    ///
    /// # Errors
    /// Shapes that do not fit, errors of `noise`.
    pub fn details(
        &self,
        low: &Tensor,
        noise: &mut dyn FnMut(usize, &candle_core::Shape) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let band = LowInput::SignedPicture(self.config.rounding).to_band(low)?;
        let levels = self.config.levels;
        let unit = sample(&self.generator, &band, levels, noise, &mut |_, _| Ok(()))?;
        Ok(unit.affine(2.0, -1.0)?)
    }
}

impl Pipeline for Pair {
    fn size(&self) -> [usize; 2] {
        self.config.size
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        let low = self.low.plan(options)?;
        Ok(Plan {
            work: format!("{}, {} generator passes", low.work, self.config.levels),
            ..low
        })
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let low = self.low.make(options, indices, on_step)?;
        let levels = self.config.levels;
        self.details(&low, &mut |round, shape| {
            let stream = DETAIL + (levels - round) as u32;
            let one = shape.dims().get(1..).unwrap_or_default();
            noise::normal_tensor(options.seed, indices, stream, 0, one, low.device())
        })
    }
}
