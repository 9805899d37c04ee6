//! Wavelet score-based generative modelling (Guth, Coste, De Bortoli and Mallat 2022, arXiv 2208.05003): a cascade of
//! diffusions, one of the coarsest picture and one of each level's standardised details given the picture so far.
//!
//! Networks, statistics, names and sampler are those of cascaded-wavelet-diffusion, whose checkpoints load. Their
//! configuration is given beside them, its levels nested in place:
//!
//! ```
//! let config: wmgm::wsgm::CascadeConfig = serde_json::from_str(r#"{
//!     "num_channels": 3,
//!     "image_size": [16, 16],
//!     "levels": [{
//!         "coarse_diffuser": {"T": 1000, "linear": true, "unet": {
//!             "base_channels": 32, "num_res_attn_blocks": 1, "channel_mults": [], "is_attn": [true], "num_heads": 4}},
//!         "details_diffuser": {"T": 1000, "linear": true, "unet": {
//!             "base_channels": 32, "num_res_attn_blocks": 1, "channel_mults": [2], "is_attn": [false, true], "num_heads": 4}}
//!     }],
//!     "sample": [{"coarse_steps": 16, "details_steps": 16, "details_eta": 0.0}]
//! }"#)?;
//! config.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bands;
mod cascade;
mod config;

pub use bands::{CascadeBands, DetailMoments, DetailStats, LevelBands, MeanHaar};
pub use cascade::{Band, Cascade, Noises, OnPlace, Place};
pub(crate) use cascade::{expected, is_parameter};
pub use config::{CascadeConfig, LevelConfig, LevelSteps};

use crate::bundle;
use crate::error::{Error, Result};
use crate::pipeline::{OnStep, Pipeline, Plan, SampleOptions, no_class};
use candle_core::{Device, Tensor};
use checkpoints::{Checkpoint, Parameters};
use nn_ops::noise::normal_tensor;
use std::path::Path;

/// Noise streams of sampling: coarse pictures of level l at `STREAM + 2 l`, details at `STREAM + 2 l + 1`.
const STREAM: u32 = 300;

/// A cascade ready to make pictures. Picture i of a seed is the same in every batch.
#[derive(Debug, Clone)]
pub struct Wsgm {
    cascade: Cascade,
    device: Device,
}

impl Wsgm {
    /// A cascade whose tensors are on `device`.
    pub fn new(cascade: Cascade, device: &Device) -> Self {
        Self {
            cascade,
            device: device.clone(),
        }
    }

    /// Loads a checkpoint of cascaded-wavelet-diffusion, or the same tensors as safetensors, for the CPU; of parameters and
    /// their averages, the averages.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged, and as [`Cascade::load`].
    pub fn from_checkpoint(path: impl AsRef<Path>, config: CascadeConfig) -> Result<Self> {
        Self::from_checkpoint_on(path, config, Parameters::Averaged, &Device::Cpu)
    }

    /// As [`Wsgm::from_checkpoint`], with the parameters to take and the device.
    ///
    /// # Errors
    /// As there.
    pub fn from_checkpoint_on(
        path: impl AsRef<Path>,
        config: CascadeConfig,
        which: Parameters,
        device: &Device,
    ) -> Result<Self> {
        let state = Checkpoint::open(path)?.state_dict(which)?;
        Ok(Self::new(Cascade::load(config, &state, device)?, device))
    }

    /// Loads a bundle.
    ///
    /// # Errors
    /// A missing file, a field out of range, and as [`Cascade::load`].
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        Ok(Self::new(bundle::read_wsgm(folder, device)?.1, device))
    }

    /// The networks and their statistics.
    pub fn cascade(&self) -> &Cascade {
        &self.cascade
    }

    /// How every level is sampled with these options, the coarsest first: as the configuration says, or with `steps`
    /// evaluations of every diffusion.
    ///
    /// # Errors
    /// An unknown sampler, more steps than a process has, or none.
    pub fn steps(&self, options: &SampleOptions) -> Result<Vec<LevelSteps>> {
        no_class(options)?;
        if let Some(name) = options.sampler.as_deref().filter(|name| *name != "ddim") {
            return Err(Error::Argument(format!(
                "unknown sampler {name:?}; a cascade has ddim"
            )));
        }
        let plan = self.cascade.config().plan(options.steps);
        plan.map_err(Error::Argument)
    }

    /// The values (N, C, H, W) in [-1, 1] of the pictures `indices` of the options' seed.
    ///
    /// # Errors
    /// Options out of range, a cascade that needs pictures to begin with; errors of `on_step`.
    pub fn values(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let coarsest = self.cascade.config().levels.len() - 1;
        if self.cascade.diffuser(coarsest, Band::Coarse).is_none() {
            return Err(Error::Argument(
                "this cascade makes larger pictures of given ones: its coarsest level has no coarse_diffuser"
                    .into(),
            ));
        }
        let [h, w] = self.size().map(|side| side >> (coarsest + 1));
        let channels = self.cascade.config().num_channels;
        let start = Place {
            level: coarsest,
            band: Band::Coarse,
            step: 0,
        };
        let init = self.noise(options.seed, indices, start, &[channels, h, w])?;
        self.enlarge(init, options, indices, on_step)
    }

    /// As [`Wsgm::values`], from the start of the coarsest level: noise, or for a cascade without its diffusion the coarse
    /// pictures (N, C, h, w) in [-1, 1]. `indices` address the noise of each.
    ///
    /// # Errors
    /// Options out of range, a start that does not fit the networks; errors of `on_step`.
    pub fn enlarge(
        &self,
        start: Tensor,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let plan = self.steps(options)?;
        if start.dims4()?.0 != indices.len() {
            return Err(Error::Argument(format!(
                "{} numbers for the pictures of {:?}",
                indices.len(),
                start.dims()
            )));
        }
        let mut noise = |place, dims: &[usize]| {
            self.noise(
                options.seed,
                indices,
                place,
                dims.get(1..).unwrap_or_default(),
            )
        };
        let mut done = 0;
        let mut each = |_: Place, _: &Tensor| {
            done += 1;
            on_step(done)
        };
        self.cascade.refine(start, &plan, &mut noise, &mut each)
    }

    /// The noise of a place, which depends on seed and picture alone.
    fn noise(
        &self,
        seed: u64,
        indices: &[u64],
        at: Place,
        item: &[usize],
    ) -> candle_core::Result<Tensor> {
        let band = u32::from(at.band == Band::Details);
        let stream = STREAM + 2 * at.level as u32 + band;
        normal_tensor(seed, indices, stream, at.step as u32, item, &self.device)
    }
}

impl Pipeline for Wsgm {
    fn size(&self) -> [usize; 2] {
        self.cascade.config().size()
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        let steps = self.cascade.evaluations(&self.steps(options)?);
        let levels = self.cascade.config().levels.len();
        let [height, width] = self.size();
        let coarsest = format!("{} x {}", height >> levels, width >> levels);
        Ok(Plan {
            work: format!(
                "{steps} evaluations of the networks of {levels} levels, from {coarsest} on"
            ),
            sampler: "ddim".into(),
            steps,
        })
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let made = self.values(options, indices, on_step)?;
        match made.dim(1)? {
            1 => Ok(Tensor::cat(&[&made, &made, &made], 1)?),
            3 => Ok(made),
            c => Err(Error::Argument(format!(
                "num_channels is {c}: only values of 1 or 3 channels are pictures"
            ))),
        }
    }
}
