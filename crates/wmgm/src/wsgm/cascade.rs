//! The diffusions of all levels at work: coarse pictures out of noise, details out of coarse pictures.

use super::bands::{BUFFERS, CascadeBands, DetailStats};
use super::config::{CascadeConfig, LevelConfig, LevelSteps};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use checkpoints::{Checkpoint, Weights};
use score_sde::cascade::Ddim;
use score_sde::{ConditionalDiffuser, DiffuserConfig};

/// What a level's diffusion makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Band {
    /// The coarse picture.
    Coarse,
    /// The details.
    Details,
}

/// A place in the making of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The level, 0 being the finest.
    pub level: usize,
    /// What is made.
    pub band: Band,
    /// Steps done; the noise of place 0 is what the diffusion starts from.
    pub step: usize,
}

/// Gives the noise (N, ...) of this shape at a place.
pub type Noises<'a> = &'a mut dyn FnMut(Place, &[usize]) -> candle_core::Result<Tensor>;

/// Called after every step of every diffusion with its state; an error ends the run.
pub type OnPlace<'a> = &'a mut dyn FnMut(Place, &Tensor) -> candle_core::Result<()>;

/// The networks of all levels and the statistics of their details.
#[derive(Debug, Clone)]
pub struct Cascade {
    config: CascadeConfig,
    levels: Vec<Level>,
    bands: CascadeBands,
    parameters: usize,
}

#[derive(Debug, Clone)]
struct Level {
    coarse: Option<ConditionalDiffuser>,
    details: ConditionalDiffuser,
}

/// The numbers of the process that a checkpoint repeats.
const SCHEDULE: [&str; 9] = [
    "betas",
    "sqrt_betas",
    "alphas",
    "alphas_cumprod",
    "one_minus_alphas_cumprod",
    "sqrt_alphas",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "T",
];

impl Cascade {
    /// A cascade of the tensors in `state`, named as in a `state_dict` of cascaded-wavelet-diffusion, which must hold what
    /// it needs and nothing else. The numbers of the processes may be absent; where `betas` are there they must be the
    /// configuration's, and where `alphas_cumprod` is there, sampling is number by number that program's.
    ///
    /// # Errors
    /// A configuration out of range; a tensor that is missing, left over, misshapen, of a wrong type or not finite: the
    /// first one is named.
    pub fn load(config: CascadeConfig, state: &Checkpoint, device: &Device) -> Result<Self> {
        let bad = |reason: String| Error::Bundle {
            path: state.path().into(),
            reason,
        };
        config.check().map_err(Error::Argument)?;
        state.accounts_for("the wavelet cascade", &expected(&config, state)?)?;
        let mut stats = Vec::with_capacity(config.levels.len());
        for (i, level) in config.levels.iter().enumerate() {
            let prefix = format!("wds.{i}.transform.");
            stats.push(DetailStats::read(state, &prefix, config.num_channels)?);
            for (name, diffuser) in level.diffusers() {
                check_schedule(state, &format!("wds.{i}.{name}."), diffuser).map_err(bad)?;
            }
        }
        let weights = Weights::load(&state.filtered(is_parameter)?, device)?;
        let made = Self::create(config, stats, weights.builder(device));
        let made = made.map_err(|e| bad(e.to_string()))?;
        let theirs = state.names().any(|name| name.ends_with(".alphas_cumprod"));
        Ok(made.same_numbers(theirs))
    }

    /// Sample number by number as cascaded-wavelet-diffusion does, see [`ConditionalDiffuser::same_numbers`].
    #[must_use]
    pub fn same_numbers(mut self, on: bool) -> Self {
        for level in &mut self.levels {
            level.details = level.details.clone().same_numbers(on);
            level.coarse = level.coarse.take().map(|d| d.same_numbers(on));
        }
        self
    }

