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

    /// Whether the next step's pictures are made during a step: on the processor a step needs all cores itself.
    pub(super) fn ahead(&self) -> bool {
        !self.device.is_cpu()
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

/// What the steps of a stage work on, made one step ahead: while a GPU works, the processor has time for it.
pub(super) struct Ahead<T>(Option<(u64, T)>);

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send> Ahead<T> {
    /// `work` on what `make` gives for `step`, which must be the same whenever it is made; `ahead`, the next step's is made
    /// meanwhile.
    ///
    /// # Errors
    /// Those of `work`, and of `make` for this step.
    pub(super) fn step<R>(
        &mut self,
        step: u64,
        ahead: bool,
        make: impl Fn(u64) -> Result<T> + Sync,
        work: impl FnOnce(T) -> Result<R>,
    ) -> Result<R> {
        let mine = match self.0.take() {
            Some((made, mine)) if made == step => mine,
            _ => make(step)?,
        };
        if !ahead {
            return work(mine);
        }
        std::thread::scope(|scope| {
            let next = scope.spawn(|| make(step + 1));
            let done = work(mine);
            let next = next.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
            // What failed is tried again, and told, when its step comes.
            self.0 = next.ok().map(|next| (step + 1, next));
            done
        })
    }
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
        checkpoint::save(&path, name, step, &stage.parts())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn what_is_made_ahead_is_that_of_its_step() {
        let made = Mutex::new(Vec::new());
        let make = |step: u64| {
            made.lock().unwrap().push(step);
            match step {
                4 if made.lock().unwrap().iter().filter(|s| **s == 4).count() == 1 => {
                    Err(Error::Argument("not yet".into()))
                }
                _ => Ok(10 * step),
            }
        };
        let mut examples = Ahead::default();
        // Resumed elsewhere in between: 2 was made for nothing.
        for step in [0, 1, 3, 4] {
            let got = examples.step(step, true, make, |x| Ok(x + 1)).unwrap();
            assert_eq!(got, 10 * step + 1);
        }
        // 4 failed when it was made ahead of its step, and was made again.
        assert_eq!(made.into_inner().unwrap(), [0, 1, 2, 3, 4, 4, 5]);

        let seen = Mutex::new(Vec::new());
        let make = |step: u64| {
            seen.lock().unwrap().push(step);
            Ok(step)
        };
        let mut examples = Ahead::default();
        for step in 0..3 {
            examples.step(step, false, make, Ok).unwrap();
        }
        assert_eq!(seen.into_inner().unwrap(), [0, 1, 2]);
        let failed = examples.step(3, true, Ok, |_| Err::<(), _>(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
    }
}
