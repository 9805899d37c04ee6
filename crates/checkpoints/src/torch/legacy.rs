//! Pickles without an archive: one dictionary of numpy's arrays, or what PyTorch before 1.6 wrote, which is pickles of a magic
//! number, a version, the system, the value and the storages' keys, then each storage as its length and its bytes.

use super::claimed;
use crate::bytes::Bytes;
use crate::error::{Fault, shown};
use crate::pickle::{self, Value};
use crate::tensor::Storage;
use std::collections::HashMap;
use std::sync::Arc;

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const VERSION: i128 = 1001;

pub(super) fn read(file: &Bytes) -> Result<Value, Fault> {
    let mut at = 0;
    match pickle::read_whole(file) {
        Ok((Value::Int(MAGIC), length)) => at += length,
        // What `pickle.dump` writes of a dictionary of arrays, as JAX's users do.
        Ok((value @ Value::Dict(_), length)) if length == file.len() => return Ok(value),
        Err(Fault::Refused(what)) => return Err(Fault::Refused(what)),
        _ => {
            return Err(
                "the file is a pickle, but none of torch.save, for it has not the magic number, and none of one dictionary"
                    .into(),
            );
        }
    }
    let mut next = |file: &[u8]| {
        let none = &mut |_: pickle::StorageKey<'_>| Err("a storage before its time".to_owned());
        let (value, length) = pickle::read(file.get(at..).unwrap_or_default(), none)?;
        at += length;
        Ok::<_, Fault>(value)
    };
    match next(file)? {
        Value::Int(VERSION) => {}
        other => {
            let what = match other {
                Value::Int(version) => version.to_string(),
                other => other.kind().to_owned(),
            };
            return Err(format!("the file's version is {what}; {VERSION} is read").into());
        }
    }
    let system = next(file)?;
    if !matches!(
        system.as_dict().and_then(|d| d.get("little_endian")),
        Some(Value::Bool(true))
    ) {
        return Err("its values are big-endian; save it on a little-endian machine".into());
    }
    let pickled = file.get(at..).unwrap_or_default();

    // Where the storages lie is known only behind the pickle that names them: it is read twice.
    let mut sizes: HashMap<String, usize> = HashMap::new();
    let mut stand_ins: HashMap<String, Arc<Storage>> = HashMap::new();
    let room = file.len();
    let (_, length) = pickle::read(pickled, &mut |asked| {
        let bytes = claimed(&asked)?;
        if bytes > room {
            return Err(format!(
                "storage {} claims {bytes} bytes of a file of {room}",
                shown(asked.key)
            ));
        }
        let size = sizes.entry(asked.key.to_owned()).or_insert(bytes);
        *size = bytes.max(*size);
        // Any bytes of this file will do, their number is what counts.
        let stand_in = Arc::new(Storage::plain(asked.key, file, 0..bytes, None)?);
        stand_ins.insert(asked.key.to_owned(), stand_in.clone());
        Ok(stand_in)
    })?;
    at += length;
    let none = &mut |_: pickle::StorageKey<'_>| Err("a storage among keys".to_owned());
    let (keys, length) = pickle::read(file.get(at..).unwrap_or_default(), none)?;
    at += length;
    let keys = keys
        .as_list()
        .ok_or("the keys of the storages are no list")?;
    let mut storages: HashMap<&str, Arc<Storage>> = HashMap::new();
    for key in keys {
        let Value::Str(key) = key else {
            return Err(format!("the key of a storage is {}", key.kind()).into());
        };
        let &bytes = sizes
            .get(&**key)
            .ok_or_else(|| format!("storage {} belongs to no tensor", shown(key)))?;
        // Its number of values comes first; their bytes are known from the pickle.
        let start = at + 8;
        let storage = Storage::plain(key, file, start..start + bytes, None)
            .map_err(|e| format!("storage {}: the file is cut off: {e}", shown(key)))?;
        at = start + bytes;
        if storages.insert(key, Arc::new(storage)).is_some() {
            return Err(format!("storage {} is there twice", shown(key)).into());
        }
    }
    if at != file.len() {
        return Err(format!("the storages end at {at} of a file of {} bytes", file.len()).into());
    }
    let (value, _) = pickle::read(pickled, &mut |asked| {
        let found = storages.get(asked.key).cloned();
        found.ok_or_else(|| format!("there is no storage {}", shown(asked.key)))
    })?;
    Ok(value)
}
