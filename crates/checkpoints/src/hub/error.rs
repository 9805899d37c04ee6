//! What can go wrong between here and the hub, with what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// An error of the hub or its cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name that is none.
    #[error("{text:?} is no repository: {reason}; give owner/name or owner/name@revision")]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting that cannot be used.
    #[error("{name}: {reason}")]
    Setting {
        /// The environment's variable.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// HF_HUB_OFFLINE is set, and the cache lacks something.
    #[error("{what} is not in the cache {}, and HF_HUB_OFFLINE forbids to download it", cache.display())]
    Offline {
        /// What is missing.
        what: String,
        /// Where it was looked for.
        cache: PathBuf,
    },
    /// There is no such repository, or nobody may see it without permission.
    #[error(
        "there is no repository {repo}, or it is private: check its name{}", if *token { "; the token given has no access" } else { "; if you have access, set HF_TOKEN" }
    )]
    Repository {
        /// The repository.
        repo: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// Access has to be asked for.
    #[error(
        "{repo} is gated: accept its terms at {page}, then set HF_TOKEN to a token of that account"
    )]
    Gated {
        /// The repository.
        repo: String,
        /// Where to ask.
        page: String,
    },
    /// The hub refuses.
    #[error("the hub refuses access to {what} (status {status}): {}", if *token { "the token has not the right to it" } else { "set HF_TOKEN" })]
    Forbidden {
        /// What was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        token: bool,
    },
    /// There is no such branch, tag or commit.
    #[error("{repo} has no revision {revision}")]
    Revision {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
    },
    /// There is no such file.
    #[error("{repo} has no file {file}{}", if known.is_empty() { String::new() } else { format!("; it has {known}") })]
    File {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// Files it has.
        known: String,
    },
    /// No answer came.
    #[error("{url} cannot be reached: {reason}; check the network, or HF_ENDPOINT and HTTPS_PROXY")]
    Network {
        /// What was asked for.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke while a file came, and did so again.
    #[error(
        "the connection broke at byte {at} of {file}: {reason}; what came is kept, run the same command to go on"
    )]
    Broken {
        /// The file.
        file: String,
        /// Bytes that are there.
        at: u64,
        /// Why.
        reason: String,
    },
    /// The hub wants to be left alone for a while.
    #[error("the hub asks to wait{} before asking for {what} again (status {status})", wait.map_or(String::new(), |w| format!(" {} s", w.as_secs())))]
    Busy {
        /// What was asked for.
        what: String,
        /// 429 or 5xx.
        status: u16,
        /// How long, if it said.
        wait: Option<Duration>,
    },
    /// An answer that is none of the hub's.
    #[error("{url} answered with {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What came.
        reason: String,
    },
    /// A file came whole but wrong. It was not kept.
    #[error("{file} is wrong: its {what} is {got} instead of {want}; nothing of it was kept")]
    Wrong {
        /// The file.
        file: String,
        /// size, SHA-256 or git hash.
        what: &'static str,
        /// What came.
        got: String,
        /// What was announced.
        want: String,
    },
    /// The disk is full.
    #[error("no space for {file}: {} needs {need} bytes more; free some, or set HF_HUB_CACHE to another disk", path.display())]
    Space {
        /// The file.
        file: String,
        /// Where it goes.
        path: PathBuf,
        /// Bytes still to come.
        need: u64,
    },
    /// The cache cannot be read or written.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("cancelled; what came is kept")]
    Cancelled,
}

/// Results of the hub.
pub type Result<T> = std::result::Result<T, HubError>;

impl HubError {
    pub(super) fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            op,
            path: path.into(),
            source,
        }
    }
}
