//! A folder's pictures one batch after the other, for what needs all of them but not all at once.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::set::tolerate;
use super::{Broken, DataError, LoadOptions, LoadProgress, decode_file, find_pictures};
use crate::picture::RgbImage;

/// The pictures of a folder and below, to be read in order, as often as needed, in bounded memory.
#[derive(Debug, Clone)]
pub struct PictureStream {
    folder: PathBuf,
    files: Vec<PathBuf>,
    options: LoadOptions,
}

impl PictureStream {
    /// Finds the pictures ([`find_pictures`]); none is read yet.
    ///
    /// # Errors
    /// [`DataError::Folder`], [`DataError::NoPictures`].
    pub fn open(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, DataError> {
        Ok(Self {
            folder: folder.as_ref().to_owned(),
            files: find_pictures(folder)?,
            options: *options,
        })
    }

    /// Files found, the broken included.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none, which [`PictureStream::open`] refuses.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads every picture: `map` makes something of the picture in file i, on rayon's threads; `take` gets what was made of
    /// a batch, in order, with the numbers of the files. Only one batch is in memory, and of its pictures only those that
    /// are being mapped. Broken files are left out and returned.
    ///
    /// # Errors
    /// [`DataError::TooManyBroken`] after the last file, [`DataError::Cancelled`] if `progress` breaks, errors of `map`
    /// and `take`.
    pub fn read<T, E>(
        &self,
        batch: usize,
        progress: &(dyn Fn(LoadProgress) -> ControlFlow<()> + Sync),
        map: impl Fn(usize, RgbImage) -> Result<T, E> + Sync,
        mut take: impl FnMut(Vec<(usize, T)>) -> Result<(), E>,
    ) -> Result<Vec<Broken>, E>
    where
        T: Send,
        E: From<DataError> + Send,
    {
        let (total, batch) = (self.files.len(), batch.max(1));
        let mut broken = Vec::new();
        for start in (0..total).step_by(batch) {
            let files = &self.files[start..(start + batch).min(total)];
            let one = |(i, file): (usize, &PathBuf)| match decode_file(
                self.folder.join(file),
                &self.options.limits,
            ) {
                Ok(picture) => map(start + i, picture).map(Ok),
                Err(e) => Ok(Err(e.to_string())),
            };
            let made: Vec<Result<Result<T, String>, E>> =
                files.par_iter().enumerate().map(one).collect();
            let mut whole = Vec::with_capacity(files.len());
            for (i, made) in made.into_iter().enumerate() {
                match made? {
                    Ok(made) => whole.push((start + i, made)),
                    Err(reason) => broken.push(Broken {
                        path: files[i].clone(),
                        reason,
                    }),
                }
            }
            take(whole)?;
            let done = start + files.len();
            if progress(LoadProgress { done, total }).is_break() {
                return Err(DataError::Cancelled.into());
            }
        }
        Ok(tolerate(
            &self.folder,
            total,
            self.options.max_broken,
            broken,
        )?)
    }
}
