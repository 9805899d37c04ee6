//! What a user tells of a checkpoint, and what remains to be told.

use crate::error::{Error, Result};
use crate::files::read_bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The fields of a file of JSON or TOML; those asked for are remembered, so that a misspelt one is found.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    path: Option<PathBuf>,
    fields: Map<String, Value>,
    used: BTreeSet<String>,
    missing: Vec<String>,
}

impl Given {
    /// Reads a file; there are no fields without one.
    pub(super) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let bad = |reason: String| Error::Config {
            path: path.into(),
            reason,
        };
        let bytes = read_bounded(path, 1 << 20)?;
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        let value: Value = match path.extension().is_some_and(|e| e == "toml") {
            true => toml::from_str(text).map_err(|e| bad(e.to_string()))?,
            false => serde_json::from_str(text)
                .map_err(|e| bad(format!("{e}; a file of TOML ends in .toml")))?,
        };
        match value {
            Value::Object(fields) => Ok(Self {
                path: Some(path.into()),
                fields,
                ..Self::default()
            }),
            _ => Err(bad("it is no object of fields".into())),
        }
    }

    /// An error of the file.
    pub(super) fn bad(&self, reason: String) -> Error {
        match &self.path {
            Some(path) => Error::Config {
                path: path.clone(),
                reason,
            },
            None => Error::Argument(reason),
        }
    }

    /// All fields, counted as used.
    pub(super) fn all(&mut self) -> Map<String, Value> {
        self.used.extend(self.fields.keys().cloned());
        self.fields.clone()
    }

    /// A field, if it is there; null is not.
    pub(super) fn get<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        self.used.insert(name.to_owned());
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|e| self.bad(format!("{name}: {e}"))),
        }
    }

    /// A field that tensors cannot tell. If it is not there it is noted as missing, and the default is returned in its
    /// place until [`Given::finish`].
    pub(super) fn need<T: DeserializeOwned + Default>(
        &mut self,
        name: &str,
        what: &str,
    ) -> Result<T> {
        let found = self.get(name)?;
        if found.is_none() {
            self.miss(name, what);
        }
        Ok(found.unwrap_or_default())
    }

    /// Notes a field as missing.
    pub(super) fn miss(&mut self, name: &str, what: &str) {
        self.missing.push(format!("{name} ({what})"));
    }

    /// Errs if a field is there and says something else than the tensors.
    pub(super) fn agree<T: Serialize>(&mut self, name: &str, told: &T) -> Result<()> {
        self.used.insert(name.to_owned());
        let told = serde_json::to_value(told).map_err(|e| self.bad(e.to_string()))?;
        match self.fields.get(name) {
            Some(value) if *value != told && !value.is_null() => Err(self.bad(format!(
                "{name} is {value}, but the tensors are those of {told}"
            ))),
            _ => Ok(()),
        }
    }

    /// Errs if a field is missing, or one is there that nobody asked for. `whose` names the program whose words they are.
    pub(super) fn finish(&self, whose: &str) -> Result<()> {
        if !self.missing.is_empty() {
            return Err(self.bad(format!(
                "the tensors do not tell {}; give {} with --config FILE, JSON or TOML with {whose}'s names",
                self.missing.join(", "),
                if self.missing.len() == 1 { "it" } else { "them" }
            )));
        }
        let unknown = self.fields.keys().find(|name| !self.used.contains(*name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known: Vec<&str> = self.used.iter().map(String::as_str).collect();
                Err(self.bad(format!(
                    "{name} is no field of {whose} that is known here; known are {}",
                    known.join(", ")
                )))
            }
        }
    }
}
