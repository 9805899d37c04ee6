//! Models in several safetensors files, with an index beside them that says which tensor is in which.

use super::Contents;
use crate::bytes::Bytes;
use crate::error::{Error, Result, shown};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The longest index.
const MAX_INDEX: usize = 8 << 20;
/// The most files.
const MAX_FILES: usize = 1000;

/// `*.safetensors.index.json` as diffusers and transformers write it.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files an index names, each with its tensors, all names plain names of files beside it.
///
/// # Errors
/// An index that is no JSON of this form, too long, or names files elsewhere.
pub fn read_index(path: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let bytes = Bytes::map(path)?;
    if bytes.len() > MAX_INDEX {
        return Err(Error::file(
            path,
            format!(
                "an index of {} bytes; at most {MAX_INDEX} are read",
                bytes.len()
            ),
        ));
    }
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|e| Error::file(path, format!("it is no index of safetensors files: {e}")))?;
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        if file.is_empty() || file.starts_with('.') || file.contains(['/', '\\', ':', '\0']) {
            return Err(Error::tensor(
                path,
                &tensor,
                format!(
                    " is said to be in {:?}, which is no name of a file beside the index",
                    shown(&file)
                ),
            ));
        }
        files.entry(file).or_default().push(tensor);
    }
    if files.is_empty() || files.len() > MAX_FILES {
        return Err(Error::file(
            path,
            format!(
                "the index names {} files; 1 to {MAX_FILES} are read",
                files.len()
            ),
        ));
    }
    Ok(files)
}

/// All tensors that an index names. Each of its files is mapped, and must hold what the index says and nothing else.
pub(crate) fn read(path: &Path) -> Result<Contents> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut all, mut metadata) = (Vec::new(), BTreeMap::new());
    for (file, names) in read_index(path)? {
        let at = folder.join(&file);
        let (tensors, more) = super::read(&Bytes::map(&at)?, &at)?;
        metadata.extend(more);
        let here: HashSet<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(missing) = names.iter().find(|name| !here.contains(name.as_str())) {
            return Err(Error::tensor(
                &at,
                missing,
                format!(" is missing; {} says it is here", path.display()),
            ));
        }
        if let Some((extra, _)) = tensors
            .iter()
            .find(|(name, _)| names.binary_search(name).is_err())
        {
            return Err(Error::tensor(
                &at,
                extra,
                format!(" is not in {}", path.display()),
            ));
        }
        all.extend(tensors);
    }
    Ok((all, metadata))
}
