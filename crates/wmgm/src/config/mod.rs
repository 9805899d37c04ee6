//! What a user writes (a training configuration in TOML) and what a bundle records (`config.json`).

mod check;
mod diffused;
mod run;

pub(crate) use check::{
    FEWEST_STEPS, check_band, check_edm, check_fold, check_generator, check_guidance, check_sample,
    check_unet,
};

pub use diffused::DiffusedConfig;
pub(crate) use diffused::channels;
pub use run::RunConfig;

use crate::bundle::Kind;
use crate::error::{Error, Result};
use msal_gan::detail::{DetailDiscriminatorConfig, DetailGeneratorConfig};
use msal_gan::official::LossConfig;
use nn_ops::Precision;
use score_sde::{Edm, UNetConfig};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the model, for its bundle.
    pub name: String,
    /// Seed of everything random in the run.
    #[serde(default)]
    pub seed: u64,
    /// Side of the square pictures: 16 to 1024, divisible by 2^levels.
    pub size: usize,
    /// Wavelet levels; the diffusion model works at `size` / 2^levels.
    pub levels: usize,
    /// Wavelet, by its PyWavelets name.
    #[serde(default = "haar")]
    pub wavelet: String,
    /// Licence of the data and so of the weights, recorded in the bundle.
    #[serde(default)]
    pub licence: String,
    /// Whom and what the data's licence asks to name.
    #[serde(default)]
    pub attribution: String,
    /// What networks compute in while they train: `f32`, `tf32` or `bf16`. Weights, their averages and the optimisers'
    /// moments are f32 in any case.
    #[serde(default = "f32_name")]
    pub precision: String,
    /// The low band's diffusion model.
    pub low: LowConfig,
    /// The details' generator.
    pub high: HighConfig,
    /// How to sample unless told otherwise.
    #[serde(default)]
    pub sample: SampleDefaults,
    /// How often things are saved and shown.
    #[serde(default)]
    pub report: ReportConfig,
    /// `wmgm`, which need not be said.
    #[serde(default, skip_serializing_if = "Kind::is_wmgm")]
    pub kind: Kind,
}

fn one() -> f64 {
    1.0
}

fn f32_name() -> String {
    "f32".into()
}

fn haar() -> String {
    "haar".into()
}

/// Training of a band's score network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowConfig {
    /// The network.
    pub unet: UNetConfig,
    /// How often the band is folded, a Haar transform turning 2 x 2 pixels into 4 channels, before the network sees
    /// it: each time a quarter of the work for the same band.
    #[serde(default)]
    pub fold: usize,
    /// Preconditioning and noise levels.
    #[serde(default)]
    pub edm: Edm,
    /// Whether each channel that the network sees, opponent colours after folding, is preconditioned by its own standard
    /// deviation in the training pictures, in place of `edm.sigma_data` for all; of SGM alone, whose channels differ most.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_channel: bool,
    /// Length and pace.
    pub optim: OptimConfig,
    /// Largest norm of the gradient; a larger one is scaled down to it.
    #[serde(default = "one")]
    pub clip: f64,
    /// Distillation of the model that the run begins from (`--init`), which is the teacher, instead of training on noise of any
    /// strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillConfig>,
    /// Training on what that model says when it is guided by a worse one (`--guide`), instead of on the pictures themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide: Option<GuideConfig>,
}

/// Autoguidance (Karras et al. 2024, arXiv 2406.02507) of the model that the run begins from. The trained network learns at every
/// noise level what the two say together, and then says it in one evaluation (after Meng et al. 2023, arXiv 2210.03142); with
/// `distill` too, where the guided steps lead. The worse model, `--guide`, has a network of the same shape: an earlier one, say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideConfig {
    /// Of the difference between the two; 1 is no guidance.
    pub weight: f64,
}

/// Teaching a network to do in one step what its teacher does in several. It then knows the noise levels of those steps alone:
/// `[sample]` must be `euler` with as many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// Steps of the student, on the grid of its own `edm`, whose `sigma_min` is where its last step begins.
    pub steps: usize,
    /// Steps of the teacher, of DPM-Solver++(2M), for each of them.
    pub substeps: usize,
    /// The least noise level that the teacher is asked about.
    #[serde(default = "least_sigma")]
    pub sigma_min: f64,
}

