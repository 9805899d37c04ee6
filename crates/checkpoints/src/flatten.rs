//! A pickled value as a list of named tensors.

use crate::error::Fault;
use crate::pickle::Value;
use crate::tensor::StoredTensor;
use std::collections::BTreeMap;

/// The most values looked at; shared parts count as often as they are reached.
const MAX_VALUES: usize = 4 << 20;
/// The most bytes of all names.
const MAX_NAMES: usize = 64 << 20;
/// The longest text that counts as a scalar.
const MAX_TEXT: usize = 4096;

/// The tensors of a value and its numbers and texts, by the keys that lead to them.
#[derive(Default)]
pub(crate) struct Flat {
    pub(crate) tensors: Vec<(String, StoredTensor)>,
    pub(crate) scalars: BTreeMap<String, String>,
    values: usize,
    names: usize,
    bytes: usize,
}

/// All tensors in `value`. A pickle can reach one part by many ways, and so claim far more tensors than it has bytes.
pub(crate) fn flatten(value: &Value, file_length: usize) -> Result<Flat, Fault> {
    let mut flat = Flat::default();
    flat.add(String::new(), value)?;
    let most = file_length.saturating_mul(64).saturating_add(64 << 20);
    if flat.bytes > most {
        return Err(format!(
            "its tensors claim {} bytes, which a file of {file_length} does not hold",
            flat.bytes
        )
        .into());
    }
    Ok(flat)
}

impl Flat {
    fn add(&mut self, name: String, value: &Value) -> Result<(), Fault> {
        self.values += 1;
        self.names += name.len();
        if self.values > MAX_VALUES || self.names > MAX_NAMES {
            return Err("the pickle reaches its parts by too many ways".into());
        }
        let below = |key: &dyn std::fmt::Display| {
            if name.is_empty() {
                key.to_string()
            } else {
                format!("{name}.{key}")
            }
        };
        let scalar: &dyn std::fmt::Display = match value {
            Value::Dict(dict) => {
                for (key, value) in dict.iter() {
                    self.add(below(key), value)?;
                }
                return Ok(());
            }
            Value::List(items) | Value::Tuple(items) => {
                for (i, value) in items.iter().enumerate() {
                    self.add(below(&i), value)?;
                }
                return Ok(());
            }
            Value::Tensor(tensor) => {
                self.bytes = self.bytes.saturating_add(tensor.byte_len());
                self.tensors.push((name, (**tensor).clone()));
                return Ok(());
            }
            Value::Bool(value) => value,
            Value::Int(value) => value,
            Value::Float(value) => value,
            Value::Str(text) if text.len() <= MAX_TEXT => text,
            Value::Str(_) | Value::Bytes(_) | Value::None => return Ok(()),
        };
        self.scalars.insert(name, scalar.to_string());
        Ok(())
    }
}
