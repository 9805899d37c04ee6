//! One view of every format: names, types, shapes, and tensors when they are asked for.

use crate::bytes::Bytes;
use crate::error::{Error, Result, shown};
use crate::flatten;
use crate::pickle::Value;
use crate::tensor::StoredTensor;
use crate::{safetensors, torch};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// Several safetensors files and their index.
    Sharded,
    /// `torch.save`: `.pth`, `.pt`, `.bin`, `.ckpt`.
    Torch,
}

/// The names that diffusers and transformers give to a model's weights, the best first.
pub const WEIGHTS: [&str; 6] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
];

/// A file of tensors, none of which has been read yet.
///
/// Tensors have the order of the file. Those of a pickle are named by the keys that lead to them: `model.a.weight`,
/// `ema.shadow_params.0`.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    tensors: Vec<(String, StoredTensor)>,
    index: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
    value: Option<Value>,
}

impl Checkpoint {
    /// Opens a file, an index of files, or a folder that holds one of [`WEIGHTS`] or has a `unet` which
    /// does. The format is told by the contents.
    ///
    /// # Errors
    /// A file that cannot be opened, is of another kind, damaged or hostile; the message names file and tensor.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let places = [path.to_owned(), path.join("unet")];
            let mut paths = places
                .iter()
                .flat_map(|folder| WEIGHTS.iter().map(|name| folder.join(name)));
            let Some(found) = paths.find(|path| path.is_file()) else {
                return Err(Error::file(
                    path,
                    format!(
                        "neither the folder nor its unet holds any of {}",
                        WEIGHTS.join(", ")
                    ),
                ));
            };
            return Self::open(found);
        }
        if path.to_string_lossy().ends_with(".index.json") {
            let contents = safetensors::read_sharded(path)?;
            return Self::new(path, Format::Sharded, contents, None);
        }
        Self::from_bytes(path, Bytes::map(path)?)
    }

    /// Reads a file's bytes; `name` is for messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Result<Self> {
        let (path, bytes) = (name.as_ref(), bytes.into());
        let named = |ending: &str| path.extension().is_some_and(|e| e == ending);
        // A header's length is below 2^48, and the header begins with a brace.
        let headed = bytes.get(6..9) == Some(b"\0\0{");
        if !headed && !named("safetensors") {
            if torch::is_torch(&bytes) {
                let value = torch::read(&bytes).map_err(|fault| fault.of(path))?;
                return Self::from_value(path, value, bytes.len());
            }
            return Err(Error::file(
                path,
                "it begins as neither a safetensors file nor one of torch.save does",
            ));
        }
        let contents = safetensors::read(&bytes, path)?;
        Self::new(path, Format::Safetensors, contents, None)
    }

    fn from_value(path: &Path, value: Value, file_length: usize) -> Result<Self> {
        let flat = flatten::flatten(&value, file_length).map_err(|fault| fault.of(path))?;
        Self::new(
            path,
            Format::Torch,
            (flat.tensors, flat.scalars),
            Some(value),
        )
    }

    fn new(
        path: &Path,
        format: Format,
        (tensors, metadata): safetensors::Contents,
        value: Option<Value>,
    ) -> Result<Self> {
        let mut index = HashMap::with_capacity(tensors.len());
        for (i, (name, _)) in tensors.iter().enumerate() {
            if index.insert(name.clone(), i).is_some() {
                return Err(Error::tensor(path, name, " is there twice"));
            }
        }
        Ok(Self {
            path: path.into(),
            format,
            tensors,
            index,
            metadata,
            value,
        })
    }

    /// The same file with other tensors or names.
    pub(crate) fn with(&self, tensors: Vec<(String, StoredTensor)>) -> Result<Self> {
        let contents = (tensors, self.metadata.clone());
        Self::new(&self.path, self.format, contents, self.value.clone())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The names of the tensors, in the file's order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// Names and tensors, in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// A tensor's type, shape and place.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        let at = *self.index.get(name)?;
        self.tensors.get(at).map(|(_, tensor)| tensor)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// A name that is not there, a type that candle has not, damage.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let Some(stored) = self.get(name) else {
            return Err(Error::tensor(&self.path, name, " is missing"));
        };
        stored
            .load(device)
            .map_err(|e| Error::tensor(&self.path, name, format!(": {e}")))
    }

    /// Reads every tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn tensors(&self, device: &Device) -> Result<HashMap<String, Tensor>> {
        self.names()
            .map(|name| Ok((name.to_owned(), self.tensor(name, device)?)))
            .collect()
    }

    /// What a safetensors file's writer added, or a pickle's numbers and texts by the keys that lead to them.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The value that was pickled, if the file is a pickle.
    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// The tensors whose names begin with `prefix`, named by what follows.
    ///
    /// # Errors
    /// If there are none; the message has the first parts of the names there are.
    pub fn part(&self, prefix: &str) -> Result<Self> {
        let tensors: Vec<(String, StoredTensor)> = self
            .tensors
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())))
            .collect();
        if tensors.is_empty() {
            return Err(Error::file(
                &self.path,
                format!(
                    "no tensor's name begins with {:?}; they begin with {}",
                    shown(prefix),
                    self.beginnings()
                ),
            ));
        }
        self.with(tensors)
    }

    /// The first parts of all names, a few of them, for messages.
    pub(crate) fn beginnings(&self) -> String {
        let mut first: Vec<String> = self
            .names()
            .map(|name| shown(name.split('.').next().unwrap_or_default()))
            .collect();
        first.sort();
        first.dedup();
        let more = first.len().saturating_sub(8);
        first.truncate(8);
        let mut text = first.join(", ");
        if more > 0 {
            text += &format!(" and {more} others");
        }
        text
    }
}
