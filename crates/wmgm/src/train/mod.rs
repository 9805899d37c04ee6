//! Training from a folder of pictures, network by network: WMGM's score network of the low band and generator of details,
//! or the score networks of all bands (SGM and WSGM).

mod band;
mod checkpoint;
mod curves;
mod data;
mod diffusion;
mod high;
mod objective;
mod resume;
pub(crate) mod run;
mod start;
mod teacher;

use crate::bands::{check_band_stats, check_stats};
use crate::bundle::{self, BundleConfig, ByBand, DiffusedBundle, Provenance, Trained, band_name};
use crate::config::{LowConfig, RunConfig};
use crate::data::{Broken, LoadOptions, LoadProgress, PictureSet};
use crate::error::{Error, Result};
use crate::transform::Transform;
use candle_core::Device;
use nn_ops::{Precision, precision};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Which networks to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageChoice {
    /// The low band's diffusion model; of SGM, that of the pixels.
    Low,
    /// The detail generator; of WSGM, the diffusion models of all levels' details.
    High,
    /// All, one after the other.
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
        /// low, high, or of WSGM's details level1, level2, ...
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
        /// low, high, or of WSGM's details level1, level2, ...
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
    /// A bundle of a worse model, which guides what a stage is taught; see [`GuideConfig`](crate::config::GuideConfig).
    pub guide: Option<&'a Path>,
    /// Stages that were trained to their end with the same configuration and pictures, and the folders of those runs: their
    /// checkpoints are taken over where this run has none.
    pub finished: &'a [(&'static str, PathBuf)],
}

/// Trains as configured; ends with a bundle in `out/bundle` once all networks are done.
///
/// # Errors
/// Bad configuration, data or folder; a folder that another process trains in, or whose run was begun with another
/// network or other pictures; a diverging loss; [`Error::Cancelled`] after saving when asked to stop.
pub fn train(
    config: &RunConfig,
    options: TrainOptions<'_>,
    device: &Device,
    progress: &dyn Progress,
) -> Result<()> {
    let out = options.out;
    config.check().map_err(|reason| Error::Config {
        path: "(configuration)".into(),
        reason,
    })?;
    let stages = stages(config);
    let chosen = |stage: &&str| match options.stage {
        StageChoice::All => true,
        StageChoice::Low => *stage == "low",
        StageChoice::High => *stage != "low",
    };
    let chosen: Vec<&'static str> = stages.iter().copied().filter(|s| chosen(s)).collect();
    if chosen.is_empty() {
        return Err(Error::Argument(
            "stage high: a model of kind sgm has one network, that of its pixels; use low or all"
                .into(),
        ));
    }
    check_teachers(config, &chosen, &options)?;
    std::fs::create_dir_all(out).map_err(|e| Error::io("create", out, e))?;
    let _lock = resume::enter(config, &chosen, &options)?;
    let read = |folder| start::read(config, folder, device);
    let start = options.init.map(read).transpose()?;
    let guide = options.guide.map(read).transpose()?;
    let data = load(config, options.data, progress)?;
    resume::record(config, out, &data, start.as_ref(), &chosen)?;
    for (stage, folder) in options.finished {
        resume::take_over(stage, folder, out)?;
    }
    let run = run::Run {
        seed: config.seed(),
        size: config.size(),
        report: config.report(),
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
        for name in chosen {
            let weights = start.as_ref().and_then(|s| s.weights.get(name));
            let given = weights.map(|weights| start::Given {
                weights,
                guide: guide.as_ref().and_then(|g| g.weights.get(name)),
            });
            train_stage(config, name, &run, options.resume, given, progress)?;
        }
        Ok::<_, Error>(())
    })?;
    let mut finished = true;
    for stage in &stages {
        let path = run.checkpoint(stage);
        finished &= path.exists() && checkpoint::steps(&path)? >= steps(config, stage);
    }
    if finished {
        let bundle = out.join("bundle");
        write_bundle(out, &bundle, bundle::Precision::F32, None)?;
        progress.event(TrainEvent::Bundle(&bundle));
    }
    Ok(())
}

/// Trains one network of a run.
fn train_stage(
    config: &RunConfig,
    name: &str,
    run: &run::Run<'_>,
    resume: bool,
    given: Option<start::Given<'_>>,
    progress: &dyn Progress,
) -> Result<()> {
    if let (RunConfig::Wmgm(c), "high") = (config, name) {
        let mut high = high::High::new(c, run.device)?;
        return run::train(&mut high, run, steps(config, name), resume, given, progress);
    }
    match bands(config)
        .into_iter()
        .find(|b| band_name(b.level) == name)
    {
        Some(band) => {
            let mut low = diffusion::Diffusion::new(band, run)?;
            run::train(&mut low, run, steps(config, name), resume, given, progress)
        }
        None => Ok(()),
    }
}

/// The networks of a finished model, of the same bands and pictures as a run's.
fn the_rest(config: &RunConfig, info: &resume::RunInfo, folder: &Path) -> Result<start::Start> {
    if let RunConfig::Diffused(_) = config {
        return Err(Error::Argument(
            "--rest: runs of kind sgm and wsgm are bundled as a whole; train what is missing"
                .into(),
        ));
    }
    let rest = start::read(config, folder, &Device::Cpu)?;
    if rest.init.data_fingerprint != info.fingerprint {
        return Err(Error::Argument(format!(
            "--rest: {} was trained on other pictures (fingerprint {}, the run's is {}), its bands mean something else",
            folder.display(),
            rest.init.data_fingerprint,
            info.fingerprint
        )));
    }
    Ok(rest)
}

