//! Points of curves and marks of trained models, a file each.

use super::config::Planned;
use super::{CompareConfig, Measure};
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::files::{read_bounded, read_json, write_atomic};
use crate::picture::RgbImage;
use crate::pipeline::{Cost, Model, Pipeline, SampleEvent, SampleOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a point is of: two points of one key are the same to the last digit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointKey {
    /// The model's name.
    pub model: String,
    /// Its training configuration, and the pictures it was trained on.
    pub training: [String; 2],
    /// The sampler.
    pub sampler: String,
    /// Its steps.
    pub steps: usize,
    /// The passes that were allowed.
    pub allowed: usize,
    /// What a picture costs.
    pub cost: Cost,
    /// Seed of sampling.
    pub seed: u64,
    /// Pictures, numbered from 0.
    pub pictures: u64,
    /// What they are measured with.
    pub measures: Vec<String>,
}

impl PointKey {
    /// Whether a picture of both takes the same work.
    pub(super) fn steps_of(&self, other: &Self) -> bool {
        self.sampler == other.sampler && self.steps == other.steps
    }
}

/// What was measured at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it is of.
    pub key: PointKey,
    /// Distances by the names of their measures.
    pub distances: BTreeMap<String, f64>,
    /// What no two machines share.
    pub timing: Timing,
}

/// What sampling took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds per picture.
    pub seconds: f64,
    /// The most memory the process held while sampling, in bytes, where the system tells.
    pub peak_bytes: Option<u64>,
    /// Pictures made at a time.
    pub batch: usize,
}

/// A row of `timings.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedPoint {
    /// The model's name.
    pub model: String,
    /// The sampler.
    pub sampler: String,
    /// Network passes that a picture takes.
    pub passes: usize,
    /// Seed of sampling.
    pub seed: u64,
    /// Pictures of the point.
    pub pictures: u64,
    /// What sampling took.
    #[serde(flatten)]
    pub timing: Timing,
}

impl Point {
    /// Its row in `timings.json`.
    pub(super) fn row(&self) -> TimedPoint {
        TimedPoint {
            model: self.key.model.clone(),
            sampler: self.key.sampler.clone(),
            passes: self.key.cost.passes,
            seed: self.key.seed,
            pictures: self.key.pictures,
            timing: self.timing,
        }
    }

