//! A comparison's TOML.

use super::budget::spend;
use crate::config::{FEWEST_STEPS, RunConfig};
use crate::error::{Error, Result};
use crate::eval::FeatureSpace;
use crate::files::read_bounded;
use score_sde::sampler::SolverConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is compared, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// Its name, for titles.
    pub name: String,
    /// Multiply-adds that the training of each model may cost, see [`super::training_work`].
    pub multiply_adds: f64,
    /// Network passes at which pictures are judged, of all networks together; each point uses the most steps that they pay
    /// for.
    pub passes: Vec<usize>,
    /// Pictures of each point.
    pub pictures: u64,
    /// Seeds of sampling, a point for each.
    pub seeds: Vec<u64>,
    /// Pictures made at a time.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Passes of the sheets, of the table, and of the ablations.
    #[serde(default = "sheet")]
    pub sheet: usize,
    /// Pictures of one more point, of every model that is no ablation: with its first sampler and the first seed, at the passes
    /// of the sheets.
    #[serde(default)]
    pub headline: Option<u64>,
    /// Networks by whose features pictures are judged beside their wavelet bands, by name: [`FeatureSpace::NAMES`].
    #[serde(default)]
    pub features: Vec<String>,
    /// The models.
    #[serde(rename = "model")]
    pub models: Vec<ModelConfig>,
    /// Folder that the models' configurations are relative to: that of the file.
    #[serde(skip)]
    pub folder: PathBuf,
}

fn batch() -> usize {
    16
}

fn whole() -> f64 {
    1.0
}

fn sheet() -> usize {
    16
}

/// One model of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Its name, in letters, digits, - and _; that of its folder, too.
    pub name: String,
    /// Its training configuration, relative to the comparison's file; the steps in it are set by the budget.
    pub config: PathBuf,
    /// Whether it is an ablation: judged at the passes of the sheets alone, and listed apart.
    #[serde(default)]
    pub ablation: bool,
    /// Its part of the budget: less than 1 for short ablations.
    #[serde(default = "whole")]
    pub scale: f64,
    /// How the budget is shared by the stages, in the order of training; equally unless given.
    #[serde(default)]
    pub shares: Vec<f64>,
    /// Samplers that are tried; the model's own unless given.
    #[serde(default)]
    pub samplers: Vec<String>,
    /// Fields of the training configuration that are other here.
    #[serde(default)]
    pub set: toml::Table,
}

/// A model whose training configuration is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The model.
    pub model: ModelConfig,
    /// Its training, steps set.
    pub run: RunConfig,
}

impl Planned {
    /// The names of the run's stages.
    pub(super) fn stages(&self) -> Vec<&'static str> {
        crate::train::stages(&self.run)
    }

    /// The training configuration as TOML: what says whether a run is of this configuration.
    ///
    /// # Errors
    /// None that are known of.
    pub fn text(&self) -> Result<String> {
        toml::to_string(&self.run.value()?).map_err(|e| Error::Argument(e.to_string()))
    }
}

