//! The tensors of one safetensors file, checked, and which of them a network has asked for.

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest header read. Ours have some hundred names; parsing takes several times a header's own bytes.
const MAX_HEADER: u64 = 8 << 20;

/// Finite f32 tensors by name. Clones share them.
#[derive(Clone)]
pub(super) struct Weights {
    tensors: Arc<BTreeMap<String, Tensor>>,
    used: Arc<Mutex<BTreeSet<String>>>,
}

impl Weights {
    /// Reads a file's contents; what is wrong, in words, with the tensor's name.
    pub(super) fn read(bytes: &[u8], device: &Device) -> std::result::Result<Self, String> {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Err(format!(
                "the file has {} bytes, it is cut off or no safetensors file",
                bytes.len()
            ));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER || length > rest.len() as u64 {
            return Err(format!(
                "the header claims {length} bytes ({} follow, {MAX_HEADER} are allowed): the file is cut off or no safetensors file",
                rest.len()
            ));
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|e| format!("the file is damaged or cut off: {e}"))?;
        let mut tensors = BTreeMap::new();
        let mut views = file.tensors();
        views.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, view) in views {
            if !matches!(view.dtype(), Dtype::F16 | Dtype::BF16 | Dtype::F32) {
                return Err(format!(
                    "tensor {name} is {:?}; expected F16, BF16 or F32",
                    view.dtype()
                ));
            }
            let tensor = view
                .load(device)
                .and_then(|t| t.to_dtype(DType::F32))
                .map_err(|e| format!("tensor {name}: {e}"))?;
            let values = tensor
                .flatten_all()
                .and_then(|t| t.to_vec1::<f32>())
                .map_err(|e| format!("tensor {name}: {e}"))?;
            if let Some(at) = values.iter().position(|v| !v.is_finite()) {
                return Err(format!(
                    "tensor {name} holds {} at position {at}; the file is damaged or training diverged",
                    values[at]
                ));
            }
            tensors.insert(name, tensor);
        }
        Ok(Self {
            tensors: Arc::new(tensors),
            used: Arc::default(),
        })
    }

    /// A builder of layers from these tensors.
    pub(super) fn builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// All tensors by name.
    pub(super) fn into_tensors(self) -> HashMap<String, Tensor> {
        let named = self.tensors.iter();
        named.map(|(n, t)| (n.clone(), t.clone())).collect()
    }

    /// The number of values in all tensors.
    pub(super) fn count(&self) -> usize {
        self.tensors.values().map(Tensor::elem_count).sum()
    }

    /// Names the first tensor that no layer has asked for.
    pub(super) fn check_all_used(&self) -> std::result::Result<(), String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match self.tensors.keys().find(|name| !used.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "tensor {name} belongs to no layer of the network in config.json"
            )),
        }
    }
}

impl SimpleBackend for Weights {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, dev)?;
        if tensor.shape() != &s {
            bail!(
                "tensor {name} has shape {:?}, the network in config.json needs {s:?}",
                tensor.shape()
            )
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> Result<Tensor> {
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
