//! What can be wrong with a file of tensors.

use std::io;
use std::path::{Path, PathBuf};

/// An error of reading or writing tensors, with the file and, where there is one, the tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is damaged, cut off, hostile, or of another kind.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that cannot be used.
    #[error("{}: tensor {name}{reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong with it, to be read after its name.
        reason: String,
    },
    /// A pickle that asks for more than tensors need. Nothing of it was run.
    #[error(
        "{}: its pickle wants {what}, which no file of tensors needs; nothing was run. Save the tensors alone, as a state_dict or as safetensors", path.display()
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// The object or instruction.
        what: String,
    },
    /// An error of the tensor library.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Results of this crate's formats.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            op,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn tensor(path: &Path, name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.into(),
            name: shown(name),
            reason: reason.into(),
        }
    }

    /// The message without the file's name, for callers that tell it themselves.
    pub fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::File { reason, .. } => reason.clone(),
            Self::Tensor { name, reason, .. } => format!("tensor {name}{reason}"),
            Self::Refused { what, .. } => format!("its pickle wants {what}; nothing was run"),
            Self::Candle(e) => e.to_string(),
        }
    }
}

/// What is wrong with bytes whose file is not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Damaged, cut off, hostile, or of another kind.
    #[error("{0}")]
    Bad(String),
    /// Asks for more than tensors need: the name of what.
    #[error("the pickle wants {0}; nothing was run")]
    Refused(String),
    /// A tensor, by its name, and what is wrong with it, to be read after the name.
    #[error("tensor {0}{1}")]
    Tensor(String, String),
}

impl Fault {
    /// The error of a file.
    pub(crate) fn of(self, path: &Path) -> Error {
        match self {
            Self::Bad(reason) => Error::file(path, reason),
            Self::Refused(what) => Error::Refused {
                path: path.into(),
                what,
            },
            Self::Tensor(name, reason) => Error::tensor(path, &name, reason),
        }
    }
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Bad(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Bad(reason.into())
    }
}

/// A name from a file as it may be shown: short, and without control characters.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 200;
    let text: String = name
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if name.chars().nth(MOST).is_some() {
        text + "..."
    } else {
        text
    }
}
