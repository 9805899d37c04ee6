//! Models trained with equal work, and what their pictures are worth at equal numbers of network passes.
//!
//! A comparison is a folder: each model's run in `NAME/`, each point of a curve in `points/`, a file each, written whole. What is
//! there and belongs to the same configuration and pictures is not made again, so a comparison can be stopped and killed at
//! will. The report is made of these files: `results.json`, which the same configuration and pictures give again to the last
//! digit, `timings.json`, which no two machines share, plots, sheets and `results.md`. It is made anew after every model that was not there. What
//! two models train alike, such as the low band of ablations of the details, is trained once.

mod beside;
mod budget;
mod config;
mod features;
mod measure;
mod point;
mod report;
mod shared;

pub use budget::{StageWork, total_work, training_work};
pub use config::{CompareConfig, ModelConfig, Planned};
pub use features::FeatureDistance;
pub use measure::{BandDistance, Measure};
pub use point::{Point, PointKey, TimedPoint, Timing};
pub use report::{Entry, Results, Summary, Timings};

use crate::data::{LoadOptions, PictureSet, quiet};
use crate::error::{Error, Result};
use crate::eval::FeatureSpace;
use crate::pipeline::Model;
use crate::train::{Progress, StageChoice, TrainOptions, train};
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a comparison tells whoever watches, beside the events of training.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompareEvent<'a> {
    /// The features of the reference are found, or are there already.
    Reference(&'a str),
    /// A model is trained, or is there already.
    Model(&'a str),
    /// A point is made: its number from 1, and how many there are of this model.
    Point {
        /// The model.
        model: &'a str,
        /// From 1.
        number: usize,
        /// Of so many.
        of: usize,
        /// Whether it was there already.
        there: bool,
    },
}

/// Who watches a comparison, and may stop it.
pub trait Watcher: Progress {
    /// Something happened.
    fn compare(&self, event: CompareEvent<'_>);
}

/// Where a comparison is, and what of it is done again.
#[derive(Debug)]
pub struct CompareOptions<'a> {
    /// Folder of pictures, to train on and to compare with.
    pub data: &'a Path,
    /// Folder of the comparison.
    pub out: &'a Path,
    /// Files of the networks whose features are compared, by the networks' names; others are looked for where
    /// [`find_weights`](crate::eval::find_weights) does.
    pub weights: &'a BTreeMap<String, PathBuf>,
    /// `results.json` of other comparisons with the same pictures, whose models are told beside this one's. Of what their
    /// sampling took, what a `timings.json` in the same folder says, if there is one.
    pub beside: &'a [PathBuf],
    /// Measure again what sampling takes at points that are there, with one batch of pictures: they may be another
    /// machine's, or were made beside other work.
    pub time_again: bool,
}

/// Trains what is missing, makes the points that are missing, and writes the report.
///
/// # Errors
/// Bad configuration, data or folder; errors of training and sampling; [`Error::Cancelled`] when asked to stop, after which
/// the same call goes on.
pub fn compare(
    config: &CompareConfig,
    options: &CompareOptions<'_>,
    device: &Device,
    watcher: &dyn Watcher,
) -> Result<Results> {
    let CompareOptions {
        data, out, weights, ..
    } = *options;
    config.check()?;
    let points = out.join("points");
    std::fs::create_dir_all(&points).map_err(|e| Error::io("create", &points, e))?;
    let _lock = crate::files::claim(out, "comparing")?;
    for folder in [out, &points] {
        crate::files::remove_stale(folder)?;
    }
    // Before what takes long.
    let others = beside::read(options.beside)?;
    let planned = config.plan()?;
    let size = planned.first().map_or(0, |p| p.run.size());
    let (set, _) = PictureSet::load(data, size as u32, &LoadOptions::default(), &quiet)?;
    let mut measures: Vec<Box<dyn Measure>> = vec![Box::new(BandDistance::new(&set)?)];
    for name in &config.features {
        watcher.compare(CompareEvent::Reference(name));
        let space = FeatureSpace::find(name, |network| weights.get(network).map(PathBuf::as_path))?;
        let stop = || watcher.stop();
        let measure = FeatureDistance::new(&space, &set, config.pictures, out, device, &stop)?;
        measures.push(Box::new(measure));
    }
    let beside = beside::models(others, config, &set, &measures)?;
    let mut entries = Vec::new();
    for (i, plan) in planned.iter().enumerate() {
        watcher.compare(CompareEvent::Model(&plan.model.name));
        let run = out.join(&plan.model.name);
        let bundle = run.join("bundle");
        let text = plan.text()?;
        let mut fresh = false;
        if !point::is_trained(&run, &text, &set) {
            point::check_begun(&run, &text)?;
            let finished = shared::finished(plan, &planned[..i], out)?;
            let options = TrainOptions {
                data,
                out: &run,
                stage: StageChoice::All,
                resume: true,
                init: None,
                guide: None,
                finished: &finished,
            };
            train(&plan.run, options, device, watcher)?;
            point::mark_trained(&run, &text, &set)?;
            fresh = true;
        }
        let model = Model::open(&bundle, device)?;
        let keys = point::keys(config, plan, &model, &text, &set, &measures)?;
        let mut made: Vec<Point> = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            let there = point::read(&points, key);
            watcher.compare(CompareEvent::Point {
                model: &plan.model.name,
                number: i + 1,
                of: keys.len(),
                there: there.is_some(),
            });
            let stop = || watcher.stop();
            let point = match there {
                Some(point) if !options.time_again => point,
                known => {
                    let point = match known {
                        // Neither seed nor number of pictures changes what one takes.
                        Some(point) => match made.iter().find(|p| p.key.steps_of(key)) {
                            Some(timed) => point.timed(timed.timing),
                            None => point.timed(point::time(config, key, &model, &stop)?),
                        },
                        None => point::make(config, key, &model, &measures, &stop)?,
                    };
                    point::write(&points, key, &point)?;
                    fresh = true;
                    point
                }
            };
            made.push(point);
            if watcher.stop() {
                return Err(Error::Cancelled);
            }
        }
        let sheet = point::sheet(config, &model, &keys, &|| watcher.stop())?;
        entries.push(report::Made {
            entry: report::entry(config, plan, &model, &made)?,
            seconds: Some(point::training_seconds(&run, &plan.stages())?),
            timings: made.iter().map(Point::row).collect(),
            sheet,
            seeds: config.seeds.clone(),
        });
        // A long comparison can be read while it goes on. What was there already stays as a longer report told it.
        if fresh && entries.len() < planned.len() {
            report::write(config, &set, &measures, &entries, &beside, out)?;
        }
    }
    report::write(config, &set, &measures, &entries, &beside, out)
}
