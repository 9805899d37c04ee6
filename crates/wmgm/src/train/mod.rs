//! Training from a folder of pictures: the low band's score network and the details' generator, each on its own.

mod checkpoint;
mod data;
mod high;
mod low;
mod resume;
pub(crate) mod run;

use crate::bands::check_stats;
use crate::bundle::{self, BundleConfig, Provenance};
use crate::config::TrainConfig;
use crate::data::{Broken, LoadOptions, LoadProgress, PictureSet};
use crate::error::{Error, Result};
use crate::transform::Transform;
use candle_core::Device;
use nn_ops::{Precision, precision};
use std::ops::ControlFlow;
use std::path::Path;

/// Which networks to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageChoice {
    /// The low band's diffusion model.
    Low,
    /// The detail generator.
    High,
    /// Both, one after the other.
    All,
}

/// What a run tells whoever watches.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainEvent<'a> {
    /// A picture was read.
    Loading {
        /// Files read so far.
        done: usize,
        /// Files found.
        total: usize,
    },
    /// A file was left out.
    Skipped(&'a Broken),
    /// A stage begins (or goes on) at a step.
    Stage {
        /// low or high.
        name: &'static str,
        /// Steps already done.
        from: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step was done.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Losses and rates by name.
        values: &'a [(&'static str, f64)],
    },
    /// All of a stage's state is on the disk.
    Saved {
        /// low or high.
        name: &'static str,
        /// Steps done.
        step: u64,
    },
    /// A bundle was written.
    Bundle(&'a Path),
}

/// Who watches a run, and may stop it.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: TrainEvent<'_>);
    /// Whether to save and stop.
    fn stop(&self) -> bool {
        false
    }
}

/// A training run: what and where.
#[derive(Debug, Clone, Copy)]
pub struct TrainOptions<'a> {
    /// Pictures.
    pub data: &'a Path,
    /// Folder of checkpoints, metrics, previews and the bundle.
    pub out: &'a Path,
    /// Which networks.
    pub stage: StageChoice,
    /// Go on from the last checkpoints instead of refusing to overwrite them.
    pub resume: bool,
    /// A bundle whose weights a stage without a checkpoint starts from, instead of random ones.
    pub init: Option<&'a Path>,
}

/// Trains as configured; ends with a bundle in `out/bundle` once both networks are done.
///
/// # Errors
/// Bad configuration, data or folder; a folder that another process trains in, or whose run was begun with another
/// network or other pictures; a diverging loss; [`Error::Cancelled`] after saving when asked to stop.
pub fn train(
    config: &TrainConfig,
    options: TrainOptions<'_>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<()> {
    let out = options.out;
    config.check().map_err(|reason| Error::Config {
        path: "(configuration)".into(),
        reason,
    })?;
    std::fs::create_dir_all(out).map_err(|e| Error::io("create", out, e))?;
    let _lock = resume::enter(config, &options)?;
    let start = match options.init {
        Some(folder) => Some(start_from(config, folder, device)?),
        None => None,
    };
    let data = load(config, options.data, progress)?;
    resume::record(config, out, &data, start.as_ref())?;
    let run = run::Run {
        config,
        data: &data,
        device,
        folder: out,
    };
    let precision = config.training_precision().map_err(Error::Argument)?;
    if precision == Precision::Tf32 && !device.is_cuda() {
        return Err(Error::Argument(
            "precision = \"tf32\" is known to CUDA devices alone; use f32 here".into(),
        ));
    }
    precision::with(precision, || {
        stages(&run, &options, start.as_ref(), progress)
    })
}

/// Trains the networks asked for, and writes the bundle once both have a checkpoint.
fn stages(
    run: &run::Run<'_>,
    options: &TrainOptions<'_>,
    start: Option<&bundle::Start>,
    progress: &dyn Progress,
) -> Result<()> {
    let (config, device, out) = (run.config, run.device, run.folder);
    if options.stage != StageChoice::High {
        let mut low = low::Low::new(config, device)?;
        run::train(
            &mut low,
            run,
            config.low.optim.steps,
            options.resume,
            start.map(|s| &s.score),
            progress,
        )?;
    }
    if options.stage != StageChoice::Low {
        let mut high = high::High::new(config, device)?;
        run::train(
            &mut high,
            run,
            config.high.optim.steps,
            options.resume,
            start.map(|s| &s.generator),
            progress,
        )?;
    }
    if run.checkpoint("low").exists() && run.checkpoint("high").exists() {
        let bundle = out.join("bundle");
        write_bundle(out, &bundle, bundle::Precision::F32)?;
        progress.event(TrainEvent::Bundle(&bundle));
    }
    Ok(())
}

/// The bundle to start from, whose bands must mean what this run's do; the tensors' shapes are checked later.
fn start_from(config: &TrainConfig, folder: &Path, device: &Device) -> Result<bundle::Start> {
    let start = bundle::read_start(folder, device)?;
    let theirs = &start.config;
    let same = [
        ("wavelet", &theirs.wavelet, &config.wavelet),
        (
            "levels",
            &theirs.levels.to_string(),
            &config.levels.to_string(),
        ),
        (
            "fold",
            &theirs.fold.to_string(),
            &config.low.fold.to_string(),
        ),
    ];
    match same.iter().find(|(_, theirs, ours)| theirs != ours) {
        None => Ok(start),
        Some((field, theirs, ours)) => Err(Error::Argument(format!(
            "the bundle {} has {field} {theirs}, the configuration {ours}: its weights are for other bands; change the configuration or start without it",
            folder.display()
        ))),
    }
}

fn load(config: &TrainConfig, folder: &Path, progress: &dyn Progress) -> Result<data::TrainData> {
    let watch = |p: LoadProgress| {
        progress.event(TrainEvent::Loading {
            done: p.done,
            total: p.total,
        });
        match progress.stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let (set, broken) =
        PictureSet::load(folder, config.size as u32, &LoadOptions::default(), &watch)?;
    for broken in &broken {
        progress.event(TrainEvent::Skipped(broken));
    }
    let data = data::TrainData::new(set, config.levels, Transform::new(&config.wavelet)?)?;
    for stats in &data.stats {
        check_stats(stats)
            .map_err(|e| Error::Argument(format!("the pictures in {}: {e}", folder.display())))?;
    }
    Ok(data)
}

/// Writes the averaged weights of a run's checkpoints as a bundle.
///
/// # Errors
/// A run without both checkpoints, or one whose tensors do not fit its configuration.
pub fn write_bundle(run: &Path, out: &Path, precision: bundle::Precision) -> Result<()> {
    let config = TrainConfig::read(&run.join("config.toml"))?;
    let info = resume::RunInfo::read(run)?;
    let (score, low_steps) = checkpoint::averages(&run::checkpoint_path(run, "low"))?;
    let (generator, high_steps) = checkpoint::averages(&run::checkpoint_path(run, "high"))?;
    let provenance = Provenance {
        seed: config.seed,
        pictures: info.pictures,
        data_fingerprint: info.fingerprint,
        low_steps,
        low_batch: config.low.optim.batch,
        high_steps,
        high_batch: config.high.optim.batch,
        init: info.init,
    };
    let bundle = BundleConfig::new(&config, info.levels, provenance);
    bundle::write(out, &bundle, score, generator, precision)
}
