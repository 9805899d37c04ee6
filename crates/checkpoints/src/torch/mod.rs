//! Files of `torch.save`: a zip archive around a pickle, or before PyTorch 1.6 pickles and storages in a row.

mod legacy;

use crate::bytes::Bytes;
use crate::error::{Fault, shown};
use crate::pickle::{self, StorageKey, Value};
use crate::tensor::{Storage, item_size};
use crate::zip::{Archive, Record, contents};
use std::collections::HashMap;
use std::sync::Arc;

/// Whether the bytes begin as one of these files does.
pub(crate) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK") || matches!(bytes, [0x80, 2..=5, ..])
}

/// The value that was saved. No tensor is read yet.
pub(crate) fn read(file: &Bytes) -> Result<Value, Fault> {
    if file.starts_with(b"PK") {
        archive(file)
    } else {
        legacy::read(file)
    }
}

/// The number of bytes that `asked` claims.
fn claimed(asked: &StorageKey<'_>) -> Result<usize, String> {
    let size = asked.dtype.map_or(Ok(1), item_size)?;
    asked
        .count
        .checked_mul(size)
        .ok_or_else(|| format!("storage {} claims {} values", shown(asked.key), asked.count))
}

fn archive(file: &Bytes) -> Result<Value, Fault> {
    let archive = Archive::read(file)?;
    // Every record lies in one folder, whose name is that of the file when it was saved.
    let mut pickles = archive
        .names()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.ends_with('/') && folder.matches('/').count() == 1);
    let (Some(folder), None) = (pickles.next(), pickles.next()) else {
        return Err(
            "the archive holds no data.pkl, or several: torch.save did not write it".into(),
        );
    };
    let record = |name: &str| archive.get(&format!("{folder}{name}"));
    if record("constants.pkl").is_some() {
        return Err(Fault::Refused(
            "to be run: it is a TorchScript program".into(),
        ));
    }
    if let Some(order) = record("byteorder")
        && &*contents(file, order, "byteorder", 64)? != b"little"
    {
        return Err("its values are big-endian; save it on a little-endian machine".into());
    }
    let pickled = record("data.pkl").ok_or("the archive holds no data.pkl")?;
    let pickled = contents(file, pickled, "data.pkl", pickle::MAX_LENGTH)?;
    let mut known: HashMap<String, Arc<Storage>> = HashMap::new();
    let mut find = |asked: StorageKey<'_>| {
        let bytes = claimed(&asked)?;
        let storage = match known.get(asked.key) {
            Some(storage) => storage.clone(),
            None => {
                let name = format!("data/{}", asked.key);
                let found = record(&name)
                    .ok_or_else(|| format!("the archive has no record {}", shown(&name)))?;
                let storage = Arc::new(storage(file, found, asked.key)?);
                known.insert(asked.key.to_owned(), storage.clone());
                storage
            }
        };
        if bytes > storage.len() {
            return Err(format!(
                "storage {} claims {bytes} bytes, its record has {}",
                shown(asked.key),
                storage.len()
            ));
        }
        Ok(storage)
    };
    Ok(pickle::read(&pickled, &mut find)?.0)
}

fn storage(file: &Bytes, record: &Record, key: &str) -> Result<Storage, String> {
    let (span, checksum) = (record.span.clone(), record.checksum);
    if record.deflated {
        Storage::deflated(key, file, span, record.length, checksum)
    } else {
        Storage::plain(key, file, span, checksum)
    }
}
