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
        let mut hasher = Hasher::known(self);
        if hasher.sha256.is_none() {
            return Ok(());
        }
        let mut file = File::open(blob).map_err(HubError::io("open", blob))?;
        read_through(&mut file, blob, |bytes| {
            hasher.update(bytes);
            match progress.stop() {
                true => Err(HubError::Cancelled),
                false => Ok(()),
            }
        })?;
        match hasher.mismatch() {
            None => Ok(()),
            Some((what, got, want)) => Err(self.wrong(what, got, want)),
        }
    }

    fn wrong(&self, what: &'static str, got: String, want: String) -> HubError {
        HubError::Wrong {
            file: self.name.clone(),
            what,
            got,
            want,
        }
    }
}

/// Shows all that is left of a file to `each`, piece by piece.
fn read_through(
    file: &mut File,
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => each(buffer.get(..n).unwrap_or_default())?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(HubError::io("read", path)(e)),
        }
    }
}

/// The hashes of what is there so far, each with what it is to be.
#[derive(Default)]
struct Hasher {
    sha256: Option<(Sha256, String)>,
    git: Option<(Sha1, String)>,
}

impl Hasher {
    /// The hash that the file's name at the hub is, and the one that is known from elsewhere; where both are SHA-256 they are
    /// one.
    fn new(expected: &Expected) -> Self {
        let mut hasher = Self::known(expected);
        let etag = expected.etag.clone();
        match kind(&etag) {
            Kind::Sha256 => hasher.sha256 = Some((Sha256::new(), etag)),
            Kind::Git => {
                let begun = Sha1::new_with_prefix(format!("blob {}\0", expected.size));
                hasher.git = Some((begun, etag));
            }
            Kind::Unknown => {}
        }
        hasher
    }

    /// The hash that is known from elsewhere and is not the name, alone.
    fn known(expected: &Expected) -> Self {
        let known = expected.sha256.clone().filter(|h| *h != expected.etag);
        Self {
            sha256: known.map(|want| (Sha256::new(), want)),
            git: None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some((hash, _)) = &mut self.sha256 {
            hash.update(bytes);
        }
        if let Some((hash, _)) = &mut self.git {
            hash.update(bytes);
        }
    }

    /// The first that is not what it is to be: what it is called, what it is, and what it should be.
    fn mismatch(self) -> Option<(&'static str, String, String)> {
        let hex = |digest: &[u8]| digest.iter().map(|b| format!("{b:02x}")).collect();
        let sha256 = (self.sha256).map(|(hash, want)| ("SHA-256", hex(&hash.finalize()), want));
        let git = (self.git).map(|(hash, want)| ("git hash", hex(&hash.finalize()), want));
        let found: [Option<(_, String, _)>; 2] = [sha256, git];
        found
            .into_iter()
            .flatten()
            .find(|(_, got, want)| got != want)
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
        let Self {
            file, hasher, done, ..
        } = &mut partial;
        read_through(file, &path, |bytes| {
            hasher.update(bytes);
            *done += bytes.len() as u64;
            Ok(())
        })?;
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
                return Err(Failure::Final(self.expected.wrong(
                    "size",
                    format!("more than {size}"),
                    size.to_string(),
                )));
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

    fn discard(&self) {
        // If it cannot be removed it stays an incomplete file, which is never taken for a whole one unchecked.
        let _ = std::fs::remove_file(&self.path);
    }

    /// Puts a whole file with the right hash in its place. What was resumed and is wrong may be begun anew: `Ok(false)`.
    pub(super) fn finish(&mut self, place: &Path) -> Result<bool> {
        let hasher = std::mem::take(&mut self.hasher);
        if let Some((what, got, want)) = hasher.mismatch() {
            if self.resumed {
                self.restart()?;
                return Ok(false);
            }
            self.discard();
            return Err(self.expected.wrong(what, got, want));
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