    /// The same, timed anew.
    pub(super) fn timed(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Trained {
    config: String,
    pictures: String,
}

const TRAINED: &str = "compare.json";

fn trained(text: &str, set: &PictureSet) -> Trained {
    Trained {
        config: text.into(),
        pictures: format!("{:016x}", set.fingerprint()),
    }
}

/// Whether a run's bundle is that of this configuration and these pictures.
pub(super) fn is_trained(run: &Path, text: &str, set: &PictureSet) -> bool {
    let mark = read_json::<Trained>(&run.join(TRAINED), 1 << 20);
    mark.is_ok_and(|mark| mark == trained(text, set)) && run.join("bundle").is_dir()
}

/// Errs if a run was begun with another configuration, of other steps, too, or from a finished model: what was trained for
/// longer is no part of an equal comparison.
pub(super) fn check_begun(run: &Path, text: &str) -> Result<()> {
    let path = run.join("config.toml");
    if !path.exists() {
        return Ok(());
    }
    let begun = read_bounded(&path, 1 << 20)?;
    let reason = if begun != text.as_bytes() {
        "with another configuration".into()
    } else if let Some(init) = crate::train::began_from(run)? {
        format!("from the model {:?}, whose work would not count", init.name)
    } else {
        return Ok(());
    };
    Err(Error::Config {
        path,
        reason: format!(
            "this model was trained, or begun, {reason}; remove its folder or name another"
        ),
    })
}

pub(super) fn mark_trained(run: &Path, text: &str, set: &PictureSet) -> Result<()> {
    write_json(&run.join(TRAINED), &trained(text, set))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| Error::Argument(e.to_string()))?;
    write_atomic(path, |w| w.write_all(&text))?;
    Ok(())
}

/// The points of a model: every sampler at every number of passes for every seed, and the headline; those of an ablation at
/// the sheets' passes alone.
pub(super) fn keys(
    config: &CompareConfig,
    plan: &Planned,
    model: &Model,
    text: &str,
    set: &PictureSet,
    measures: &[Box<dyn Measure>],
) -> Result<Vec<PointKey>> {
    let measures: Vec<String> = measures.iter().map(|m| m.identity()).collect();
    let samplers: Vec<Option<&str>> = match plan.model.samplers.as_slice() {
        [] => vec![None],
        names => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    let mut keys = Vec::new();
    for sampler in samplers {
        let mut before = 0;
        for &allowed in &config.passes {
            if plan.model.ablation && allowed != config.sheet {
                continue;
            }
            let Some((steps, cost)) = most_steps(model, sampler, allowed)? else {
                continue;
            };
            // The same point again would be no new one, but the sheets' is asked for by name.
            if steps == before && allowed != config.sheet {
                continue;
            }
            before = steps;
            for &seed in &config.seeds {
                keys.push(PointKey {
                    model: plan.model.name.clone(),
                    training: [text.into(), trained(text, set).pictures],
                    sampler: model.plan(&options(sampler, steps, seed))?.sampler,
                    steps,
                    allowed,
                    cost,
                    seed,
                    pictures: config.pictures,
                    measures: measures.clone(),
                });
            }
        }
    }
    let first = keys.iter().find(|key| key.allowed == config.sheet);
    if let (Some(pictures), Some(first)) = (config.headline, first)
        && !plan.model.ablation
    {
        keys.push(PointKey {
            pictures,
            ..first.clone()
        });
    }
    Ok(keys)
}

fn options(sampler: Option<&str>, steps: usize, seed: u64) -> SampleOptions {
    SampleOptions {
        seed,
        sampler: sampler.map(Into::into),
        steps: Some(steps),
        ..SampleOptions::default()
    }
}

/// The most steps that so many passes pay for, if they pay for any.
fn most_steps(
    model: &Model,
    sampler: Option<&str>,
    allowed: usize,
) -> Result<Option<(usize, Cost)>> {
    // An unknown sampler is an error; too few steps for a model are none.
    model.cost(&options(sampler, 2, 0))?;
    for steps in (1..=allowed).rev() {
        match model.cost(&options(sampler, steps, 0)) {
            Ok(Some(cost)) if cost.passes <= allowed => return Ok(Some((steps, cost))),
            Ok(_) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The file of a point; what its name leaves out of the key, the file tells.
fn file(folder: &Path, key: &PointKey) -> PathBuf {
    let PointKey {
        model,
        sampler,
        allowed,
        seed,
        pictures,
        ..
    } = key;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let sampler: String = sampler.chars().map(plain).collect();
    folder.join(format!(
        "{model}-{sampler}-{allowed:04}-{pictures}-{seed}.json"
    ))
}

/// A point that is there and is of exactly this key.
pub(super) fn read(folder: &Path, key: &PointKey) -> Option<Point> {
    let point: Point = read_json(&file(folder, key), 1 << 20).ok()?;
    (point.key == *key).then_some(point)
}

pub(super) fn write(folder: &Path, key: &PointKey, point: &Point) -> Result<()> {
    write_json(&file(folder, key), point)
}

/// Samples and measures.
pub(super) fn make(
    config: &CompareConfig,
    key: &PointKey,
    model: &Model,
    measures: &[Box<dyn Measure>],
    stop: &dyn Fn() -> bool,
) -> Result<Point> {
    let (pictures, timing) = timed(config, key, model, key.pictures, stop)?;
    let mut distances = BTreeMap::new();
    for measure in measures {
        distances.extend(
            measure
                .names()
                .into_iter()
                .zip(measure.distances(&pictures)?),
        );
    }
    Ok(Point {
        key: key.clone(),
        distances,
        timing,
    })
}

/// What sampling takes, by one batch.
pub(super) fn time(
    config: &CompareConfig,
    key: &PointKey,
    model: &Model,
    stop: &dyn Fn() -> bool,
) -> Result<Timing> {
    let batch = key.pictures.min(config.batch as u64);
    Ok(timed(config, key, model, batch, stop)?.1)
}

/// The first `n` pictures, and what they took.
fn timed(
    config: &CompareConfig,
    key: &PointKey,
    model: &Model,
    n: u64,
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<RgbImage>, Timing)> {
    reset_peak();
    let began = Instant::now();
    let pictures = pictures(config, key, model, 0..n, stop)?;
    let timing = Timing {
        seconds: began.elapsed().as_secs_f64() / n as f64,
        peak_bytes: peak(),
        batch: config.batch,
    };
    Ok((pictures, timing))
}

fn pictures(
    config: &CompareConfig,
    key: &PointKey,
    model: &Model,
    which: std::ops::Range<u64>,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<RgbImage>> {
    let options = SampleOptions {
        pictures: which,
        batch: config.batch,
        ..options(Some(&key.sampler), key.steps, key.seed)
    };
    let watch = |_: SampleEvent| match stop() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    model.sample_with(&options, &watch)
}

/// The first pictures of the first seed at the sheets' passes, with the first sampler.
pub(super) fn sheet(
    config: &CompareConfig,
    model: &Model,
    keys: &[PointKey],
    stop: &dyn Fn() -> bool,
) -> Result<Vec<RgbImage>> {
    let Some(key) = keys.iter().find(|key| key.allowed == config.sheet) else {
        return Ok(Vec::new());
    };
    pictures(config, key, model, 0..key.pictures.min(8), stop)
}

/// Lets the peak of the process's memory begin anew.
fn reset_peak() {
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The peak of the process's memory in bytes, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Seconds that training took, of all its interrupted parts, by the metrics of its stages.
pub(super) fn training_seconds(run: &Path, stages: &[&str]) -> Result<f64> {
    let mut total = 0.0;
    for stage in stages {
        let path = crate::train::run::metrics_path(run, stage);
        let bytes = read_bounded(&path, 1 << 30)?;
        let mut before = 0.0;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let seconds = line["seconds"].as_f64().unwrap_or(before);
            // A part that went on after an interruption counts from 0 again.
            if seconds < before {
                total += before;
            }
            before = seconds;
        }
        total += before;
    }
    Ok(total)
}
