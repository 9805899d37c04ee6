//! One file, byte for byte into its place.

use super::cache::RepoCache;
use super::error::{HubError, Result};
use super::http::{self, Answer, Failure, Tried};
use super::listing::{Kind, kind};
use super::progress::{Event, Progress};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Read from the network, and hashed, at a time.
const CHUNK: usize = 1 << 18;

/// What a file is to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) etag: String,
    /// Where it is known from elsewhere.
    pub(super) sha256: Option<String>,
}

impl Expected {
    /// Whether a file that is there has the hash that is known; one whose name is that hash was checked when it came.
    pub(super) fn check(&self, blob: &Path, progress: &dyn Progress) -> Result<()> {
        let Some(want) = self.sha256.as_ref().filter(|hash| **hash != self.etag) else {
            return Ok(());
        };
        let io = |op| HubError::io(op, blob);
        let mut file = File::open(blob).map_err(io("open"))?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            if progress.stop() {
                return Err(HubError::Cancelled);
            }
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.update(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(io("read")(e)),
            }
        }
        let got = hex(&hash.finalize());
        match got == *want {
            true => Ok(()),
            false => Err(HubError::Wrong {
                file: self.name.clone(),
                what: "SHA-256",
                got,
                want: want.clone(),
            }),
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// The hash of what is there so far, by the file's name at the hub.
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    None,
}

impl Hasher {
    fn new(expected: &Expected) -> Self {
        match kind(&expected.etag) {
            Kind::Sha256 => Self::Sha256(Sha256::new()),
            Kind::Git => Self::Git(Sha1::new_with_prefix(format!("blob {}\0", expected.size))),
            Kind::Unknown => Self::None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::None => {}
        }
    }

    /// What it is called and what it is; nothing where there is nothing to compare.
    fn finish(self) -> Option<(&'static str, String)> {
        match self {
            Self::Sha256(hash) => Some(("SHA-256", hex(&hash.finalize()))),
            Self::Git(hash) => Some(("git hash", hex(&hash.finalize()))),
            Self::None => None,
        }
    }
}

/// A file that grows to what it is to be. Its lock is held by the caller.
pub(super) struct Partial<'a> {
    expected: &'a Expected,
    path: PathBuf,
    file: File,
    done: u64,
    hasher: Hasher,
    /// Whether some of it came before this process.
    resumed: bool,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier run left, or begins anew.
    pub(super) fn open(expected: &'a Expected, cache: &RepoCache) -> Result<Self> {
        let path = cache.incomplete(&expected.etag);
        let io = |op| HubError::io(op, &path);
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mut partial = Self {
            expected,
            file: open.map_err(io("open"))?,
            path: path.clone(),
            done: 0,
            hasher: Hasher::new(expected),
            resumed: false,
        };
        let length = partial.file.metadata().map_err(io("read"))?.len();
        if length > expected.size {
            partial.restart()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; CHUNK];
        while partial.done < length {
            match partial.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    partial.hasher.update(buffer.get(..n).unwrap_or_default());
                    partial.done += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(io("read")(e)),
            }
        }
        partial.resumed = partial.done > 0;
        Ok(partial)
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }

    pub(super) fn is_whole(&self) -> bool {
        self.done == self.expected.size
    }

    /// Forgets what is there.
    fn restart(&mut self) -> Result<()> {
        let io = |op| HubError::io(op, &self.path);
        self.file.set_len(0).map_err(io("write"))?;
        self.file.seek(SeekFrom::Start(0)).map_err(io("write"))?;
        self.done = 0;
        self.hasher = Hasher::new(self.expected);
        self.resumed = false;
        Ok(())
    }

    /// Takes what an answer brings, which was asked for from `self.done()` on.
    pub(super) fn receive(&mut self, answer: Answer, progress: &dyn Progress) -> Tried<()> {
        let (name, size) = (&self.expected.name, self.expected.size);
        match answer.status().as_u16() {
            // Nothing is left to come: the file is whole, or not the one that began here.
            416 if self.done > 0 => {
                self.restart()?;
                return Err(passing(name, 0, "the range was refused"));
            }
            416 => return Err(passing(name, 0, "no range was asked for and yet refused")),
            206 => {
                let range = http::text(answer.headers(), "content-range").unwrap_or_default();
                let begins = range
                    .strip_prefix("bytes ")
                    .and_then(|r| r.split('-').next());
                let total = range.rsplit('/').next().and_then(|t| t.parse().ok());
                if begins.and_then(|b| b.parse().ok()) != Some(self.done)
                    || total.is_some_and(|t: u64| t != size)
                {
                    self.restart()?;
                    let reason = format!("another range than asked for ({range})");
                    return Err(passing(name, self.done, &reason));
                }
            }
            // The server begins at the beginning, so we must, too.
            _ if self.done > 0 => self.restart()?,
            _ => {}
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            if progress.stop() {
                return Err(HubError::Cancelled.into());
            }
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(passing(name, self.done, &e.to_string())),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            if self.done + count as u64 > size {
                self.discard();
                return Err(Failure::Final(
                    self.wrong("size", format!("more than {size}")),
                ));
            }
            self.write(bytes)?;
            progress.event(Event::Bytes {
                file: name,
                done: self.done,
                size,
            });
        }
        match self.is_whole() {
            true => Ok(()),
            false => Err(passing(name, self.done, "it ended early")),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| {
            if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                self.no_space()
            } else {
                HubError::io("write", &self.path)(e)
            }
        })?;
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// Fails if the rest of the file cannot fit.
    pub(super) fn check_space(&self) -> Result<()> {
        match free_space(&self.path) {
            Some(free) if free < self.expected.size - self.done => Err(self.no_space()),
            _ => Ok(()),
        }
    }

    fn no_space(&self) -> HubError {
        HubError::Space {
            file: self.expected.name.clone(),
            path: self.path.clone(),
            need: self.expected.size.saturating_sub(self.done),
        }
    }

    fn wrong(&self, what: &'static str, got: String) -> HubError {
        HubError::Wrong {
            file: self.expected.name.clone(),
            what,
            got,
            want: match what {
                "size" => self.expected.size.to_string(),
                _ => self.expected.etag.clone(),
            },
        }
    }

    fn discard(&self) {
        // If it cannot be removed it stays an incomplete file, which is never taken for a whole one unchecked.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Puts a whole file with the right hash in its place. What was resumed and is wrong may be begun anew: `Ok(false)`.
    pub(super) fn finish(&mut self, place: &Path) -> Result<bool> {
        let hasher = std::mem::replace(&mut self.hasher, Hasher::None);
        if let Some((what, got)) = hasher.finish()
            && got != self.expected.etag
        {
            if self.resumed {
                self.restart()?;
                return Ok(false);
            }
            self.discard();
            return Err(self.wrong(what, got));
        }
        if let Err(error) = self.expected.check(&self.path, &()) {
            self.discard();
            return Err(error);
        }
        self.file
            .sync_all()
            .map_err(HubError::io("write", &self.path))?;
        std::fs::rename(&self.path, place).map_err(HubError::io("write", place))?;
        Ok(true)
    }
}

fn passing(file: &str, at: u64, reason: &str) -> Failure {
    let broken = HubError::Broken {
        file: file.into(),
        at,
        reason: reason.into(),
    };
    Failure::Passing(broken, None)
}

/// Bytes that a user may still write beside `path`, where the system says.
#[cfg(unix)]
fn free_space(path: &Path) -> Option<u64> {
    let stats = rustix::fs::statvfs(path.parent()?).ok()?;
    Some(stats.f_bavail.saturating_mul(stats.f_frsize))
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}
