//! Names of repositories, revisions and files, checked before they become paths or addresses.

use super::error::{HubError, Result};
use std::fmt;
use std::str::FromStr;

/// A model's repository at a revision: `owner/name` or `owner/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepoId {
    name: String,
    revision: String,
}

impl RepoId {
    /// `owner/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, tag or commit; `main` unless given.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason| HubError::Name {
            text: text.chars().take(200).collect(),
            reason,
        };
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let Some((owner, model)) = name.split_once('/') else {
            return Err(bad("it has no owner"));
        };
        for part in [owner, model] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty() || part.len() > 96 || !part.chars().all(plain) {
                return Err(bad("owner and name are 1 to 96 letters, digits, or of -_."));
            }
            if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
                return Err(bad("owner and name neither begin nor end with . or -"));
            }
            if part.contains("--") || part.contains("..") {
                return Err(bad("owner and name have neither -- nor .."));
            }
        }
        if !is_plain_path(revision) || revision.contains('@') {
            return Err(bad("the revision is no branch, tag or commit"));
        }
        Ok(Self {
            name: name.into(),
            revision: revision.into(),
        })
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// Whether a name from the hub stays below the folder it is put into, on every system.
pub(super) fn is_plain_path(name: &str) -> bool {
    name.len() <= 500
        && !name.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c))
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether it is a commit's full hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

/// Whether all of it are lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// As part of an address; `keep` are reserved characters that stay.
pub(super) fn encoded(text: &str, keep: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            b if keep.contains(char::from(b)) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