    /// A cascade whose networks `vb` reads or creates, under the names that [`Cascade::load`] reads.
    ///
    /// # Errors
    /// A configuration out of range, statistics that do not fit it, a missing or misshapen parameter.
    pub fn create(config: CascadeConfig, stats: Vec<DetailStats>, vb: VarBuilder) -> Result<Self> {
        config.check().map_err(Error::Argument)?;
        let channels = config.num_channels;
        if stats.len() != config.levels.len() {
            return Err(Error::Argument(format!(
                "statistics of {} levels for a cascade of {}",
                stats.len(),
                config.levels.len()
            )));
        }
        for (i, stats) in stats.iter().enumerate() {
            let checked = stats.check(channels);
            checked.map_err(|e| Error::Argument(format!("level {i}: {e}")))?;
        }
        let diffuser = |diffuser: &DiffuserConfig, condition, channels, vb: VarBuilder| {
            ConditionalDiffuser::new(diffuser, channels, condition, vb.pp("unet"))
                .map(|made| made.share_early_steps(config.early_timestep_sharing))
        };
        let level = |(i, level): (usize, &LevelConfig)| {
            let vb = vb.pp(format!("wds.{i}"));
            let coarse = level.coarse_diffuser.as_ref();
            let coarse = coarse.map(|c| diffuser(c, 0, channels, vb.pp("dnc")));
            let details = &level.details_diffuser;
            Ok(Level {
                coarse: coarse.transpose()?,
                details: diffuser(details, channels, 3 * channels, vb.pp("dnd"))?,
            })
        };
        let levels = config.levels.iter().enumerate().map(level);
        let levels: score_sde::error::Result<_> = levels.collect();
        Ok(Self {
            levels: levels.map_err(candle_core::Error::from)?,
            bands: CascadeBands::new(stats),
            parameters: count(&config)?,
            config,
        })
    }

    /// The number of parameters of all networks.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The configuration.
    pub fn config(&self) -> &CascadeConfig {
        &self.config
    }

    /// Pictures as the diffusions see them.
    pub fn bands(&self) -> &CascadeBands {
        &self.bands
    }

    /// The diffusion of a level's details, or of its coarse picture, if it is there.
    pub fn diffuser(&self, level: usize, band: Band) -> Option<&ConditionalDiffuser> {
        let level = self.levels.get(level)?;
        match band {
            Band::Coarse => level.coarse.as_ref(),
            Band::Details => Some(&level.details),
        }
    }

    /// Network evaluations of a plan, whose first entry is the coarsest level's.
    pub fn evaluations(&self, plan: &[LevelSteps]) -> usize {
        let levels = self.levels.iter().rev().zip(plan);
        levels
            .map(|(level, how)| {
                let all = |d: &ConditionalDiffuser| d.process().steps();
                let coarse = level.coarse.as_ref();
                coarse.map_or(0, |d| how.coarse_steps.unwrap_or(all(d)))
                    + how.details_steps.unwrap_or(all(&level.details))
            })
            .sum()
    }

    /// Pictures (N, C, H, W) in [-1, 1] from `init`, 2^levels times smaller: noise where the coarsest level has a diffusion
    /// of its coarse picture, otherwise that picture, in [-1, 1]. The first entry of `plan` is the coarsest level's.
    ///
    /// Each level's details start from noise of their own, given the coarse picture; the two make the coarse picture of the
    /// next finer level.
    ///
    /// # Errors
    /// A plan out of range, an `init` of the wrong shape, errors of `noise` and `on_step`.
    pub fn refine(
        &self,
        init: Tensor,
        plan: &[LevelSteps],
        noise: Noises<'_>,
        on_step: OnPlace<'_>,
    ) -> Result<Tensor> {
        self.config.check_plan(plan).map_err(Error::Argument)?;
        let (_, c, h, w) = init.dims4()?;
        let size = [h, w].map(|n| n.saturating_mul(1 << self.levels.len()));
        self.config.check_size(size).map_err(Error::Argument)?;
        if c != self.config.num_channels {
            return Err(Error::Argument(format!(
                "the start {:?} has {c} channels, the cascade {}",
                init.dims(),
                self.config.num_channels
            )));
        }
        let (mut x, default) = (init, LevelSteps::default());
        for (i, level) in self.levels.iter().enumerate().rev() {
            let how = plan.get(self.levels.len() - 1 - i).unwrap_or(&default);
            if let Some(diffuser) = &level.coarse {
                let place = Place::start(i, Band::Coarse);
                let how = Ddim {
                    steps: how.coarse_steps.unwrap_or(diffuser.process().steps()),
                    eta: how.coarse_eta,
                    bounds: vec![(-1.0, 1.0)],
                };
                x = walk(diffuser, place, x, None, &how, noise, on_step)?;
            }
            let (n, c, h, w) = x.dims4()?;
            let place = Place::start(i, Band::Details);
            let start = noise(place, &[n, 3 * c, h, w])?;
            let how = Ddim {
                steps: (how.details_steps).unwrap_or(level.details.process().steps()),
                eta: how.details_eta,
                bounds: self.bands.stats()[i].bounds(),
            };
            let details = walk(&level.details, place, start, Some(&x), &how, noise, on_step)?;
            x = self.bands.merge(i, &x, &details)?.clamp(-1f64, 1f64)?;
        }
        Ok(x)
    }
}

