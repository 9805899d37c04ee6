//! A set of equal square pictures in memory.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;

use super::{DataError, Limits, decode_file, find_pictures};
use crate::picture::{self, RgbImage};

/// The largest side of a picture in a set.
const MAX_SIZE: u32 = 4096;

/// How [`PictureSet::load`] treats files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadOptions {
    /// The fraction of the files found that may be broken.
    pub max_broken: f64,
    /// How large a file and its picture may be.
    pub limits: Limits,
}

impl Default for LoadOptions {
    /// 1 % broken, default [`Limits`].
    fn default() -> Self {
        Self {
            max_broken: 0.01,
            limits: Limits::default(),
        }
    }
}

/// How far [`PictureSet::load`] is. Events come one at a time, from any thread, with `done` counting up to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Files read, the broken included.
    pub done: usize,
    /// Files found.
    pub total: usize,
}

/// A progress callback that neither shows anything nor ever stops.
pub fn quiet(_: LoadProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A file left out of a set, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file, relative to the folder.
    pub path: PathBuf,
    /// Why it is no usable picture.
    pub reason: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.reason)
    }
}

/// Pictures of `size` x `size`, 8-bit RGB, one after the other in one block of memory.
#[derive(Clone)]
pub struct PictureSet {
    size: u32,
    names: Vec<PathBuf>,
    /// (N, size, size, 3)
    pixels: Vec<u8>,
    /// Kept: it takes a pass over all pixels.
    fingerprint: OnceLock<u64>,
}

impl PictureSet {
    /// Loads the pictures in `folder` and below ([`find_pictures`]), each scaled so that its short side is `size` and
    /// cut to its centre ([`picture::resize_crop`]), decoded on rayon's current threads.
    ///
    /// Files that are no usable picture are left out and returned in order. The result depends on the files alone,
    /// not on the number of threads. `progress` may stop the loading with [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`DataError::TooManyBroken`] with the first broken files, [`DataError::NoPictures`], [`DataError::Folder`],
    /// [`DataError::Resolution`], [`DataError::Memory`], [`DataError::Cancelled`].
    pub fn load(
        folder: impl AsRef<Path>,
        size: u32,
        options: &LoadOptions,
        progress: &(dyn Fn(LoadProgress) -> ControlFlow<()> + Sync),
    ) -> Result<(Self, Vec<Broken>), DataError> {
        let folder = folder.as_ref();
        check_size(size)?;
        let files = find_pictures(folder)?;
        let total = files.len();
        let mut pixels = reserve(total, size)?;
        let done = Mutex::new(0);
        let stop = AtomicBool::new(false);
        let reasons: Vec<Option<String>> = files
            .par_iter()
            .zip(pixels.par_chunks_exact_mut(bytes_of(size)))
            .map(|(file, out)| {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                let read = decode_file(folder.join(file), &options.limits)
                    .map(|p| out.copy_from_slice(picture::resize_crop(&p, size).as_raw()));
                // The lock is held while `progress` runs, so that counts come in order.
                let mut done = done
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                *done += 1;
                if progress(LoadProgress { done: *done, total }).is_break() {
                    stop.store(true, Ordering::Relaxed);
                }
                read.err().map(|e| e.to_string())
            })
            .collect();
        if stop.into_inner() {
            return Err(DataError::Cancelled);
        }
        Self::keep_whole(folder, size, options.max_broken, files, reasons, pixels)
    }

    /// Closes the gaps that broken files left.
    fn keep_whole(
        folder: &Path,
        size: u32,
        allowed: f64,
        files: Vec<PathBuf>,
        reasons: Vec<Option<String>>,
        mut pixels: Vec<u8>,
    ) -> Result<(Self, Vec<Broken>), DataError> {
        let (found, bytes) = (files.len(), bytes_of(size));
        let (mut names, mut broken) = (Vec::with_capacity(found), Vec::new());
        for (i, (path, reason)) in files.into_iter().zip(reasons).enumerate() {
            match reason {
                Some(reason) => broken.push(Broken { path, reason }),
                None => {
                    pixels.copy_within(i * bytes..(i + 1) * bytes, names.len() * bytes);
                    names.push(path);
                }
            }
        }
        let broken = tolerate(folder, found, allowed, broken)?;
        pixels.truncate(names.len() * bytes);
        Ok((
            Self {
                size,
                names,
                pixels,
                fingerprint: OnceLock::new(),
            },
            broken,
        ))
    }

