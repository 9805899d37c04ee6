//! Models known by name: `assets/weights.toml`.

use super::error::HubError;
use super::{Known, RepoId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The known models, as a file of any format that serde reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The models.
    #[serde(rename = "model")]
    pub models: Vec<Entry>,
}

/// A known model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What to call it.
    pub name: String,
    /// `owner/name` at the hub.
    #[serde(default)]
    pub repository: Option<String>,
    /// Or a folder.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// Branch, tag or commit.
    #[serde(default)]
    pub revision: Option<String>,
    /// What to download; unless given, what [`select`](super::select) picks.
    #[serde(default)]
    pub files: Vec<String>,
    /// Of the weights, rounded.
    #[serde(default)]
    pub megabytes: Option<u64>,
    /// SHA-256 of files, by their names.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
    /// What network it is.
    pub architecture: String,
    /// The licence of the weights.
    pub licence: String,
    /// What it is for.
    pub purpose: String,
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At the hub.
    Hub(RepoId),
    /// In a folder.
    Folder(PathBuf),
}

impl Manifest {
    /// Finds what cannot be meant.
    ///
    /// # Errors
    /// The first entry that is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for entry in &self.models {
            let bad = |what: &str| Err(format!("model {:?}: {what}", entry.name));
            if entry.name.is_empty() || entry.name.contains('/') {
                return bad("a name is not empty and has no /");
            }
            if !names.insert(&entry.name) {
                return bad("the name is there twice");
            }
            if let Err(e) = entry.place() {
                return bad(&e.to_string());
            }
            let hex = |hash: &&String| hash.len() != 64 || !super::repo::is_hex(hash);
            if let Some(hash) = entry.sha256.values().find(hex) {
                return bad(&format!("{hash:?} is no SHA-256"));
            }
        }
        Ok(())
    }

    /// The model of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == name)
    }
}

impl Entry {
    /// Where it is.
    ///
    /// # Errors
    /// Neither a repository nor a folder, or both, or a repository's name that is none.
    pub fn place(&self) -> Result<Place, HubError> {
        match (&self.repository, &self.folder) {
            (Some(repository), None) => {
                let revision = self.revision.as_deref().unwrap_or("main");
                Ok(Place::Hub(format!("{repository}@{revision}").parse()?))
            }
            (None, Some(folder)) => Ok(Place::Folder(folder.clone())),
            _ => Err(HubError::Name {
                text: self.name.clone(),
                reason: "it needs either a repository or a folder",
            }),
        }
    }

    /// The files whose hash is known.
    pub fn known(&self) -> Vec<Known> {
        let known = |(name, sha256): (&String, &String)| Known {
            name: name.clone(),
            sha256: sha256.clone(),
        };
        self.sha256.iter().map(known).collect()
    }
}