fn least_sigma() -> f64 {
    Edm::default().sigma_min
}

/// Training of the detail generator and its discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HighConfig {
    /// The generator.
    pub generator: DetailGeneratorConfig,
    /// The discriminator.
    pub discriminator: DetailDiscriminatorConfig,
    /// Length and pace of the generator.
    pub optim: OptimConfig,
    /// Learning rate of the discriminator.
    pub discriminator_lr: f64,
    /// Weight of the L1 term.
    pub l1: f64,
    /// Weight of the adversarial term; 0 is plain regression, without a discriminator.
    #[serde(default = "one")]
    pub adversarial: f64,
    /// The official program's losses instead, with their weights (`official = {}` is the program's own): squared error and
    /// structural similarity of the pictures in [-1, 1] that a level's bands make, and sigmoids of the judgements. `l1` and
    /// `adversarial` do not count then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub official: Option<LossConfig>,
    /// Side of the crops at levels larger than this.
    pub crop: usize,
    /// Largest standard deviation of noise added to the low bands that the generator (not the discriminator) sees in
    /// training, drawn anew per item: low bands made by a diffusion are not as true as those of pictures (the
    /// conditioning augmentation of Ho et al. 2022, arXiv 2106.15282, section 4).
    #[serde(default)]
    pub low_noise: f64,
}

impl HighConfig {
    /// Whether a discriminator is trained at all.
    pub fn judges(&self) -> bool {
        self.official.is_some() || self.adversarial > 0.0
    }
}

/// Optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// Steps of the whole run.
    pub steps: u64,
    /// Pictures per step.
    pub batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Adam's first decay.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Adam's second decay.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup: u64,
    /// Fraction of `steps`, at the end, over which the rate falls to zero along a cosine.
    #[serde(default)]
    pub decay: f64,
    /// Decay of the averaged weights.
    pub ema: f64,
}

fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.999
}

impl OptimConfig {
    /// The learning rate's factor at a step: a function of the step alone, so that resuming needs no state.
    pub fn schedule(&self, step: u64) -> f64 {
        let warm = if step < self.warmup {
            (step + 1) as f64 / self.warmup as f64
        } else {
            1.0
        };
        let length = self.decay * self.steps as f64;
        let left = self.steps.saturating_sub(step) as f64;
        let cool = if length > 0.0 && left < length {
            0.5 - 0.5 * (std::f64::consts::PI * left / length).cos()
        } else {
            1.0
        };
        warm * cool
    }
}

/// How a bundle samples by default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleDefaults {
    /// `heun`, `dpmpp-2m` or `euler`.
    pub sampler: String,
    /// Steps of the sampler.
    pub steps: usize,
}

impl Default for SampleDefaults {
    fn default() -> Self {
        Self {
            sampler: "dpmpp-2m".into(),
            steps: 16,
        }
    }
}

/// Saving and showing; 0 is never, and the end of a stage always counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Steps between lines of metrics.
    pub log_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between preview sheets.
    pub preview_every: u64,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            log_every: 50,
            checkpoint_every: 500,
            preview_every: 1000,
        }
    }
}

/// What a configuration's `precision` names; another name is refused, and f16, whose gradients would vanish.
fn training_precision(name: &str) -> std::result::Result<Precision, String> {
    match name.parse() {
        Ok(Precision::F16) => {
            Err("f16 cannot train: small gradients would vanish; use bf16".into())
        }
        Ok(precision) => Ok(precision),
        Err(_) => Err(format!("{name:?} is not one of f32, tf32, bf16")),
    }
}

impl TrainConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML of this shape, or holds values out of range; the message names file
    /// and field.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(&crate::files::read_bounded(path, 1 << 20)?, path)
    }

    /// Reads and checks a file's contents; `path` is for messages.
    ///
    /// # Errors
    /// As [`TrainConfig::read`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Config {
            path: path.into(),
            reason,
        };
        let text = std::str::from_utf8(bytes).map_err(|e| bad(e.to_string()))?;
        let config: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        config.check().map_err(bad)?;
        Ok(config)
    }
}
