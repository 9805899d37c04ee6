//! Folders of diffusers: `model_index.json` with `unet/` and `scheduler/`, or all files in one folder.

use super::given::Given;
use super::{Imported, ImportedModel};
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::pipeline::Sgm;
use crate::sgm::{NetworkConfig, ProcessConfig, SampleConfig, Scheduler, SdeConfig, SgmConfig};
use candle_core::Device;
use checkpoints::names::diffusers_today;
use checkpoints::{Checkpoint, Parameters, Weights};
use score_sde::UNet2DConfig;
use score_sde::sampler::PredictorCorrector;
use score_sde::sde::{Process, Ve};
use score_sde::unet2d::{SampleSize, TimeEmbeddingType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The longest configuration.
const MAX_CONFIG: u64 = 1 << 20;
/// Evaluations of DDIM unless a caller says otherwise, as in diffusers' pipeline.
const DDIM_STEPS: usize = 50;

/// `ScoreSdeVeScheduler`, its names and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct VeScheduler {
    pub(super) num_train_timesteps: usize,
    pub(super) snr: f64,
    pub(super) sigma_min: f64,
    pub(super) sigma_max: f64,
    pub(super) sampling_eps: f64,
    pub(super) correct_steps: usize,
}

impl Default for VeScheduler {
    fn default() -> Self {
        Self {
            num_train_timesteps: 2000,
            snr: 0.15,
            sigma_min: 0.01,
            sigma_max: 1348.0,
            sampling_eps: 1e-5,
            correct_steps: 1,
        }
    }
}

/// Whether a folder is one of diffusers.
pub fn is_folder(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("model_index.json")
        || has("unet/config.json")
        || json(&folder.join("config.json"))
            .is_ok_and(|c| c.contains_key("_class_name") || c.contains_key("down_block_types"))
}

/// A model of such a folder, loaded.
///
/// # Errors
/// Files that are missing or wrong, networks and schedulers that are not known.
pub fn open(folder: &Path, device: &Device) -> Result<Sgm> {
    let imported = read(folder, Given::default())?;
    let ImportedModel::Sgm(config) = imported.model else {
        return Err(bad(folder, "it holds no diffusion model".into()));
    };
    let weights = Weights::load(&imported.state, device)?;
    Sgm::new(*config, &weights, folder, device)
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Config {
        path: path.into(),
        reason,
    }
}

/// The object in a file of JSON.
fn json(path: &Path) -> Result<Map<String, Value>> {
    let bytes = read_bounded(path, MAX_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|e| bad(path, e.to_string()))
}

fn class(config: &Map<String, Value>) -> &str {
    (config.get("_class_name").and_then(Value::as_str)).unwrap_or_default()
}

/// Reads a folder. Of `given`, `image_size` is taken where the network's configuration has no size.
pub(super) fn read(folder: &Path, given: Given) -> Result<Imported> {
    let index = folder.join("model_index.json");
    if index.is_file() {
        let parts = json(&index)?;
        let known = ["unet", "scheduler"];
        let other = (parts.iter()).find(|(name, part)| {
            !name.starts_with('_') && !known.contains(&name.as_str()) && part.is_array()
        });
        if let Some((name, _)) = other {
            return Err(bad(
                &index,
                format!(
                    "{} has a part {name}; models of pixels have unet and scheduler alone",
                    class(&parts)
                ),
            ));
        }
    }
    let unet = match folder.join("unet/config.json").is_file() {
        true => folder.join("unet"),
        false => folder.to_owned(),
    };
    let path = unet.join("config.json");
    let config = json(&path)?;
    if !matches!(
        class(&config),
        "" | "UNet2DModel" | "UNetUnconditionalModel"
    ) {
        return Err(bad(
            &path,
            format!("{:?} is not known; known is UNet2DModel", class(&config)),
        ));
    }
    let places = ["scheduler/scheduler_config.json", "scheduler_config.json"];
    let scheduler: Option<PathBuf> = (places.iter().map(|p| folder.join(p))).find(|p| p.is_file());
    let scheduler = match &scheduler {
        Some(path) => Some((json(path)?, path.as_path())),
        None => None,
    };
    let state = Checkpoint::open(&unet)?.state_dict(Parameters::Averaged)?;
    assemble(config, &path, scheduler, state, given)
}

