//! `wmgm compare`.

use super::device::DeviceArgs;
use super::progress::{TrainBars, stop_flag};
use super::say::{say, warn};
use std::io::Write;
use std::path::{Path, PathBuf};
use wmgm::compare::{
    CompareConfig, CompareEvent, CompareOptions, Watcher, compare, total_work, training_work,
};
use wmgm::error::{Error, Result};
use wmgm::files::write_atomic;
use wmgm::train::{Progress, TrainEvent};

/// Train models with equal work and compare their pictures.
///
/// Each model of the configuration is trained at the same number of multiply-adds, unless that is done already; then its
/// pictures are judged at equal numbers of network passes, the generator's included. Ctrl-C and SIGTERM save and stop, with
/// exit code 130; the same command goes on, also after a crash. OUT then has results.json, timings.json, results.md, plots
/// and sheets. Without folders it tells what would be trained, and how much work that is.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Configuration (TOML); the training configurations it names are beside it.
    config: PathBuf,
    /// Folder of pictures to train on and to compare with, searched with its subfolders.
    #[arg(long, value_name = "DIR", requires = "out")]
    data: Option<PathBuf>,
    /// Folder of the comparison.
    #[arg(long, value_name = "DIR", requires = "data")]
    out: Option<PathBuf>,
    /// Write each model's training configuration to DIR/NAME.toml, for `wmgm train` on other machines. What is trained so is
    /// OUT/NAME here, and is not trained again.
    #[arg(long, value_name = "DIR", conflicts_with = "data")]
    configs: Option<PathBuf>,
    /// A feature network's weights, as NETWORK=FILE; may be given several times [default: where `cargo xtask feature-weights`
    /// puts them].
    #[arg(long, value_name = "NETWORK=FILE", value_parser = super::weights::named)]
    weights: Vec<(String, PathBuf)>,
    /// results.json of another comparison with the same pictures: its models are told beside this one's, and not trained. With
    /// their seconds, if its timings.json lies there, too; may be given several times.
    #[arg(long, value_name = "RESULTS", requires = "out")]
    beside: Vec<PathBuf>,
    /// Measure again what sampling takes at points that are there, with a batch of pictures for each: for points that another
    /// machine made, or this one beside other work.
    #[arg(long, requires = "out")]
    time_again: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl CompareArgs {
    pub fn run(self) -> Result<()> {
        let config = CompareConfig::read(&self.config)?;
        if let Some(folder) = &self.configs {
            write_configs(&config, folder)?;
        }
        let (Some(data), Some(out)) = (&self.data, &self.out) else {
            return say(&plan(&config)?);
        };
        let device = self.device.open()?;
        let weights = self.weights.iter().cloned().collect();
        let watch = Watch(TrainBars::new(stop_flag()));
        let options = CompareOptions {
            data,
            out,
            weights: &weights,
            beside: &self.beside,
            time_again: self.time_again,
        };
        let results = compare(&config, &options, &device, &watch)?;
        say(&format!(
            "compared  {} models at {} points\nwritten   {}\n",
            results.models.len(),
            results.models.iter().map(|m| m.points.len()).sum::<usize>(),
            out.join("results.md").display()
        ))
    }
}

fn write_configs(config: &CompareConfig, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    for planned in config.plan()? {
        let path = folder.join(format!("{}.toml", planned.model.name));
        let text = planned.text()?;
        write_atomic(&path, |w| w.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Every model's stages and their work.
fn plan(config: &CompareConfig) -> Result<String> {
    let mut text = String::new();
    let mut all = 0u64;
    for planned in config.plan()? {
        let work = training_work(&planned.run)?;
        let total = total_work(&work);
        all = all.saturating_add(total);
        let stages: Vec<String> = (work.iter())
            .map(|w| format!("{} {} steps of {:.3e}", w.stage, w.steps, w.step as f64))
            .collect();
        text += &format!(
            "{:<20} {:.3e} multiply-adds: {}\n",
            planned.model.name,
            total as f64,
            stages.join(", ")
        );
    }
    Ok(text
        + &format!(
            "{:<20} {:.3e} multiply-adds of training\n",
            "all", all as f64
        ))
}

/// Bars of training, and a line for every model and point.
struct Watch(TrainBars);

impl Progress for Watch {
    fn event(&self, event: TrainEvent<'_>) {
        self.0.event(event);
    }

    fn stop(&self) -> bool {
        self.0.stop()
    }
}

impl Watcher for Watch {
    fn compare(&self, event: CompareEvent<'_>) {
        match event {
            CompareEvent::Reference(name) => warn(&format!("{name} of the training pictures")),
            CompareEvent::Model(name) => warn(&format!("model {name}")),
            CompareEvent::Point {
                model,
                number,
                of,
                there,
            } => {
                let there = if there { ", there already" } else { "" };
                warn(&format!("{model}: point {number} of {of}{there}"));
            }
            _ => {}
        }
    }
}
