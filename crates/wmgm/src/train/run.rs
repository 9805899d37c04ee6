//! The loop every stage of training runs in: steps, metrics, checkpoints, previews, stopping.

use super::checkpoint::{self, Part};
use super::data::TrainData;
use super::start::Given;
use super::{Progress, TrainEvent};
use crate::config::ReportConfig;
use crate::error::{Error, Result};
use crate::picture::RgbImage;
use candle_core::{Device, Tensor};
use nn_ops::noise;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the steps of a run share.
pub(super) struct Run<'a> {
    /// Seed of everything random.
    pub seed: u64,
    /// Side of the pictures.
    pub size: usize,
    pub report: &'a ReportConfig,
    pub data: &'a TrainData,
    pub device: &'a Device,
    pub folder: &'a Path,
}

impl Run<'_> {
    /// The pictures of a step: every picture once per epoch, in an order that only depends on the seed.
    pub(super) fn batch(&self, step: u64, batch: usize) -> Vec<usize> {
        let len = self.data.set.len() as u64;
        let start = step * batch as u64;
        let mut epoch = u64::MAX;
        let mut order = Vec::new();
        (start..start + batch as u64)
            .map(|at| {
                if at / len != epoch {
                    epoch = at / len;
                    order = noise::permutation(self.seed, epoch as u32, len as usize);
                }
                order[(at % len) as usize] as usize
            })
            .collect()
    }

    pub(super) fn checkpoint(&self, stage: &str) -> PathBuf {
        checkpoint_path(self.folder, stage)
    }
}

/// Where a stage's checkpoint lies in a run's folder.
pub(crate) fn checkpoint_path(folder: &Path, stage: &str) -> PathBuf {
    folder.join(format!("{stage}.checkpoint.safetensors"))
}

/// Where the lines of its metrics lie.
pub(crate) fn metrics_path(folder: &Path, stage: &str) -> PathBuf {
    folder.join(format!("{stage}.metrics.jsonl"))
}

/// A network in training.
pub(super) trait Stage {
    /// What its checkpoint, metrics and previews are named by.
    fn name(&self) -> &'static str;
    /// Everything a checkpoint must hold.
    fn parts(&mut self) -> Vec<Part<'_>>;
    /// Takes the weights of a finished model in place of the random ones; optimisers and averages start anew.
    fn start_from(&mut self, given: Given<'_>) -> Result<()>;
    /// One step; named values for the metrics.
    fn step(&mut self, run: &Run<'_>, step: u64) -> Result<Vec<(&'static str, f64)>>;
    /// The averaged weights.
    fn weights(&self) -> Result<HashMap<String, Tensor>>;
    /// Pictures that show how far training is.
    fn preview(&self, run: &Run<'_>) -> Result<RgbImage>;
}

/// Trains a stage to its last step, or until asked to stop (after saving).
pub(super) fn train<S: Stage>(
    stage: &mut S,
    run: &Run<'_>,
    steps: u64,
    resume: bool,
    start: Option<Given<'_>>,
    progress: &dyn Progress,
) -> Result<()> {
    let name = stage.name();
    let path = run.checkpoint(name);
    let mut step = 0;
    if resume && path.exists() {
        step = checkpoint::load(&path, &mut stage.parts())?;
    } else if let Some(given) = start {
        stage.start_from(given).map_err(|e| {
            Error::Argument(format!(
                "the bundle to start from, or the guide, holds another network than the configuration: {e}"
            ))
        })?;
    }
    let mut metrics = Metrics::open(&metrics_path(run.folder, name), step)?;
    let curves = run.folder.join(format!("{name}-curves.png"));
    let report = run.report;
    progress.event(TrainEvent::Stage {
        name,
        from: step,
        steps,
    });
    let began = Instant::now();
    let mut saved = step;
    let save = |stage: &mut S, step| {
        checkpoint::save(&path, step, &stage.parts())?;
        progress.event(TrainEvent::Saved { name, step });
        Ok::<_, Error>(step)
    };
    while step < steps {
        if progress.stop() {
            if saved != step {
                save(stage, step)?;
            }
            return Err(Error::Cancelled);
        }
        let values = stage.step(run, step)?;
        step += 1;
        progress.event(TrainEvent::Step {
            step,
            values: &values,
        });
        if step.is_multiple_of(report.log_every) || step == steps {
            metrics.write(name, step, began.elapsed().as_secs_f64(), &values)?;
        }
        if step.is_multiple_of(report.preview_every) || step == steps {
            let sheet = run.folder.join(format!("{name}-{step:07}.png"));
            crate::picture::save_png(sheet, &stage.preview(run)?)?;
            if step < steps {
                super::curves::draw(&metrics.path, name, &curves)?;
            }
        }
        if step.is_multiple_of(report.checkpoint_every) || step == steps {
            saved = save(stage, step)?;
        }
    }
    // The last chart, of a run that was finished before, too.
    super::curves::draw(&metrics.path, name, &curves)
}

/// A file of JSON lines, one per report.
struct Metrics {
    path: PathBuf,
    file: std::fs::File,
}

impl Metrics {
    /// Opens the file for appending, without lines of steps that a resumed run will make again.
    fn open(path: &Path, step: u64) -> Result<Self> {
        let old = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|e| Error::io("read", path, e))?,
        };
        let kept: String = old
            .lines()
            .filter(|line| {
                let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
                value.is_some_and(|v| v["step"].as_u64().is_some_and(|s| s <= step))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        crate::files::write_atomic(path, |w| w.write_all(kept.as_bytes()))?;
        let file = std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|e| Error::io("open", path, e))?;
        Ok(Self {
            path: path.into(),
            file,
        })
    }

    fn write(
        &mut self,
        stage: &str,
        step: u64,
        seconds: f64,
        values: &[(&str, f64)],
    ) -> Result<()> {
        let mut line = serde_json::json!({"stage": stage, "step": step, "seconds": seconds});
        for (name, value) in values {
            line[*name] = (*value).into();
        }
        // In one piece, so that a killed process leaves whole lines.
        let line = format!("{line}\n");
        self.file
            .write_all(line.as_bytes())
            .map_err(|e| Error::io("write", &self.path, e))
    }
}
