//! Where `--model` leads: the model inside the program, a folder, a known name, or one of the hub's models in its cache.

use super::embedded;
use candle_core::Device;
use std::path::{Path, PathBuf};
use wmgm::error::Result;
use wmgm::{Model, Wmgm};

/// The model that guides another.
#[derive(Debug, Clone, clap::Args)]
pub struct GuideArgs {
    /// Lead the low band's diffusion away from that of a worse model, such as an earlier one (autoguidance); costs a second
    /// evaluation for each.
    #[arg(long, value_name = "MODEL")]
    guide: Option<PathBuf>,
    /// How far: 1 is no guidance, 2 goes as far again as the two differ.
    #[arg(long, value_name = "W", default_value_t = 2.0, requires = "guide")]
    guidance: f64,
}

impl GuideArgs {
    /// The model as it is asked for.
    pub fn guided(&self, model: Model, device: &Device) -> Result<Model> {
        match &self.guide {
            Some(worse) => model.guided(&Model::open(worse, device)?, self.guidance),
            None => Ok(model),
        }
    }
}

/// The model of a command.
#[derive(Debug, Clone, clap::Args)]
pub struct ModelArgs {
    /// A bundle's folder, one of diffusers, or a model of the Hugging Face hub as owner/name[@revision]; the model inside
    /// the program unless given.
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Download a model of the hub that is not in its cache.
    #[arg(long, requires = "model")]
    fetch: bool,
}

impl ModelArgs {
    /// Opens it.
    pub fn open(&self, device: &Device) -> Result<Model> {
        match &self.model {
            Some(model) => Model::open(&folder(model, self.fetch)?, device),
            None => embedded_model(device),
        }
    }
}

/// The model inside the program.
pub fn embedded_model(device: &Device) -> Result<Model> {
    let bundle = embedded::bundle(None, device)?;
    Ok(Model::Wmgm(Box::new(Wmgm::new(bundle, device))))
}

/// The folder of a model.
pub fn folder(model: &Path, fetch: bool) -> Result<PathBuf> {
    if model.exists() {
        return Ok(model.to_owned());
    }
    match model.to_str() {
        Some(name) => at_hub(name, fetch).map(|found| found.unwrap_or_else(|| model.to_owned())),
        None => Ok(model.to_owned()),
    }
}

/// The cache's folder of a model of the hub; `None` for a name that is none.
#[cfg(feature = "hub")]
fn at_hub(name: &str, fetch: bool) -> Result<Option<PathBuf>> {
    use checkpoints::hub::{Hub, Manifest, Place, RepoId};
    use wmgm::Error;
    let fail = |e: &dyn std::fmt::Display| Error::Argument(format!("--model {name}: {e}"));
    let text = include_str!("../../../../assets/weights.toml");
    let manifest: Manifest = toml::from_str(text).map_err(|e| fail(&e))?;
    let (repo, files, known) = match manifest.get(name) {
        Some(entry) => match entry.place().map_err(|e| fail(&e))? {
            Place::Hub(repo) => (repo, entry.files.clone(), entry.known()),
            Place::Folder(folder) => return Ok(Some(folder)),
        },
        None => match name.parse::<RepoId>() {
            Ok(repo) => (repo, Vec::new(), Vec::new()),
            Err(_) => return Ok(None),
        },
    };
    let hub = Hub::from_env().map_err(|e| fail(&e))?;
    if fetch {
        let snapshot = hub.fetch(&repo, &files, &known, &super::progress::Downloads::new());
        return Ok(Some(snapshot.map_err(|e| fail(&e))?.folder));
    }
    match hub.cached(&repo) {
        Some(snapshot) => Ok(Some(snapshot.folder)),
        None => Err(fail(&format!(
            "there is no such folder, and the cache of the Hugging Face hub has not {repo}; --fetch downloads it, and so \
             does `cargo xtask fetch-weights {name}`"
        ))),
    }
}

#[cfg(not(feature = "hub"))]
fn at_hub(name: &str, fetch: bool) -> Result<Option<PathBuf>> {
    match fetch {
        false => Ok(None),
        true => Err(wmgm::Error::Argument(format!(
            "--model {name} --fetch: this program was built without the hub; name a folder"
        ))),
    }
}
