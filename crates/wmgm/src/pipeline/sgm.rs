//! A diffusion on pixels in use.

use super::trajectory::{noisy, within_range};
use super::{OnStep, Pipeline, Plan, SampleOptions, no_class};
use crate::bundle;
use crate::error::{Error, Result};
use crate::model::{FRESH, START};
use crate::sgm::{Network, Run, SgmConfig};
use candle_core::{Device, Tensor};
use checkpoints::Weights;
use nn_ops::noise;
use score_sde::sampler::{self, addressed_noise};
use std::path::Path;

/// A diffusion on pixels (SGM), ready to make pictures.
#[derive(Debug, Clone)]
pub struct Sgm {
    config: SgmConfig,
    network: Network,
    parameters: usize,
    device: Device,
}

impl Sgm {
    /// Loads a bundle.
    ///
    /// # Errors
    /// A missing file, a field out of range, a tensor that is missing, misshapen, of a wrong type or not finite.
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        let (config, network, parameters) = bundle::read_sgm(folder, device)?;
        Ok(Self::of(config, network, parameters, device))
    }

    /// A model of these weights, all of which its network must use; `name` is for messages.
    ///
    /// # Errors
    /// As [`Sgm::read`].
    pub fn new(config: SgmConfig, weights: &Weights, name: &Path, device: &Device) -> Result<Self> {
        let bad = |reason| Error::Bundle {
            path: name.into(),
            reason,
        };
        config.check().map_err(bad)?;
        let network = Network::new(&config.network, weights.builder(device))?;
        match weights.unused().first() {
            None => Ok(Self::of(config, network, weights.count(), device)),
            Some(name) => Err(bad(format!(
                "tensor {name} belongs to no layer of the network"
            ))),
        }
    }

    pub(super) fn of(
        config: SgmConfig,
        network: Network,
        parameters: usize,
        device: &Device,
    ) -> Self {
        Self {
            config,
            network,
            parameters,
            device: device.clone(),
        }
    }

    /// What it is.
    pub fn config(&self) -> &SgmConfig {
        &self.config
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The number of its parameters.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    fn run(&self, options: &SampleOptions) -> Result<Run> {
        Run::new(&self.config, options.sampler.as_deref(), options.steps)
    }

    /// The class of each picture (N), if the network has classes.
    fn classes(&self, options: &SampleOptions, indices: &[u64]) -> Result<Option<Tensor>> {
        let Some(count) = self.config.network.classes() else {
            no_class(options)?;
            return Ok(None);
        };
        if let Some(class) = options.class.filter(|&c| c >= count) {
            return Err(Error::Argument(format!(
                "class is {class}, the model has {count}, from 0"
            )));
        }
        let class = |i: &u64| options.class.unwrap_or((i % count.max(1) as u64) as usize) as u32;
        let classes: Vec<u32> = indices.iter().map(class).collect();
        Ok(Some(Tensor::new(classes, &self.device)?))
    }
}

impl Sgm {
    /// Pictures in the range of the process's data, (N, C, H, W).
    fn sample_watched(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: sampler::OnStep<'_>,
    ) -> Result<Tensor> {
        let classes = self.classes(options, indices)?;
        let [height, width] = self.config.size;
        let shape = [self.config.network.channels().0, height, width];
        let start = noise::normal_tensor(options.seed, indices, START, 0, &shape, &self.device)?;
        self.run(options)?.sample(
            &self.network,
            start,
            classes.as_ref(),
            &mut addressed_noise(options.seed, indices, FRESH),
            on_step,
        )
    }

    /// The same in [-1, 1] with three channels.
    fn coloured(&self, x: Tensor) -> Result<Tensor> {
        let x = self.config.process.centred(x)?;
        match x.dim(1)? {
            1 => Ok(Tensor::cat(&[&x, &x, &x], 1)?),
            _ => Ok(x),
        }
    }
}

impl Pipeline for Sgm {
    fn size(&self) -> [usize; 2] {
        self.config.size
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        self.classes(options, &[0])?;
        let run = self.run(options)?;
        let [height, width] = self.config.size;
        let count = match run.evaluations {
            Some(n) => n.to_string(),
            None => "adaptively many".into(),
        };
        Ok(Plan {
            work: format!("{count} evaluations of the network at {height} x {width}"),
            sampler: run.sampler,
            steps: run.steps,
        })
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let finished = self.sample_watched(options, indices, &mut |i, _| on_step(i + 1))?;
        self.coloured(finished)
    }

    /// The noisy pictures after every step, darkened and paled where the noise is stronger than any picture.
    fn frames(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_frame: &mut dyn FnMut(&Tensor) -> Result<()>,
        on_step: OnStep<'_>,
    ) -> Result<()> {
        let run = self.run(options)?;
        if run.evaluations.is_none() {
            return Err(Error::Argument(format!(
                "trajectory: the sampler {} takes as many steps as it needs, so no number of columns is known before; \
                 name another with --sampler",
                run.sampler
            )));
        }
        let (states, finished) = noisy(run.steps, on_step, |watch| {
            self.sample_watched(options, indices, watch)
        })?;
        for x in states {
            on_frame(&self.coloured(within_range(&x)?)?)?;
        }
        on_frame(&self.coloured(finished)?)
    }
}
