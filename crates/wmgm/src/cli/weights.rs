//! Files of the weights of the metrics' networks, by the networks' names.

use std::path::{Path, PathBuf};
use wmgm::eval::Network;

/// `NETWORK=FILE`.
pub fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let known: Vec<&str> = Network::ALL.iter().map(|n| n.name()).collect();
    match text.split_once('=') {
        Some((name, file)) if known.contains(&name) && !file.is_empty() => {
            Ok((name.into(), file.into()))
        }
        _ => Err(format!(
            "{text:?} is not NETWORK=FILE with one of {}",
            known.join(", ")
        )),
    }
}

/// The last file given for a network.
pub fn file<'a>(given: &'a [(String, PathBuf)], network: &str) -> Option<&'a Path> {
    let mut mine = given.iter().rev().filter(|(name, _)| name == network);
    mine.next().map(|(_, file)| file.as_path())
}
