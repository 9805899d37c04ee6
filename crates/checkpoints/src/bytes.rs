//! The bytes of a file, mapped instead of read.

use crate::error::{Error, Result};
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

/// Bytes that clones share: of a mapped file, of the program itself, or in memory.
#[derive(Clone)]
pub struct Bytes(Arc<Kind>);

enum Kind {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Bytes {
    /// Maps a file: nothing is read until it is looked at, and then only once.
    ///
    /// The file must not be changed in place while it is mapped; files that are replaced by renaming, as those of the
    /// hub's cache and of this crate, never are.
    ///
    /// # Errors
    /// A file that is missing, cannot be opened or is none.
    pub fn map(path: &Path) -> Result<Self> {
        Self::try_map(path).map_err(|e| Error::io("read", path, e))
    }

    fn try_map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        if meta.len() == 0 {
            return Ok(Vec::new().into()); // not every system maps nothing
        }
        // SAFETY: The map is read-only and only ever seen as bytes, every value of which is valid. Another process could
        // cut or rewrite the file in place; that is outside the contract above, and what is read from the map is
        // checked as any other input.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Arc::new(Kind::Mapped(map))))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &*self.0 {
            Kind::Mapped(map) => map,
            Kind::Owned(bytes) => bytes,
            Kind::Shared(bytes) => bytes,
            Kind::Static(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Kind::Owned(bytes)))
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(Arc::new(Kind::Shared(bytes)))
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Arc::new(Kind::Static(bytes)))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.len())
    }
}
