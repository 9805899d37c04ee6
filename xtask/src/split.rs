//! The list that says which pictures are for training and which are held out.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

/// The two parts of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Learned from.
    Train,
    /// Never learned from.
    Heldout,
}

impl Part {
    pub const ALL: [Self; 2] = [Self::Train, Self::Heldout];

    /// Name of the section in the list and of the folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Heldout => "heldout",
        }
    }
}

/// Reads a list: `[train]` and `[heldout]`, each followed by file stems, one per line; `#` begins a comment line.
pub fn parse(text: &str) -> Result<BTreeMap<String, Part>> {
    let mut parts = BTreeMap::new();
    let mut current = None;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        let number = number + 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            current = Part::ALL.into_iter().find(|p| p.name() == section);
            ensure!(
                current.is_some(),
                "line {number}: [{section}] is neither [train] nor [heldout]"
            );
            continue;
        }
        let Some(part) = current else {
            bail!("line {number}: {line:?} stands before any [train] or [heldout]")
        };
        ensure!(
            !line.contains(['/', '\\', '.']),
            "line {number}: {line:?} is not the stem of a file name"
        );
        if parts.insert(line.to_owned(), part).is_some() {
            bail!("line {number}: {line:?} is listed twice");
        }
    }
    ensure!(!parts.is_empty(), "the list holds no names");
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list() {
        let parts = parse(include_str!("../../assets/data/afhq-cat-split.txt")).unwrap();
        let count = |part| parts.values().filter(|&&p| p == part).count();
        assert_eq!((count(Part::Train), count(Part::Heldout)), (4598, 555));
    }

    #[test]
    fn faults_are_named_with_their_line() {
        for (text, expected) in [
            ("", "no names"),
            ("cat_1", "line 1"),
            ("# c\n[val]\ncat_1", "[val]"),
            ("[train]\ncat_1\n[heldout]\n\ncat_1", "line 5"),
            ("[train]\n../cat", "line 2"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
