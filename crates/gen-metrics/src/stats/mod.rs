//! Statistics of a set of pictures on disk, so that a reference is looked at once.

mod npz;

use crate::error::{Error, Result};
use crate::features::Features;
use crate::frechet::Gaussian;
use candle_core::{DType, Device, Tensor};
use checkpoints::{Bytes, Checkpoint, StoredTensor};
use std::collections::HashMap;
use std::path::Path;

/// What [`Statistics::to_safetensors`] calls itself.
const FORMAT: &str = "gen-metrics statistics 1";
/// The most bytes of a file.
const MAX_FILE: u64 = 8 << 30;

/// Mean and covariance of a set's features, and where they are wanted the features themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Mean and covariance: enough for the Frechet distance.
    pub gaussian: Gaussian,
    /// The features, which all other metrics need.
    pub features: Option<Features>,
    /// Where they live ([`Space::name`](crate::Space::name)), if the file says it.
    pub space: Option<String>,
    /// The number of pictures, if the file says it.
    pub count: Option<u64>,
}

impl Statistics {
    /// Of features in a space.
    ///
    /// # Errors
    /// As [`Gaussian::of`].
    pub fn of(features: Features, space: String) -> Result<Self> {
        Ok(Self {
            gaussian: Gaussian::of(&features)?,
            count: Some(features.count() as u64),
            features: Some(features),
            space: Some(space),
        })
    }

    /// Reads a file of [`Statistics::to_safetensors`], or an .npz of `mu` and `sigma` as pytorch-fid, clean-fid and TTUR write
    /// them. The format is told by the contents.
    ///
    /// # Errors
    /// A file of another kind, cut off or damaged; values that are not finite, shapes that do not fit. The message names file
    /// and array.
    pub fn open(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path)
            .map_err(|e| Error::file(path, format!("cannot be read: {e}")))?
            .len();
        if length > MAX_FILE {
            return Err(Error::file(
                path,
                format!("has {length} bytes, at most {MAX_FILE} are read"),
            ));
        }
        let bytes =
            std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        Self::from_bytes(path, bytes)
    }

    /// Reads a file's bytes; `name` is for messages.
    ///
    /// # Errors
    /// As [`Statistics::open`].
    pub fn from_bytes(name: &Path, bytes: Vec<u8>) -> Result<Self> {
        if bytes.starts_with(b"PK") {
            let (mean, covariance) = npz::read(&bytes).map_err(|e| Error::file(name, e))?;
            let gaussian =
                Gaussian::new(mean, covariance).map_err(|e| Error::file(name, e.to_string()))?;
            return Ok(Self {
                gaussian,
                features: None,
                space: None,
                count: None,
            });
        }
        let checkpoint = Checkpoint::from_bytes(name, Bytes::from(bytes))?;
        let metadata = checkpoint.metadata();
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(Error::file(
                name,
                "neither statistics of this program nor an .npz of mu and sigma",
            ));
        }
        let gaussian = Gaussian::new(
            values(&checkpoint, "mean", 1, DType::F64)?.to_vec1()?,
            values(&checkpoint, "covariance", 2, DType::F64)?
                .flatten_all()?
                .to_vec1()?,
        )
        .map_err(|e| Error::file(name, e.to_string()))?;
        let features = match checkpoint.get("features") {
            None => None,
            Some(_) => {
                let tensor = values(&checkpoint, "features", 2, DType::F32)?;
                let dim = tensor.dim(1)?;
                let features = Features::new(tensor.flatten_all()?.to_vec1()?, dim)
                    .map_err(|e| Error::file(name, e.to_string()))?;
                if dim != gaussian.dim() {
                    return Err(Error::file(
                        name,
                        format!(
                            "features of {dim} dimensions beside a mean of {}",
                            gaussian.dim()
                        ),
                    ));
                }
                Some(features)
            }
        };
        Ok(Self {
            gaussian,
            features,
            space: metadata.get("space").cloned(),
            count: metadata.get("count").and_then(|n| n.parse().ok()),
        })
    }

    /// A safetensors file: `mean` (D) and `covariance` (D, D) in f64, `features` (N, D) in f32 where there are any; the space
    /// and the number of pictures as metadata.
    ///
    /// # Errors
    /// None that these values could cause.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let d = self.gaussian.dim();
        let mut tensors = HashMap::from([
            (
                "mean".to_owned(),
                Tensor::from_slice(self.gaussian.mean(), d, &Device::Cpu)?,
            ),
            (
                "covariance".to_owned(),
                Tensor::from_slice(self.gaussian.covariance(), (d, d), &Device::Cpu)?,
            ),
        ]);
        if let Some(features) = &self.features {
            let shape = (features.count(), features.dim());
            let tensor = Tensor::from_slice(features.values(), shape, &Device::Cpu)?;
            tensors.insert("features".to_owned(), tensor);
        }
        let mut metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
        if let Some(space) = &self.space {
            metadata.insert("space".to_owned(), space.clone());
        }
        if let Some(count) = self.count {
            metadata.insert("count".to_owned(), count.to_string());
        }
        Ok(checkpoints::safetensors::to_bytes(
            tensors,
            None,
            Some(metadata),
        )?)
    }

    /// An .npz of `mu` (D) and `sigma` (D, D) in f64, which pytorch-fid takes in place of a folder.
    pub fn to_npz(&self) -> Vec<u8> {
        npz::write(self.gaussian.mean(), self.gaussian.covariance())
    }
}

/// A tensor of this name, rank and type.
fn values(file: &Checkpoint, name: &str, rank: usize, dtype: DType) -> Result<Tensor> {
    let stored: Option<&StoredTensor> = file.get(name);
    let tensor = match stored {
        Some(_) => file.tensor(name, &Device::Cpu)?,
        None => {
            return Err(Error::file(
                file.path(),
                format!("tensor {name} is missing"),
            ));
        }
    };
    if tensor.rank() != rank || tensor.dtype() != dtype {
        return Err(Error::file(
            file.path(),
            format!(
                "tensor {name} is {:?} {:?}, {rank} dimensions of {dtype:?} were expected",
                tensor.dtype(),
                tensor.dims()
            ),
        ));
    }
    Ok(tensor)
}