/// Whether every band that is yet to be taught has its teacher and its guide, and no guide is named for nothing.
fn check_teachers(config: &RunConfig, chosen: &[&str], options: &TrainOptions<'_>) -> Result<()> {
    let bands = bands(config);
    if options.guide.is_some() && bands.iter().all(|b| b.config.guide.is_none()) {
        return Err(Error::Argument(
            "--guide: the configuration has no [low.guide] that says with which weight".into(),
        ));
    }
    for band in bands {
        let name = band_name(band.level);
        let begun = options.resume && run::checkpoint_path(options.out, name).exists();
        let LowConfig { distill, guide, .. } = band.config;
        if begun || !chosen.contains(&name) || (distill.is_none() && guide.is_none()) {
            continue;
        }
        if options.init.is_none() {
            return Err(Error::Argument(format!(
                "{name} is to be taught: name the bundle of its teacher with --init"
            )));
        }
        if guide.is_some() && options.guide.is_none() {
            return Err(Error::Argument(format!(
                "{name} is to be taught by a guided teacher: name the bundle of the worse model with --guide"
            )));
        }
    }
    Ok(())
}

/// The names of a run's stages in their order.
pub(crate) fn stages(config: &RunConfig) -> Vec<&'static str> {
    match config {
        RunConfig::Wmgm(_) => vec!["low", "high"],
        RunConfig::Diffused(c) => c.bands().map(|(level, _)| band_name(level)).collect(),
    }
}

/// The steps of a stage.
fn steps(config: &RunConfig, stage: &str) -> u64 {
    match (config, stage) {
        (RunConfig::Wmgm(c), "high") => c.high.optim.steps,
        _ => (bands(config).iter())
            .find(|band| band_name(band.level) == stage)
            .map_or(0, |band| band.config.optim.steps),
    }
}

/// The model that a run's networks began from, if they did not begin at random.
pub(crate) fn began_from(run: &Path) -> Result<Option<bundle::Init>> {
    match run.join(resume::BANDS).exists() {
        true => Ok(resume::RunInfo::read(run)?.init),
        false => Ok(None),
    }
}

/// The bands of a run that are diffused.
fn bands(config: &RunConfig) -> Vec<band::Band<'_>> {
    match config {
        RunConfig::Wmgm(c) => vec![band::Band {
            level: None,
            side: c.size >> c.levels,
            config: &c.low,
            sample: &c.sample,
        }],
        RunConfig::Diffused(c) => {
            let band = |(level, config)| band::Band {
                level,
                side: c.side(level),
                config,
                sample: &c.sample,
            };
            c.bands().map(band).collect()
        }
    }
}

fn load(config: &RunConfig, folder: &Path, progress: &dyn Progress) -> Result<data::TrainData> {
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
    let (set, broken) = PictureSet::load(
        folder,
        config.size() as u32,
        &LoadOptions::default(),
        &watch,
    )?;
    for broken in &broken {
        progress.event(TrainEvent::Skipped(broken));
    }
    let (levels, wavelet) = config.wavelet();
    let mut data = data::TrainData::new(set, levels, Transform::new(wavelet)?)?;
    let pixels = data
        .pixels
        .iter()
        .map(|s| check_band_stats("the pixels", s));
    let mut checks = pixels.chain(data.stats.iter().map(check_stats));
    checks
        .try_for_each(|check| check)
        .map_err(|e| Error::Argument(format!("the pictures in {}: {e}", folder.display())))?;
    if let RunConfig::Diffused(c) = config
        && c.low.by_channel
    {
        data.measure_channels(c.low.fold)?;
    }
    Ok(data)
}

/// Writes the averaged weights of a run's checkpoints as a bundle; of a run of kind wmgm that trained one network alone, the
/// other comes from `rest`, a bundle made from the same pictures.
///
/// # Errors
/// A run without the checkpoints of all its networks (and no `rest`), or one whose tensors do not fit its configuration.
pub fn write_bundle(
    run: &Path,
    out: &Path,
    precision: bundle::Precision,
    rest: Option<&Path>,
) -> Result<()> {
    let config = RunConfig::read(&run.join("config.toml"))?;
    let info = resume::RunInfo::read(run)?;
    let rest = rest.map(|folder| the_rest(&config, &info, folder));
    let rest = rest.transpose()?;
    let averages = |stage: &'static str| {
        let path = run::checkpoint_path(run, stage);
        match &rest {
            Some(rest) if !path.exists() => {
                let weights = rest.weights.get(stage).cloned().unwrap_or_default();
                let steps = match stage {
                    "low" => rest.init.low_steps,
                    _ => rest.init.high_steps,
                };
                Ok((weights, steps))
            }
            _ => checkpoint::averages(&path),
        }
    };
    match config {
        RunConfig::Wmgm(config) => {
            let (score, low_steps) = averages("low")?;
            let (generator, high_steps) = averages("high")?;
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
        RunConfig::Diffused(config) => {
            let (mut networks, mut steps) = (ByBand::new(), Vec::new());
            for (level, _) in config.bands() {
                let name = band_name(level);
                let (tensors, done) = averages(name)?;
                networks.insert(name, tensors);
                steps.push(done);
            }
            let trained = Trained {
                pixels: info.pixels,
                channels: info.channels,
                bands: info.levels,
                pictures: info.pictures,
                data_fingerprint: info.fingerprint,
                init: info.init,
                steps,
            };
            let bundle = DiffusedBundle::new(&config, trained);
            bundle::write_diffused(out, &bundle, networks, precision)
        }
    }
}