impl Place {
    fn start(level: usize, band: Band) -> Self {
        Self {
            level,
            band,
            step: 0,
        }
    }

    fn after(self, step: usize) -> Self {
        Self {
            step: step + 1,
            ..self
        }
    }
}

/// One diffusion, its steps counted from `start`.
fn walk(
    diffuser: &ConditionalDiffuser,
    start: Place,
    x: Tensor,
    condition: Option<&Tensor>,
    how: &Ddim,
    noise: Noises<'_>,
    on_step: OnPlace<'_>,
) -> Result<Tensor> {
    let mut fresh = |i: usize, x: &Tensor| noise(start.after(i), x.dims());
    let mut each = |i: usize, x: &Tensor| on_step(start.after(i), x);
    let made = diffuser.sample(x, condition, how, &mut fresh, &mut each);
    Ok(made.map_err(candle_core::Error::from)?)
}

/// Whether a tensor is a network's.
pub(crate) fn is_parameter(name: &str) -> bool {
    name.split('.').nth(3) == Some("unet")
}

/// Names and shapes of the parameters of all networks.
fn parameters(config: &CascadeConfig) -> Result<Vec<(String, Vec<usize>)>> {
    let c = config.num_channels;
    let mut list = Vec::new();
    for (i, level) in config.levels.iter().enumerate() {
        for (diffuser, own) in level.diffusers() {
            let (channels_in, out) = if diffuser == "dnc" {
                (c, c)
            } else {
                (4 * c, 3 * c)
            };
            let tensors = own.unet.unet(channels_in, out)?.tensors()?;
            let named = |(name, shape)| (format!("wds.{i}.{diffuser}.unet.{name}"), shape);
            list.extend(tensors.into_iter().map(named));
        }
    }
    Ok(list)
}

fn count(config: &CascadeConfig) -> Result<usize> {
    let sizes = parameters(config)?.into_iter();
    Ok(sizes
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum())
}

/// Names and shapes of the tensors that a cascade needs; of the processes' numbers those that `state` has.
pub(crate) fn expected(
    config: &CascadeConfig,
    state: &Checkpoint,
) -> Result<Vec<(String, Vec<usize>)>> {
    config.check().map_err(Error::Argument)?;
    let mut wanted = parameters(config)?;
    for (i, level) in config.levels.iter().enumerate() {
        for name in BUFFERS {
            let shape = vec![1, 3 * config.num_channels, 1, 1];
            wanted.push((format!("wds.{i}.transform.{name}"), shape));
        }
        for (diffuser, own) in level.diffusers() {
            for name in SCHEDULE.map(|name| format!("wds.{i}.{diffuser}.{name}")) {
                let there = state.get(&name).is_some();
                let length = if name.ends_with(".T") { 1 } else { own.steps };
                wanted.extend(there.then_some((name, vec![length])));
            }
        }
    }
    Ok(wanted)
}

/// Whether the betas in a checkpoint, if there are any, are those of the configuration.
fn check_schedule(
    state: &Checkpoint,
    prefix: &str,
    diffuser: &DiffuserConfig,
) -> std::result::Result<(), String> {
    let name = format!("{prefix}betas");
    let Some(stored) = state.get(&name) else {
        return Ok(());
    };
    let kind = if diffuser.linear { "linear" } else { "cosine" };
    let wrong = |what: String| {
        format!(
            "tensor {name} {what}: T is {} and the schedule {kind} in the configuration, those of this checkpoint are others",
            diffuser.steps
        )
    };
    if stored.shape() != [diffuser.steps] {
        return Err(wrong(format!("has shape {:?}", stored.shape())));
    }
    let found = state.tensor(&name, &Device::Cpu).map_err(|e| e.reason())?;
    let found = found.to_dtype(DType::F64).and_then(|t| t.to_vec1::<f64>());
    let found = found.map_err(|e| e.to_string())?;
    let process = diffuser.process().map_err(|e| e.to_string())?;
    let pairs = found.iter().zip(&process.coefficients().betas).enumerate();
    // Stored in f32, or perhaps in half that.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-2 * b.abs();
    let mut other = pairs.filter(|(_, (a, b))| !close(**a, **b));
    match other.next() {
        None => Ok(()),
        Some((i, (a, b))) => Err(wrong(format!("holds {a} at step {i} in place of {b}"))),
    }
}
