//! The configuration of a cascade, by cascaded-wavelet-diffusion's names, its levels nested in place.

use crate::config::check_unet;
use score_sde::DiffuserConfig;
use serde::{Deserialize, Serialize};

/// A reason that begins with the field's name.
type Check = Result<(), String>;

/// A cascade. Its checkpoint does not carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CascadeConfig {
    /// Channels of the pictures.
    pub num_channels: usize,
    /// Height and width of the pictures. The networks fit many, see [`CascadeConfig::size`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<[usize; 2]>,
    /// Networks are shown one time for all steps of a fiftieth, within the least noisy tenth.
    #[serde(default)]
    pub early_timestep_sharing: bool,
    /// The levels, the finest first.
    pub levels: Vec<LevelConfig>,
    /// How to sample each level, the coarsest first as it is made first; all steps with eta 1 if there are none.
    #[serde(default)]
    pub sample: Vec<LevelSteps>,
    /// Of training only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Of training only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Of training only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_flip: Option<bool>,
    /// Of training only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_clip: Option<f64>,
}

/// The diffusions of a level, at half the size of its pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelConfig {
    /// Of its coarse picture. A cascade whose coarsest level has none makes larger pictures of given ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse_diffuser: Option<DiffuserConfig>,
    /// Of its details, given the coarse picture.
    pub details_diffuser: DiffuserConfig,
}

impl LevelConfig {
    /// The diffusions by the names of their networks in a checkpoint.
    pub(super) fn diffusers(&self) -> impl Iterator<Item = (&'static str, &DiffuserConfig)> {
        let coarse = self.coarse_diffuser.as_ref().map(|coarse| ("dnc", coarse));
        coarse.into_iter().chain([("dnd", &self.details_diffuser)])
    }
}

/// How to sample a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelSteps {
    /// Evaluations for the coarse picture, where it is diffused; those of the process unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coarse_steps: Option<usize>,
    /// DDIM's eta, in [0, 1].
    #[serde(default = "one")]
    pub coarse_eta: f64,
    /// Evaluations for the details; those of the process unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details_steps: Option<usize>,
    /// DDIM's eta, in [0, 1].
    #[serde(default = "one")]
    pub details_eta: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for LevelSteps {
    /// All steps with eta 1, which is DDPM.
    fn default() -> Self {
        Self {
            coarse_steps: None,
            coarse_eta: 1.0,
            details_steps: None,
            details_eta: 1.0,
        }
    }
}

impl CascadeConfig {
    /// Whether a cascade can be built of it: every size bounded, every part fitting the others.
    ///
    /// # Errors
    /// The first field that is out of range or does not fit another, in words.
    pub fn check(&self) -> Check {
        if !(1..=16).contains(&self.num_channels) {
            return Err(format!(
                "num_channels is {}, it must be 1 to 16",
                self.num_channels
            ));
        }
        if !(1..=8).contains(&self.levels.len()) {
            return Err(format!(
                "levels has {} entries, it must have 1 to 8",
                self.levels.len()
            ));
        }
        let c = self.num_channels;
        for (i, level) in self.levels.iter().enumerate() {
            let field = format!("levels[{i}].details_diffuser");
            check_diffuser(&field, &level.details_diffuser, 4 * c, 3 * c)?;
            if let Some(coarse) = &level.coarse_diffuser {
                check_diffuser(&format!("levels[{i}].coarse_diffuser"), coarse, c, c)?;
            }
        }
        self.check_plan(&self.sample)?;
        self.check_size(self.size())
    }

    /// Height and width of the pictures: `image_size`, or the least of 32 or more that fits every network.
    pub fn size(&self) -> [usize; 2] {
        let divisor = self.divisors().max().unwrap_or(1);
        (self.image_size).unwrap_or([32usize.div_ceil(divisor).saturating_mul(divisor); 2])
    }

    /// What pictures must divide by for the networks of each level; powers of two.
    fn divisors(&self) -> impl Iterator<Item = usize> {
        let level = |(i, level): (usize, &LevelConfig)| {
            let factors = level.diffusers().map(|(_, d)| d.unet.factor());
            factors.max().unwrap_or(1).saturating_mul(2 << i)
        };
        self.levels.iter().enumerate().map(level)
    }

    /// Whether pictures of this height and width fit every network.
    ///
    /// # Errors
    /// What they must divide by, in words.
    pub fn check_size(&self, size: [usize; 2]) -> Check {
        if size.iter().any(|n| !(2..=8192).contains(n)) {
            return Err(format!("image_size is {size:?}, each must be 2 to 8192"));
        }
        for (i, divisor) in self.divisors().enumerate() {
            if size.iter().any(|n| !n.is_multiple_of(divisor)) {
                return Err(format!(
                    "image_size is {size:?}: for the networks of levels[{i}] it must divide by {divisor}"
                ));
            }
        }
        Ok(())
    }

    /// Whether the levels can be sampled so; the empty plan is the default one.
    ///
    /// # Errors
    /// Another number of entries than of levels, steps or eta out of range.
    pub fn check_plan(&self, plan: &[LevelSteps]) -> Check {
        if !plan.is_empty() && plan.len() != self.levels.len() {
            return Err(format!(
                "sample has {} entries, one for each of the {} levels is needed, or none",
                plan.len(),
                self.levels.len()
            ));
        }
        for (i, (steps, level)) in plan.iter().zip(self.levels.iter().rev()).enumerate() {
            let most = |diffuser: Option<&DiffuserConfig>| diffuser.map_or(usize::MAX, |d| d.steps);
            for (name, value, most) in [
                (
                    "coarse_steps",
                    steps.coarse_steps,
                    most(level.coarse_diffuser.as_ref()),
                ),
                (
                    "details_steps",
                    steps.details_steps,
                    most(Some(&level.details_diffuser)),
                ),
            ] {
                if value.is_some_and(|v| v == 0 || v > most) {
                    let value = value.unwrap_or_default();
                    return Err(format!(
                        "sample[{i}].{name} is {value}, it must be 1 to the process's {most}"
                    ));
                }
            }
            for (name, eta) in [
                ("coarse_eta", steps.coarse_eta),
                ("details_eta", steps.details_eta),
            ] {
                if !(0.0..=1.0).contains(&eta) {
                    return Err(format!("sample[{i}].{name} is {eta}, it must be 0 to 1"));
                }
            }
        }
        Ok(())
    }

    /// The plan for all levels, the coarsest first: the configuration's, or `steps` evaluations of every diffusion.
    ///
    /// # Errors
    /// More steps than a process has, or none.
    pub fn plan(&self, steps: Option<usize>) -> Result<Vec<LevelSteps>, String> {
        let mut plan = self.sample.clone();
        plan.resize(self.levels.len(), LevelSteps::default());
        if let Some(steps) = steps {
            for level in &mut plan {
                (level.coarse_steps, level.details_steps) = (Some(steps), Some(steps));
            }
        }
        self.check_plan(&plan)?;
        Ok(plan)
    }
}

/// A diffusion by itself; `field` is what the file calls it.
fn check_diffuser(
    field: &str,
    d: &DiffuserConfig,
    channels_in: usize,
    channels_out: usize,
) -> Check {
    d.process().map_err(|e| format!("{field}: {e}"))?;
    let unet = d.unet.unet(channels_in, channels_out);
    check_unet(
        &format!("{field}.unet"),
        &unet.map_err(|e| format!("{field}.unet: {e}"))?,
    )
}
