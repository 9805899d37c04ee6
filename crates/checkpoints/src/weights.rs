//! The finite tensors of one file, and which of them a network has asked for.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::safetensors::Header;
use ::safetensors::Dtype;
use candle_core::{DType, Device, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use half::slice::HalfFloatSliceExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Finite f32 tensors by name. Clones share them.
///
/// A network takes what it needs through [`Weights::builder`]; [`Weights::unused`] then tells whether that was all.
#[derive(Debug, Clone)]
pub struct Weights {
    tensors: Arc<BTreeMap<String, Tensor>>,
    used: Arc<Mutex<BTreeSet<String>>>,
}

impl Weights {
    /// Reads all tensors of a checkpoint.
    ///
    /// # Errors
    /// A tensor that is not of f32, f16 or bf16, or holds a value that is not finite.
    pub fn load(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Self::load_where(checkpoint, device, &|_, _| true)
    }

    /// Reads those tensors of a checkpoint that `wanted` says yes to, by name and type: without the counters of integers that
    /// many files hold.
    ///
    /// # Errors
    /// As [`Weights::load`], of the tensors wanted.
    pub fn load_where(
        checkpoint: &Checkpoint,
        device: &Device,
        wanted: &dyn Fn(&str, Dtype) -> bool,
    ) -> Result<Self> {
        Self::collect(
            checkpoint.path(),
            device,
            checkpoint
                .iter()
                .filter(|(name, t)| wanted(name, t.dtype()))
                .map(|(name, t)| (name, t.dtype(), t.shape(), t.bytes())),
        )
    }

    /// Reads all tensors of a safetensors file; `name` is for messages.
    ///
    /// # Errors
    /// A file that is damaged, and as [`Weights::load`].
    pub fn from_safetensors(bytes: &[u8], name: &Path, device: &Device) -> Result<Self> {
        let header = Header::read(bytes).map_err(|e| Error::file(name, e))?;
        Self::collect(
            name,
            device,
            header.entries.iter().map(|entry| {
                let values = bytes.get(entry.span.clone()).unwrap_or_default();
                (
                    entry.name.as_str(),
                    entry.dtype,
                    entry.shape.as_slice(),
                    Ok(values.into()),
                )
            }),
        )
    }

    fn collect<'a>(
        path: &Path,
        device: &Device,
        tensors: impl Iterator<Item = Stored<'a>>,
    ) -> Result<Self> {
        let mut read = BTreeMap::new();
        for (name, dtype, shape, bytes) in tensors {
            let tensor = bytes
                .map_err(|e| format!(": {e}"))
                .and_then(|bytes| finite(dtype, shape, &bytes, device))
                .map_err(|e| Error::tensor(path, name, e))?;
            read.insert(name.to_owned(), tensor);
        }
        Ok(Self {
            tensors: Arc::new(read),
            used: Arc::default(),
        })
    }

    /// A builder of layers from these tensors.
    pub fn builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// All tensors by name; they share memory with these.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let named = self.tensors.iter();
        named.map(|(n, t)| (n.clone(), t.clone())).collect()
    }

    /// The number of values in all tensors.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// The tensors that no layer has asked for.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = self.tensors.keys().filter(|name| !used.contains(*name));
        unused.cloned().collect()
    }
}

/// Name, type, shape and bytes of a tensor in a file.
type Stored<'a> = (
    &'a str,
    Dtype,
    &'a [usize],
    std::result::Result<std::borrow::Cow<'a, [u8]>, String>,
);

/// A tensor of finite values; what is wrong, to be read after its name. Every value is looked at once, as it is copied.
fn finite(
    dtype: Dtype,
    shape: &[usize],
    bytes: &[u8],
    device: &Device,
) -> std::result::Result<Tensor, String> {
    const CHUNK: usize = 4096;
    let values = match dtype {
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&v| f32::from_le_bytes(v))
            .collect(),
        Dtype::F16 => {
            let mut values = vec![0f32; bytes.len() / 2];
            for (to, from) in values.chunks_mut(CHUNK).zip(bytes.chunks(2 * CHUNK)) {
                let halves = from
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&v| half::f16::from_le_bytes(v));
                let halves: Vec<half::f16> = halves.collect();
                halves.convert_to_f32_slice(to);
            }
            values
        }
        Dtype::BF16 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&v| half::bf16::from_le_bytes(v).to_f32())
            .collect(),
        other => return Err(format!(" is {other:?}; expected F16, BF16 or F32")),
    };
    let values: Vec<f32> = values;
    // Most chunks are finite, and a whole one is checked faster than a value at a time.
    let wrong = values.chunks(CHUNK).enumerate().find_map(|(i, chunk)| {
        let finite = chunk.iter().fold(true, |all, v| all & v.is_finite());
        let at = chunk.iter().position(|v| !finite && !v.is_finite())?;
        Some((i * CHUNK + at, chunk[at]))
    });
    if let Some((at, value)) = wrong {
        return Err(format!(
            " holds {value} at position {at}; the file is damaged or training diverged"
        ));
    }
    Tensor::from_vec(values, shape, device).map_err(|e| format!(": {e}"))
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        s: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        dev: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, dev)?;
        if tensor.shape() != &s {
            bail!(
                "tensor {name} has shape {:?}, the network needs {s:?}",
                tensor.shape()
            )
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> candle_core::Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            bail!("tensor {name} is missing")
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(name.to_owned());
        tensor.to_device(dev)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}
