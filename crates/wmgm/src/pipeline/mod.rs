//! Models in use: pictures from a seed, whatever the model is.
//!
//! A [`Pipeline`] makes a batch of pictures; batches, events, cancellation and bytes are the same for all and are here.
//! [`Model`] is any of them, opened from a folder.

mod diffused;
mod model;
mod pair;
mod sgm;
mod trajectory;
mod wmgm;

pub use diffused::Diffused;
pub use model::Model;
pub use pair::Pair;
pub use sgm::Sgm;
pub use trajectory::COLUMNS;
pub use wmgm::Wmgm;

use crate::error::{Error, Result};
use crate::picture::{self, RgbImage};
use candle_core::Tensor;
use std::ops::{ControlFlow, Range};

/// What to sample.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// Seed: with the picture's number it determines the picture.
    pub seed: u64,
    /// Numbers of the pictures.
    pub pictures: Range<u64>,
    /// Pictures at a time; has no influence on them.
    pub batch: usize,
    /// Sampler; the model's unless given.
    pub sampler: Option<String>,
    /// Steps of the sampler; the model's unless given.
    pub steps: Option<usize>,
    /// The class of all pictures, for a model that has classes; unless given, picture i has class i modulo their number.
    pub class: Option<usize>,
}

impl Default for SampleOptions {
    /// Pictures 0 to 15 of seed 0.
    fn default() -> Self {
        Self {
            seed: 0,
            pictures: 0..16,
            batch: 16,
            sampler: None,
            steps: None,
            class: None,
        }
    }
}

/// How far sampling is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleEvent {
    /// A step of the sampler was done for a batch.
    Step {
        /// From 1.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// Pictures are finished.
    Done {
        /// So far.
        done: u64,
        /// Asked for.
        total: u64,
    },
}

/// Called at every event; a break cancels.
pub type Watch<'a> = &'a dyn Fn(SampleEvent) -> ControlFlow<()>;

/// What sampling will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The sampler.
    pub sampler: String,
    /// Its steps.
    pub steps: usize,
    /// What it costs, in words: evaluations of which network.
    pub work: String,
}

/// What one picture costs, the networks' work alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Passes through networks, generators included.
    pub passes: usize,
    /// Their multiply-adds, counted as in [`nn_ops::count`].
    pub multiply_adds: u64,
}

/// Called after every step of a batch with its number, from 1; an error ends the batch.
pub type OnStep<'a> = &'a mut dyn FnMut(usize) -> candle_core::Result<()>;

/// A model that makes pictures. Picture i of a seed is the same in every batch.
pub trait Pipeline {
    /// Height and width of its pictures.
    fn size(&self) -> [usize; 2];

    /// What these options come to.
    ///
    /// # Errors
    /// Options out of range.
    fn plan(&self, options: &SampleOptions) -> Result<Plan>;

    /// What a picture costs with these options, for models whose work can be told beforehand.
    ///
    /// # Errors
    /// Options out of range.
    fn cost(&self, options: &SampleOptions) -> Result<Option<Cost>> {
        let _ = options;
        Ok(None)
    }

