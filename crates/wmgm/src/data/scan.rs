//! Which files of a folder are pictures, in an order that every machine agrees on.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;

/// Extensions of files taken for pictures, in either case. What a file really is, its first bytes say.
pub const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// The pictures in `folder` and below, as paths relative to it, sorted by their bytes with `/` between parts.
///
/// Hidden files and folders (a name that starts with a dot) are left out; links are followed, a folder that is reached
/// twice counts once.
///
/// # Errors
/// [`DataError::Folder`] if a folder cannot be listed, [`DataError::NoPictures`] if nothing is found.
pub fn find_pictures(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, DataError> {
    let root = folder.as_ref();
    let mut found = Vec::new();
    let mut others = 0;
    let mut visited = HashSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = root.join(&relative);
        if !visited.insert(path.canonicalize().map_err(DataError::folder(&path))?) {
            continue;
        }
        let mut below = Vec::new();
        for entry in fs::read_dir(&path).map_err(DataError::folder(&path))? {
            let entry = entry.map_err(DataError::folder(&path))?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let relative = relative.join(name);
            // A dangling link has no metadata: its name decides, and opening it will say what is wrong.
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_dir() => below.push(relative),
                Ok(meta) if !meta.is_file() => others += 1,
                _ if is_picture(&relative) => found.push(relative),
                _ => others += 1,
            }
        }
        // The last is visited first: of two links to one folder, the first by name counts.
        below.sort_by_cached_key(|p| std::cmp::Reverse(key(p)));
        waiting.extend(below);
    }
    if found.is_empty() {
        return Err(DataError::NoPictures {
            path: root.to_owned(),
            others,
        });
    }
    found.sort_by_cached_key(|p| key(p));
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| EXTENSIONS.iter().any(|k| k.eq_ignore_ascii_case(e)))
}

/// The parts joined by `/`, whatever the system puts between them.
fn key(relative: &Path) -> Vec<u8> {
    relative
        .iter()
        .map(|part| part.as_encoded_bytes())
        .collect::<Vec<_>>()
        .join(&b'/')
}
