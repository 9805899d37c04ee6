//! Diffusion on pixels (SGM): any score network of `score-sde` with the process it was trained on and a sampler.
//!
//! `network.rs` is the three families of networks behind one door, `process.rs` the processes, `chain.rs` and `flow.rs`
//! how the two kinds of process are sampled, `config.rs` what `config.json` holds.

mod chain;
mod config;
mod network;
mod process;
mod sde;

pub use chain::{Limit, Scheduler, VarianceType};
pub use config::{SampleConfig, SgmConfig};
pub use network::{Network, NetworkConfig};
pub use process::{ProcessConfig, SdeConfig};

use crate::error::{Error, Result};
use candle_core::Tensor;
use chain::Chain;
use score_sde::sampler::{Noise, OnStep};

/// A sampler and its steps, ready to run on a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The sampler's name.
    pub sampler: String,
    /// Steps.
    pub steps: usize,
    /// Evaluations of the network; none are known beforehand of an adaptive sampler.
    pub evaluations: Option<usize>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Chain(Chain, chain::Sampler),
    Sde(SdeConfig, sde::Sampler),
}

impl Run {
    /// What a sampler of this name, or the model's own, is with so many steps, or the model's own number.
    ///
    /// # Errors
    /// A sampler that the process has not, steps out of range.
    pub fn new(config: &SgmConfig, sampler: Option<&str>, steps: Option<usize>) -> Result<Self> {
        let name = sampler.unwrap_or(&config.sample.sampler);
        let wanted = steps.unwrap_or(config.sample.steps);
        if !(1..=10_000).contains(&wanted) {
            return Err(Error::Argument(format!(
                "steps is {wanted}, it must be 1 to 10000"
            )));
        }
        // A configuration's own respacing holds until other steps are asked for.
        let (kind, evaluations) = match config.process.chain(steps, config.sample.steps)? {
            Some(chain) => {
                let sampler = chain::Sampler::new(name)?;
                let evaluations = Some(sampler.evaluations(&chain)?);
                (Kind::Chain(chain, sampler), evaluations)
            }
            None => {
                let sde = config.process.sde(wanted)?;
                let options = config.sample.predictor_corrector;
                let sampler = sde::Sampler::new(name, options, wanted)?;
                sampler.check(&sde)?;
                let evaluations = sampler.evaluations();
                (Kind::Sde(sde, sampler), evaluations)
            }
        };
        let steps = match &kind {
            Kind::Chain(chain, _) => chain.steps(),
            Kind::Sde(..) => wanted,
        };
        Ok(Self {
            sampler: name.to_owned(),
            steps,
            evaluations,
            kind,
        })
    }

    /// Pictures (N, C, H, W) from standard normal `start` of that shape, in the range of the process's data; `classes` (N)
    /// for a network that has them.
    ///
    /// # Errors
    /// Shapes that do not fit, errors of the network, of `noise` and of `on_step`.
    pub fn sample(
        &self,
        network: &Network,
        start: Tensor,
        classes: Option<&Tensor>,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        let model = |x: &Tensor, t: &Tensor| network.forward(x, t, classes);
        match &self.kind {
            Kind::Chain(chain, sampler) => chain.sample(sampler, &model, start, noise, on_step),
            Kind::Sde(sde, sampler) => sampler.sample(sde, &model, start, noise, on_step),
        }
    }
}