    /// The pictures `indices` of the options' seed, (N, 3, H, W) in [-1, 1].
    ///
    /// # Errors
    /// Options out of range, errors of `on_step`.
    fn make(&self, options: &SampleOptions, indices: &[u64], on_step: OnStep<'_>)
    -> Result<Tensor>;

    /// Makes the pictures of `options` in batches, telling `watch` how far it is, and hands every picture with its number
    /// to `each` as soon as its batch is done.
    ///
    /// # Errors
    /// Options out of range, errors of `each`; [`Error::Cancelled`] when `watch` breaks.
    fn sample_each(
        &self,
        options: &SampleOptions,
        watch: Watch<'_>,
        each: &mut dyn FnMut(u64, RgbImage) -> Result<()>,
    ) -> Result<()> {
        let [height, width] = self.size().map(|side| side as u32);
        let steps = self.plan(options)?.steps;
        in_batches(
            options,
            steps,
            watch,
            &mut |indices, on_step| {
                let made = self.make(options, indices, on_step)?;
                let values = made.flatten_all()?.to_vec1::<f32>()?;
                let first = indices.first().copied().unwrap_or_default();
                Ok(picture::from_values(
                    &values,
                    width,
                    height,
                    first as usize,
                )?)
            },
            each,
        )
    }

    /// What [`Pipeline::trajectory`] draws of a batch: `on_frame` gets the pictures as they stand, (N, 3, H, W) in [-1, 1], at
    /// most at [`COLUMNS`] steps and then after each level, the last being those of [`Pipeline::make`].
    ///
    /// # Errors
    /// As [`Pipeline::make`]; a kind of model that does not show how its pictures come about.
    fn frames(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_frame: &mut dyn FnMut(&Tensor) -> Result<()>,
        on_step: OnStep<'_>,
    ) -> Result<()> {
        let _ = (options, indices, on_frame, on_step);
        Err(no_trajectory())
    }

    /// How every picture of `options` comes about: a row of pictures each, all rows of one length.
    ///
    /// # Errors
    /// As [`Pipeline::sample_each`] and [`Pipeline::frames`].
    fn trajectory(&self, options: &SampleOptions, watch: Watch<'_>) -> Result<Vec<Vec<RgbImage>>> {
        let [height, width] = self.size().map(|side| side as u32);
        let steps = self.plan(options)?.steps;
        let mut rows = Vec::new();
        in_batches(
            options,
            steps,
            watch,
            &mut |indices, on_step| {
                let mut made = vec![Vec::new(); indices.len()];
                let mut on_frame = |frame: &Tensor| {
                    let values = frame.flatten_all()?.to_vec1::<f32>()?;
                    let frames = picture::from_values(&values, width, height, 0)?;
                    made.iter_mut().zip(frames).for_each(|(row, f)| row.push(f));
                    Ok(())
                };
                self.frames(options, indices, &mut on_frame, on_step)?;
                Ok(made)
            },
            &mut |_, row| {
                rows.push(row);
                Ok(())
            },
        )?;
        Ok(rows)
    }

    /// As [`Pipeline::sample_each`], all pictures in one list.
    ///
    /// # Errors
    /// As [`Pipeline::sample_each`].
    fn sample_with(&self, options: &SampleOptions, watch: Watch<'_>) -> Result<Vec<RgbImage>> {
        let mut pictures = Vec::new();
        self.sample_each(options, watch, &mut |_, picture| {
            pictures.push(picture);
            Ok(())
        })?;
        Ok(pictures)
    }

    /// Pictures from a seed.
    ///
    /// # Errors
    /// Options out of range.
    fn sample(&self, options: &SampleOptions) -> Result<Vec<RgbImage>> {
        self.sample_with(options, &|_| ControlFlow::Continue(()))
    }
}

/// What a model says that does not show how its pictures come about.
fn no_trajectory() -> Error {
    Error::Argument(
        "trajectory: a model of this kind does not show how its pictures come about; models that this program trained as \
         wmgm and diffusions on pixels do"
            .into(),
    )
}

/// Makes something of each of these pictures.
type Make<'a, T> = &'a mut dyn FnMut(&[u64], OnStep<'_>) -> Result<Vec<T>>;

/// Makes something of every picture of `options` in batches, telling `watch` how far it is, and hands it over with the
/// picture's number.
fn in_batches<T>(
    options: &SampleOptions,
    steps: usize,
    watch: Watch<'_>,
    make: Make<'_, T>,
    each: &mut dyn FnMut(u64, T) -> Result<()>,
) -> Result<()> {
    if options.batch == 0 {
        return Err(Error::Argument("batch is 0, it must be at least 1".into()));
    }
    if options.pictures.end > 1 << 48 {
        return Err(Error::Argument("pictures are numbered below 2^48".into()));
    }
    let total = options.pictures.end.saturating_sub(options.pictures.start);
    let mut done = 0;
    while done < total {
        let first = options.pictures.start + done;
        let indices: Vec<u64> = (first..first + (options.batch as u64).min(total - done)).collect();
        let mut cancelled = false;
        let made = make(&indices, &mut |step| {
            if watch(SampleEvent::Step { step, steps }).is_break() {
                cancelled = true;
                candle_core::bail!("cancelled");
            }
            Ok(())
        });
        if cancelled {
            return Err(Error::Cancelled);
        }
        for (i, made) in indices.iter().zip(made?) {
            each(*i, made)?;
        }
        done += indices.len() as u64;
        if watch(SampleEvent::Done { done, total }).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(())
}

/// Errs if a class was asked of a model that has none.
pub(crate) fn no_class(options: &SampleOptions) -> Result<()> {
    match options.class {
        None => Ok(()),
        Some(_) => Err(Error::Argument(
            "class: this model has no classes; leave it out".into(),
        )),
    }
}