impl CompareConfig {
    /// Reads and checks a file and the training configurations it names.
    ///
    /// # Errors
    /// Files that cannot be read, are not TOML of this shape, or hold values out of range; file and field are named.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Config {
            path: path.into(),
            reason,
        };
        let bytes = read_bounded(path, 1 << 20)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        let mut config: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        config.checked().map_err(bad)?;
        config.plan()?;
        Ok(config)
    }

    /// Whether a comparison can use every value. [`CompareConfig::plan`] checks the training configurations.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<()> {
        self.checked().map_err(|reason| Error::Config {
            path: "(configuration)".into(),
            reason,
        })
    }

    fn checked(&self) -> std::result::Result<(), String> {
        if !(1.0..=1e24).contains(&self.multiply_adds) {
            return Err(format!(
                "multiply_adds is {:e}, it must be 1 to 1e24",
                self.multiply_adds
            ));
        }
        let ordered = self.passes.windows(2).all(|p| p[0] < p[1]);
        let within = self.passes.iter().all(|p| (1..=10_000).contains(p));
        if self.passes.is_empty() || !ordered || !within || !self.passes.contains(&self.sheet) {
            return Err(format!(
                "passes is {:?} and sheet {}: rising numbers from 1 to 10000 are needed, sheet among them",
                self.passes, self.sheet
            ));
        }
        let many = |pictures: &u64| (2..=1 << 20).contains(pictures);
        if let Some(headline) = self.headline
            && !(many(&headline) && headline > self.pictures)
        {
            return Err(format!(
                "headline is {headline}, it must be more than pictures ({}) and at most 1048576",
                self.pictures
            ));
        }
        if !many(&self.pictures) || !(1..=1 << 12).contains(&self.batch) {
            return Err(format!(
                "pictures is {} and batch {}, they must be 2 to 1048576 and 1 to 4096",
                self.pictures, self.batch
            ));
        }
        let distinct: BTreeSet<u64> = self.seeds.iter().copied().collect();
        if self.seeds.is_empty() || distinct.len() != self.seeds.len() {
            return Err(format!(
                "seeds is {:?}: one or more are needed, each once",
                self.seeds
            ));
        }
        let features: BTreeSet<&String> = self.features.iter().collect();
        let known = |name: &&String| FeatureSpace::NAMES.contains(&name.as_str());
        if features.len() != self.features.len() || !features.iter().all(known) {
            return Err(format!(
                "features is {:?}: each of {} at most once",
                self.features,
                FeatureSpace::NAMES.join(", ")
            ));
        }
        let mut names = BTreeSet::new();
        for model in &self.models {
            let name = model.name.as_str();
            if !is_name(name) {
                return Err(format!(
                    "the model {name:?} cannot be named so: up to 64 letters, digits, - and _, and not points"
                ));
            }
            if !(1e-6..=1.0).contains(&model.scale) {
                return Err(format!(
                    "the model {name}: scale is {}, it must be 1e-6 to 1",
                    model.scale
                ));
            }
            for sampler in &model.samplers {
                crate::model::solver(sampler).map_err(|e| format!("the model {name}: {e}"))?;
            }
            if !names.insert(name) {
                return Err(format!("two models are named {name:?}"));
            }
        }
        match self.models.iter().any(|m| !m.ablation) {
            true => Ok(()),
            false => Err("model: at least one that is no ablation is needed".into()),
        }
    }

    /// The training of every model.
    ///
    /// # Errors
    /// As [`CompareConfig::read`].
    pub fn plan(&self) -> Result<Vec<Planned>> {
        let mut planned: Vec<Planned> = Vec::new();
        for model in &self.models {
            let path = self.folder.join(&model.config);
            let bad = |reason: String| Error::Config {
                reason: format!("as the model {}: {reason}", model.name),
                path: path.clone(),
            };
            let bytes = read_bounded(&path, 1 << 20)?;
            let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
            let mut table: toml::Table = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
            merge(&mut table, &model.set);
            let text = toml::to_string(&table).map_err(|e| bad(e.to_string()))?;
            let mut run = RunConfig::parse(&text).map_err(bad)?;
            spend(&mut run, self.multiply_adds * model.scale, &model.shares).map_err(bad)?;
            if let Some(first) = planned.first()
                && first.run.size() != run.size()
            {
                return Err(bad(format!(
                    "size is {}, that of the first model {}: only pictures of one size can be compared",
                    run.size(),
                    first.run.size()
                )));
            }
            let samplers = match model.samplers.as_slice() {
                [] => std::slice::from_ref(run.sampler()),
                some => some,
            };
            for sampler in samplers {
                let least = fewest_passes(&run, &crate::model::solver(sampler)?);
                if least > self.sheet {
                    return Err(bad(format!(
                        "it takes at least {least} passes to make a picture with {sampler}, and sheet is {}",
                        self.sheet
                    )));
                }
            }
            planned.push(Planned {
                model: model.clone(),
                run,
            });
        }
        Ok(planned)
    }
}

/// The fewest network passes that a picture takes.
fn fewest_passes(run: &RunConfig, solver: &SolverConfig) -> usize {
    match run {
        RunConfig::Wmgm(c) => solver.evaluations(&c.low.edm.sigmas(FEWEST_STEPS)) + c.levels,
        RunConfig::Diffused(c) => (c.bands())
            .map(|(_, band)| solver.evaluations(&band.edm.sigmas(1)))
            .sum(),
    }
}

/// Whether a model can be named so: it is a folder's name, too.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(plain) && name != "points"
}

/// Puts `changes` over a table, tables into tables.
fn merge(table: &mut toml::Table, changes: &toml::Table) {
    for (name, value) in changes {
        match (table.get_mut(name), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            _ => {
                table.insert(name.clone(), value.clone());
            }
        }
    }
}
