//! Safetensors: headers that are checked before they are believed, and files written whole or not at all.
//!
//! A header may be 8 MiB long. Names, types, shapes and places must agree with each other and with the length of the
//! file; the values are not read.

mod index;

pub(crate) use index::read as read_sharded;
pub use index::read_index;

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::tensor::{Storage, StoredTensor};
use ::safetensors::{Dtype, SafeTensors};
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

/// The longest header read. Models have some hundred names; parsing takes several times a header's own bytes.
pub const MAX_HEADER: u64 = 8 << 20;

/// What a header says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where its bytes lie in the file.
    pub span: Range<usize>,
}

/// A file's header.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// The tensors, in the order of their bytes.
    pub entries: Vec<Entry>,
    /// What the writer added.
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads and checks the header of a whole file.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
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
        let (length, header) = SafeTensors::read_metadata(bytes)
            .map_err(|e| format!("the file is damaged or cut off: {e}"))?;
        let start = length + size_of::<u64>();
        let mut entries: Vec<Entry> = header
            .tensors()
            .into_iter()
            .map(|(name, info)| Entry {
                name,
                dtype: info.dtype,
                shape: info.shape.clone(),
                span: start + info.data_offsets.0..start + info.data_offsets.1,
            })
            .collect();
        entries.sort_by(|a, b| (a.span.start, &a.name).cmp(&(b.span.start, &b.name)));
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self {
            entries,
            metadata: metadata.into_iter().collect(),
        })
    }
}

/// The tensors of a file, in the order of their bytes, and what the writer added.
pub(crate) type Contents = (Vec<(String, StoredTensor)>, BTreeMap<String, String>);

/// The tensors of a file.
pub(crate) fn read(file: &Bytes, path: &Path) -> Result<Contents> {
    let header = Header::read(file).map_err(|e| Error::file(path, e))?;
    let mut tensors = Vec::with_capacity(header.entries.len());
    for entry in header.entries {
        let tensor = Storage::plain(&entry.name, file, entry.span, None)
            .and_then(|storage| StoredTensor::whole(entry.dtype, entry.shape, storage))
            .map_err(|e| Error::tensor(path, &entry.name, format!(": {e}")))?;
        tensors.push((entry.name, tensor));
    }
    Ok((tensors, header.metadata))
}

/// How floating-point tensors are stored; all others keep their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits: 11 of precision, up to 65504.
    F16,
    /// 16 bits: 8 of precision, the range of 32.
    BF16,
}

impl Precision {
    fn of(self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            _ if !tensor.dtype().is_float() => Ok(tensor.clone()),
            Self::F32 => tensor.to_dtype(DType::F32),
            Self::F16 => tensor.to_dtype(DType::F16),
            Self::BF16 => tensor.to_dtype(DType::BF16),
        }
    }
}

/// A file of these tensors, sorted by name, floats in the given precision or else as they are.
///
/// # Errors
/// A value that is finite but not in that precision, with its tensor's name.
pub fn to_bytes(
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let name = Path::new("tensors");
    let named = prepared(tensors, precision, name)?;
    ::safetensors::serialize(named, metadata).map_err(|e| Error::file(name, e.to_string()))
}

/// Writes a file of these tensors as [`to_bytes`] makes it, whole or not at all.
///
/// # Errors
/// As [`to_bytes`]; a folder that is missing or cannot be written to, a full disk. `path` is then untouched.
pub fn write(
    path: &Path,
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let named = prepared(tensors, precision, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let io = |e| Error::io("write", path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less what the user masks
    let mut temporary = builder.tempfile_in(folder).map_err(io)?;
    let bytes =
        ::safetensors::serialize(named, metadata).map_err(|e| Error::file(path, e.to_string()))?;
    std::io::Write::write_all(&mut temporary, &bytes).map_err(io)?;
    temporary.as_file().sync_all().map_err(io)?;
    temporary.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

fn prepared(
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
    path: &Path,
) -> Result<Vec<(String, Tensor)>> {
    let mut named = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let stored = match precision {
            None => tensor.clone(),
            Some(precision) => precision.of(&tensor)?,
        };
        if stored.dtype() != tensor.dtype() && finite(&tensor)? && !finite(&stored)? {
            return Err(Error::tensor(
                path,
                &name,
                format!(
                    " has values that {:?} cannot hold; choose another precision",
                    stored.dtype()
                ),
            ));
        }
        named.push((name, stored.contiguous()?));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(named)
}

/// Whether every value is finite: a value times zero is zero exactly then.
fn finite(tensor: &Tensor) -> Result<bool> {
    if tensor.elem_count() == 0 {
        return Ok(true);
    }
    let sum = (tensor.flatten_all()?.to_dtype(DType::F64)? * 0.0)?.sum_all()?;
    Ok(sum.to_scalar::<f64>()? == 0.0)
}
