//! Writing files and folders so that nobody ever sees half of one.
//!
//! Everything is first written under a temporary name *in the same folder*, brought to the disk, and then renamed: the
//! name holds either what it held before or the whole of what is new, even when the process is killed or the disk fills
//! up. An error removes the temporary; a `SIGKILL` can leave one behind, which [`remove_stale`] sweeps away.
//!
//! ```
//! use std::io::Write;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("note.txt");
//! wmgm::files::write_atomic(&path, |file| file.write_all(b"whole or not at all"))?;
//! assert_eq!(std::fs::read(&path)?, b"whole or not at all");
//! # Ok(()) }
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a file or folder could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused: no such folder, no permission, disk full.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder that should hold the file does not exist.
    #[error("cannot write {}: the folder {} does not exist; create it first", path.display(), folder.display())]
    NoFolder {
        /// The file or folder that was asked for.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// Replacing this folder would destroy something that this program did not write.
    #[error("will not replace the folder {}: it is not empty and holds no {marker}, so it is not one of this kind; name another", path.display())]
    NotOurs {
        /// The folder that was asked for.
        path: PathBuf,
        /// The file that folders of the expected kind hold.
        marker: String,
    },
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Write {
            path: path.to_owned(),
            source,
        }
    }
}

/// Writes the file `path` as a whole or not at all.
///
/// `write` gets a buffered writer on a temporary file; flushing, `fsync` and the rename are done here. A symbolic link
/// is followed and its target replaced, permissions of a file that is replaced are kept. A device or pipe
/// (`/dev/stdout`) cannot be replaced and is written directly.
///
/// # Errors
/// What `write` or the operating system reports, with `path`; the temporary is then gone and `path` untouched.
pub fn write_atomic<F>(path: impl AsRef<Path>, write: F) -> Result<(), FileError>
where
    F: FnOnce(&mut BufWriter<File>) -> io::Result<()>,
{
    let path = path.as_ref();
    let name_path = FileError::io(path);
    let (target, existing) = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(name_path(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            let direct = || {
                let mut file = BufWriter::new(OpenOptions::new().write(true).open(path)?);
                write(&mut file).and_then(|()| file.flush())
            };
            return direct().map_err(name_path);
        }
        Ok(meta) => (
            path.canonicalize().map_err(FileError::io(path))?,
            Some(meta.permissions()),
        ),
        Err(e) if e.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
        Err(e) => return Err(name_path(e)),
    };
    let parent = existing_parent(&target)?;
    let attempt = || {
        let (temporary, file) = Temporary::create(&target, |p| {
            OpenOptions::new().write(true).create_new(true).open(p)
        })?;
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(permissions) = existing {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        drop(file);
        temporary.rename(&target)
    };
    attempt().map_err(name_path)?;
    sync_folder(parent);
    Ok(())
}

/// Fails where [`write_atomic`] would: before long work whose result goes to `path`.
///
/// # Errors
/// A folder of that name, a missing folder around it, or one that refuses new files.
pub fn check_writable(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(FileError::io(path)(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => Ok(()), // a device or pipe: only writing tells
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::io(path)(e)),
        _ => {
            existing_parent(path)?;
            let make = |p: &Path| OpenOptions::new().write(true).create_new(true).open(p);
            Temporary::create(path, make)
                .map(drop)
                .map_err(FileError::io(path))
        }
    }
}

/// The contents of the file `path`, unless it is larger than can be meant.
pub(crate) fn read_bounded(path: &Path, most: u64) -> crate::Result<Vec<u8>> {
    let read = || {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(too_large(most));
        }
        Ok(bytes)
    };
    read().map_err(|e| crate::Error::io("read", path, e))
}

/// The claim of one process on a folder, in which it is doing this (such as "training"), for as long as it is kept.
pub(crate) fn claim(folder: &Path, doing: &str) -> crate::Result<File> {
    let path = folder.join(".lock");
    let lock = File::create(&path).map_err(|e| crate::Error::io("create", &path, e))?;
    match lock.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(crate::Error::Argument(format!(
            "another process is {doing} in {}; wait for it or name another folder",
            folder.display()
        ))),
        // Some network file systems know no locks; the user then has to take care.
        _ => Ok(lock),
    }
}

/// The JSON file `path`, unless it is larger than can be meant.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    most: u64,
) -> crate::Result<T> {
    serde_json::from_slice(&read_bounded(path, most)?).map_err(|e| crate::Error::Config {
        path: path.into(),
        reason: e.to_string(),
    })
}

/// The file `path`, mapped, unless it is larger than can be meant.
pub(crate) fn map_bounded(path: &Path, most: u64) -> crate::Result<checkpoints::Bytes> {
    let bytes = checkpoints::Bytes::map(path).map_err(|e| match e {
        checkpoints::Error::Io { source, .. } => crate::Error::io("read", path, source),
        other => crate::Error::io("read", path, io::Error::other(other.reason())),
    })?;
    if bytes.len() as u64 > most {
        return Err(crate::Error::io("read", path, too_large(most)));
    }
    Ok(bytes)
}

fn too_large(most: u64) -> io::Error {
    io::Error::other(format!(
        "it is larger than the {most} bytes that such a file may have"
    ))
}