/// Reads a file of tensors whose configuration is `given`: the network's `config.json`, and in it perhaps `scheduler`.
pub(super) fn read_file(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let mut config = given.all();
    if !config.contains_key("block_out_channels") {
        given.miss(
            "block_out_channels",
            "and all else in the network's config.json",
        );
        given.finish("diffusers")?;
    }
    let here = Path::new("--config");
    let scheduler = match config.remove("scheduler") {
        Some(Value::Object(scheduler)) => Some((scheduler, here)),
        _ => None,
    };
    assemble(config, here, scheduler, state, given)
}

fn assemble(
    config: Map<String, Value>,
    path: &Path,
    scheduler: Option<(Map<String, Value>, &Path)>,
    state: Checkpoint,
    mut given: Given,
) -> Result<Imported> {
    let unet: UNet2DConfig =
        serde_json::from_value(Value::Object(config)).map_err(|e| bad(path, e.to_string()))?;
    let size = match unet.sample_size {
        Some(SampleSize::Square(side)) => [side; 2],
        Some(SampleSize::Rectangle(sides)) => sides,
        None => {
            let side = given.need("image_size", "sample_size is not in config.json")?;
            given.finish("diffusers")?;
            [side; 2]
        }
    };
    let mut notes = Vec::new();
    let (process, sample) = match &scheduler {
        Some((config, path)) => process(config, path)?,
        None => {
            let fourier = unet.time_embedding_type == TimeEmbeddingType::Fourier;
            let class = if fourier {
                "ScoreSdeVeScheduler"
            } else {
                "DDPMScheduler"
            };
            notes.push(format!(
                "there is no scheduler_config.json: taken to be a {class} with its defaults"
            ));
            let config = Map::from_iter([("_class_name".to_owned(), class.into())]);
            process(&config, path)?
        }
    };
    let network = NetworkConfig::Diffusers(unet);
    let state = state.renamed(diffusers_today)?;
    state.accounts_for("diffusers' UNet2DModel", &network.tensors()?)?;
    let config = SgmConfig::new(size, network, process, sample);
    config.check().map_err(|e| bad(path, e))?;
    Ok(Imported {
        model: ImportedModel::Sgm(Box::new(config)),
        state,
        notes,
    })
}

/// The process and default sampler of a scheduler's configuration.
fn process(config: &Map<String, Value>, path: &Path) -> Result<(ProcessConfig, SampleConfig)> {
    let parse = |e: serde_json::Error| bad(path, e.to_string());
    let value = Value::Object(config.clone());
    let discrete = |sampler: &str, most: usize| {
        let scheduler: Scheduler = serde_json::from_value(value.clone()).map_err(parse)?;
        let sample = SampleConfig {
            sampler: sampler.into(),
            steps: scheduler.num_train_timesteps.min(most),
            predictor_corrector: PredictorCorrector::default(),
        };
        Ok((ProcessConfig::Diffusers(scheduler), sample))
    };
    match class(config) {
        "DDPMScheduler" => discrete("ddpm", 1000),
        "DDIMScheduler" => discrete("ddim", DDIM_STEPS),
        "ScoreSdeVeScheduler" => {
            let ve: VeScheduler = serde_json::from_value(value.clone()).map_err(parse)?;
            let process = Process::Ve(Ve {
                sigma_min: ve.sigma_min,
                sigma_max: ve.sigma_max,
                num_scales: ve.num_train_timesteps,
            });
            let sample = SampleConfig {
                sampler: "predictor_corrector".into(),
                steps: ve.num_train_timesteps,
                predictor_corrector: PredictorCorrector {
                    snr: ve.snr,
                    n_steps_each: ve.correct_steps,
                    eps: ve.sampling_eps,
                    ..PredictorCorrector::default()
                },
            };
            let process = ProcessConfig::ScoreSde(SdeConfig {
                process,
                continuous: true,
                centered: false,
            });
            Ok((process, sample))
        }
        other => Err(bad(
            path,
            format!(
                "scheduler {other:?} is not known; known are DDPMScheduler, DDIMScheduler, ScoreSdeVeScheduler"
            ),
        )),
    }
}
