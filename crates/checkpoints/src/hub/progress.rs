//! What a caller may see of a download.

use super::HubError;
use std::time::Duration;

/// What happens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The files are known.
    Listed {
        /// Their number.
        files: usize,
        /// Their bytes, as far as the hub says.
        bytes: u64,
    },
    /// A file is in the cache already.
    Cached {
        /// The file.
        file: &'a str,
    },
    /// Another process is downloading the file.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// A file begins, or goes on.
    Started {
        /// The file.
        file: &'a str,
        /// Bytes of it that are there.
        have: u64,
        /// All its bytes.
        size: u64,
    },
    /// Some of a file came.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes of it that are there.
        done: u64,
        /// All its bytes.
        size: u64,
    },
    /// Something failed and is tried again.
    Retrying {
        /// What.
        what: &'a str,
        /// After how long.
        wait: Duration,
        /// Why.
        reason: &'a HubError,
    },
    /// A file is in the cache, whole and checked.
    Done {
        /// The file.
        file: &'a str,
    },
}

/// Watches a download and may end it.
pub trait Progress: Sync {
    /// Is told what happens.
    fn event(&self, event: Event<'_>);

    /// Whether to stop. What came is kept.
    fn stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Progress for () {
    fn event(&self, _: Event<'_>) {}
}