/// Writes the folder `target` as a whole or not at all.
///
/// `build` fills a temporary sibling folder; its files are then brought to the disk and the folder takes its name. A
/// folder that is already there is replaced only when it is empty or holds a file called `marker`, which every folder
/// of this kind holds. On Linux and macOS the two are exchanged in one step; elsewhere, and on file systems without
/// that step, the old one waits as `.NAME.previous` for the length of one rename, and [`recover_folder`] brings it back
/// if the process dies just then.
///
/// # Errors
/// What `build` reports, or [`FileError`]; the temporary is then gone and `target` untouched.
pub fn write_folder<E, F>(target: impl AsRef<Path>, marker: &str, build: F) -> Result<(), E>
where
    E: From<FileError>,
    F: FnOnce(&Path) -> Result<(), E>,
{
    let target = target.as_ref();
    let parent = existing_parent(target)?.to_owned();
    recover_folder(target)?;
    let replaces = replaceable(target, marker)?;
    let (temporary, ()) =
        Temporary::create(target, |p| fs::create_dir(p)).map_err(FileError::io(target))?;
    build(&temporary.path)?;
    let finish = || {
        sync_tree(&temporary.path)?;
        if !replaces {
            return temporary.rename(target);
        }
        if exchange(&temporary.path, target).is_err() {
            let previous = previous(target);
            fs::rename(target, &previous)?;
            if let Err(e) = fs::rename(&temporary.path, target) {
                fs::rename(&previous, target)?;
                return Err(e);
            }
            fs::rename(&previous, &temporary.path)?;
        }
        Ok(()) // what now bears the temporary name is the old folder, which dropping removes
    };
    finish().map_err(FileError::io(target))?;
    sync_folder(&parent);
    Ok(())
}

/// Whether there is a folder that [`write_folder`] may replace.
fn replaceable(target: &Path, marker: &str) -> Result<bool, FileError> {
    match fs::read_dir(target).map(Iterator::count) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(FileError::io(target)(e)),
        Ok(entries) if entries == 0 || target.join(marker).is_file() => Ok(true),
        Ok(_) => Err(FileError::NotOurs {
            path: target.to_owned(),
            marker: marker.to_owned(),
        }),
    }
}

/// Fails where [`write_folder`] would: before long work whose result goes to `target`.
///
/// # Errors
/// A folder that holds something else, a missing folder around it, or one that refuses new folders.
pub fn check_folder(target: impl AsRef<Path>, marker: &str) -> Result<(), FileError> {
    let target = target.as_ref();
    existing_parent(target)?;
    replaceable(target, marker)?;
    Temporary::create(target, |p| fs::create_dir(p))
        .map(drop)
        .map_err(FileError::io(target))
}

/// Puts back the old folder if a process died exactly between the two renames of [`write_folder`]. True if it did.
///
/// # Errors
/// If the folder waits there but cannot be renamed or removed.
pub fn recover_folder(target: impl AsRef<Path>) -> Result<bool, FileError> {
    let target = target.as_ref();
    let previous = previous(target);
    if !previous.is_dir() {
        return Ok(false);
    }
    if target.exists() {
        fs::remove_dir_all(&previous).map_err(FileError::io(target))?;
        return Ok(false);
    }
    fs::rename(&previous, target).map_err(FileError::io(target))?;
    Ok(true)
}

/// Removes the temporaries that killed processes left in `folder`, and says how many.
///
/// Call it only on a folder that no other process is writing to, such as the folder of a run being resumed.
///
/// # Errors
/// If the folder cannot be read or a temporary not removed.
pub fn remove_stale(folder: impl AsRef<Path>) -> Result<usize, FileError> {
    let folder = folder.as_ref();
    let sweep = || {
        let mut removed = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if is_temporary(&entry.file_name()) {
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
                removed += 1;
            }
        }
        Ok(removed)
    };
    sweep().map_err(FileError::io(folder))
}

/// A file or folder under a name of this process only; removed when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A free name beside `target`: `.NAME.PROCESS-COUNT.tmp`. Another machine on the same share can have our process
    /// number, so `make` must refuse what exists and the next count is tried.
    fn create<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name")
        })?;
        let name: String = name.to_string_lossy().chars().take(50).collect(); // names end at 255 bytes
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = target.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
            match make(&path) {
                Ok(made) => return Ok((Self { path }, made)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn rename(&self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a successful rename there is nothing here: both calls fail, as they should.
        if fs::remove_file(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether `name` is one that [`Temporary::create`] gives.
fn is_temporary(name: &OsStr) -> bool {
    let number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let parts = || {
        name.to_str()?
            .strip_prefix('.')?
            .strip_suffix(".tmp")?
            .rsplit_once('.')?
            .1
            .split_once('-')
    };
    parts().is_some_and(|(process, count)| number(process) && number(count))
}

/// Where the old folder waits on systems that cannot exchange two names in one step.
fn previous(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.previous"))
}

/// The folder that holds `target`, which must exist.
fn existing_parent(target: &Path) -> Result<&Path, FileError> {
    let parent = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if parent.is_dir() {
        Ok(parent)
    } else {
        Err(FileError::NoFolder {
            path: target.to_owned(),
            folder: parent.to_owned(),
        })
    }
}

/// Swaps two folders in one step.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Brings every file below `folder` to the disk.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            t if t.is_dir() => sync_tree(&entry.path())?,
            t if t.is_file() => OpenOptions::new()
                .append(true)
                .open(entry.path())?
                .sync_all()?,
            _ => {}
        }
    }
    sync_folder(folder);
    Ok(())
}

/// Brings a folder's list of names to the disk; where a folder cannot be opened or synced (Windows, some network file
/// systems) the rename is atomic all the same, only possibly later.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
