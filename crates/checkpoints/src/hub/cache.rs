//! The cache's folders, shared with Python's tools: `models--OWNER--NAME` with `blobs`, `refs` and `snapshots`, and
//! `.locks` beside them. A blob is named by its ETag; a snapshot's files are links to blobs.

use super::error::{HubError, Result};
use super::progress::{Event, Progress};
use super::repo::{RepoId, is_commit};
use hf_hub::{Cache, Repo, RepoType};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folders of one repository.
pub(super) struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
    folder: PathBuf,
    snapshots: hf_hub::CacheRepo,
}

/// A lock, held until dropped.
pub(super) struct Lock(#[allow(dead_code)] File);

impl RepoCache {
    pub(super) fn new(root: &Path, repo: &RepoId) -> Self {
        let named =
            Repo::with_revision(repo.name().into(), RepoType::Model, repo.revision().into());
        let folder = named.folder_name();
        Self {
            root: root.into(),
            locks: root.join(".locks").join(&folder),
            folder: root.join(&folder),
            snapshots: Cache::new(root.into()).repo(named),
        }
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.snapshots.pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Where a blob grows until it is whole.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The commit that a revision was when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records which commit a revision is.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        make_parent(&path)?;
        replace(&path, |temporary| fs::write(temporary, commit))
    }

    /// Waits until no other process, nor another part of this one, has the lock of a blob.
    pub(super) fn lock(&self, etag: &str, file: &str, progress: &dyn Progress) -> Result<Lock> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let lock = open.map_err(HubError::io("open", &path))?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Lock(lock)),
                Err(TryLockError::Error(e)) => return Err(HubError::io("lock", &path)(e)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                progress.event(Event::Waiting { file });
                told = true;
            }
            if progress.stop() {
                return Err(HubError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the snapshot's file a link to the blob.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let pointer = self.snapshot(commit).join(file);
        make_parent(&pointer)?;
        let blob = self.blob(etag);
        #[cfg(unix)]
        {
            // Up to the repository's folder: out of the file's folders, its commit and `snapshots`.
            let up = "../".repeat(file.split('/').count() + 1);
            let target = format!("{up}blobs/{etag}");
            replace(&pointer, |temporary| {
                std::os::unix::fs::symlink(&target, temporary)
            })?;
        }
        #[cfg(not(unix))]
        replace(&pointer, |temporary| {
            fs::hard_link(&blob, temporary).or_else(|_| fs::copy(&blob, temporary).map(|_| ()))
        })?;
        if !blob.is_file() {
            return Err(HubError::io("find", &blob)(io::ErrorKind::NotFound.into()));
        }
        Ok(pointer)
    }

    /// Makes the folder of blobs, and a note for programs that look for caches.
    pub(super) fn prepare(&self) -> Result<()> {
        let tag = self.root.join("CACHEDIR.TAG");
        make_parent(&self.blob("x"))?;
        if !tag.exists() {
            // It only spares a backup some work.
            let _ = fs::write(
                tag,
                "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of models from the Hugging Face hub.\n",
            );
        }
        Ok(())
    }

    /// The files of a commit that are there, by their names.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let (path, name) = (entry.path(), format!("{prefix}{name}"));
                if path.is_file() {
                    found.push(name);
                } else if path.is_dir() && depth > 0 {
                    walk(&path, &format!("{name}/"), depth - 1, found);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.snapshot(commit), "", 8, &mut found);
        found.retain(|name| !name.ends_with(".tmp"));
        found.sort();
        found
    }
}

fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(HubError::io("create", folder))
}

/// Puts a new file or link where `path` is, in one step.
fn replace(path: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<()> {
    let attempt = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = tempfile::Builder::new()
            .prefix(".")
            .suffix(".tmp")
            .make_in(folder, |temporary| make(temporary))?;
        made.into_temp_path().persist(path).map_err(|e| e.error)
    };
    attempt().map_err(HubError::io("write", path))
}