    /// A set of pictures made elsewhere, each `size` x `size`.
    ///
    /// # Errors
    /// [`DataError::Values`] naming a picture of another size, [`DataError::Resolution`], [`DataError::Memory`].
    pub fn from_pictures<I>(size: u32, pictures: I) -> Result<Self, DataError>
    where
        I: IntoIterator<Item = (PathBuf, RgbImage)>,
    {
        check_size(size)?;
        let mut set = Self {
            size,
            names: Vec::new(),
            pixels: Vec::new(),
            fingerprint: OnceLock::new(),
        };
        for (name, picture) in pictures {
            if picture.dimensions() != (size, size) {
                return Err(DataError::Values {
                    what: name.display().to_string(),
                    found: picture.as_raw().len(),
                    size,
                });
            }
            set.pixels.extend_from_slice(picture.as_raw());
            set.names.push(name);
        }
        Ok(set)
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Width and height of every picture, in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The path of picture `i`, relative to the folder.
    ///
    /// # Errors
    /// [`DataError::Index`].
    pub fn name(&self, i: usize) -> Result<&Path, DataError> {
        self.names
            .get(i)
            .map(PathBuf::as_path)
            .ok_or(DataError::Index {
                index: i,
                len: self.len(),
            })
    }

    /// The pixels of picture `i`: rows of RGB triples, shape (size, size, 3).
    ///
    /// # Errors
    /// [`DataError::Index`].
    pub fn rgb(&self, i: usize) -> Result<&[u8], DataError> {
        let bytes = bytes_of(self.size);
        let range = i
            .checked_mul(bytes)
            .and_then(|start| Some(start..start.checked_add(bytes)?));
        range
            .and_then(|r| self.pixels.get(r))
            .ok_or(DataError::Index {
                index: i,
                len: self.len(),
            })
    }

    /// Picture `i`, copied.
    ///
    /// # Errors
    /// [`DataError::Index`].
    pub fn picture(&self, i: usize) -> Result<RgbImage, DataError> {
        let rgb = self.rgb(i)?.to_vec();
        RgbImage::from_raw(self.size, self.size, rgb).ok_or(DataError::Index {
            index: i,
            len: self.len(),
        })
    }

    /// Writes picture `i` to `out` as a network sees it: shape (3, size, size) in `[-1, 1]`, mirrored if `flip`.
    ///
    /// # Errors
    /// [`DataError::Index`], or [`DataError::Values`] if `out` has another length.
    pub fn fill_f32(&self, i: usize, flip: bool, out: &mut [f32]) -> Result<(), DataError> {
        let rgb = self.rgb(i)?;
        if out.len() != rgb.len() {
            return Err(DataError::Values {
                what: "the buffer to fill".into(),
                found: out.len(),
                size: self.size,
            });
        }
        picture::fill(rgb, self.size as usize, flip, out);
        Ok(())
    }

    /// A number that changes when a name, a pixel, the size or the order does (64-bit FNV-1a): a resumed run tells by it
    /// whether the data are still the same.
    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| self.hash())
    }

    fn hash(&self) -> u64 {
        let names = self.names.iter().flat_map(|n| {
            let parts = n
                .iter()
                .flat_map(|part| part.as_encoded_bytes().iter().chain(b"/"));
            parts.chain(b"\n").copied().collect::<Vec<u8>>()
        });
        let bytes = self
            .size
            .to_le_bytes()
            .into_iter()
            .chain(names)
            .chain(self.pixels.iter().copied());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

impl fmt::Debug for PictureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PictureSet({} pictures of {1}x{1})",
            self.len(),
            self.size
        )
    }
}

/// The broken of `found` files, if so many are `allowed`.
pub(super) fn tolerate(
    folder: &Path,
    found: usize,
    allowed: f64,
    broken: Vec<Broken>,
) -> Result<Vec<Broken>, DataError> {
    // `!(a <= b)`: a NaN allows nothing. A set of none is never allowed.
    let tolerated = broken.len() as f64 <= allowed * found as f64;
    if broken.len() == found || (!broken.is_empty() && !tolerated) {
        return Err(DataError::TooManyBroken {
            path: folder.to_owned(),
            found,
            allowed,
            broken,
        });
    }
    Ok(broken)
}

fn check_size(size: u32) -> Result<(), DataError> {
    if (1..=MAX_SIZE).contains(&size) {
        Ok(())
    } else {
        Err(DataError::Resolution {
            size,
            max: MAX_SIZE,
        })
    }
}

/// Bytes of one picture.
fn bytes_of(size: u32) -> usize {
    3 * size as usize * size as usize
}

/// Zeros for `count` pictures, or an error where plain allocation would abort.
fn reserve(count: usize, size: u32) -> Result<Vec<u8>, DataError> {
    let bytes = count as u128 * bytes_of(size) as u128;
    let mut pixels = Vec::new();
    usize::try_from(bytes)
        .ok()
        .filter(|&n| pixels.try_reserve_exact(n).is_ok())
        .map(|n| {
            pixels.resize(n, 0);
            pixels
        })
        .ok_or(DataError::Memory { count, size, bytes })
}
