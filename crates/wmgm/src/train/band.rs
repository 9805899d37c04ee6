//! What is diffused, and what a step of its training works on.

use super::run::Run;
use super::teacher::Lesson;
use crate::bands::{fold, turn_colours};
use crate::config::{LowConfig, SampleDefaults, channels};
use nn_ops::noise;
use rayon::prelude::*;

/// Streams of noise, so that no two uses share numbers.
const NOISE: u32 = 1;
const SIGMA: u32 = 2;
const FLIP: u32 = 3;
pub(super) const DROP: u32 = 4;
/// What is added to them for the details of level k: `DETAILS * k` and a thousand, which nothing else uses.
const DETAILS: u32 = 32;

/// What is diffused, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band<'a> {
    /// The level of the details; none is the coarsest low band.
    pub level: Option<usize>,
    /// Side of the band.
    pub side: usize,
    /// Network, preconditioning, pace.
    pub config: &'a LowConfig,
    /// How previews are sampled.
    pub sample: &'a SampleDefaults,
}

impl Band<'_> {
    pub(super) fn stream(&self, of: u32) -> u32 {
        of + self.level.map_or(0, |level| 1000 + DETAILS * level as u32)
    }

    /// Values of the condition and of the band, of one picture.
    pub(super) fn items(&self) -> [usize; 2] {
        let [shown, made] = channels(self.level);
        [shown - made, made].map(|c| c * self.side * self.side)
    }

    /// The shape of so many of its bands with `channels`, folded.
    pub(super) fn shape(&self, n: usize, channels: usize) -> [usize; 4] {
        let side = self.side >> self.config.fold;
        [n, channels << (2 * self.config.fold), side, side]
    }

    /// In opponent colours, where each channel is preconditioned by itself.
    fn turned(&self, mut x: Vec<f32>) -> Vec<f32> {
        if self.config.by_channel {
            turn_colours(&mut x, false);
        }
        x
    }

    pub(super) fn fold(&self, x: Vec<f32>, channels: usize) -> Vec<f32> {
        fold(x, channels, self.side, self.config.fold)
            .expect("the configuration's fold fits the band")
    }
}

/// Bands of a step's pictures, standardised and folded, and what they are hidden by.
pub(super) struct Examples {
    /// Empty where nothing is given.
    pub condition: Vec<f32>,
    pub x: Vec<f32>,
    pub noises: Vec<f32>,
    /// A deviation for each picture.
    pub sigmas: Vec<f64>,
}

impl Examples {
    /// Those of a step.
    pub(super) fn new(band: &Band<'_>, lesson: Option<&Lesson>, run: &Run<'_>, step: u64) -> Self {
        let (o, edm) = (&band.config.optim, &band.config.edm);
        let [given, item] = band.items();
        let [shown, made] = channels(band.level);
        let mut condition = vec![0f32; o.batch * given];
        let mut x = vec![0f32; o.batch * item];
        let mut noises = vec![0f32; o.batch * item];
        let mut sigmas = vec![0f64; o.batch];
        let picks = run.batch(step, o.batch);
        // Chunks of nothing are no chunks.
        let conditions = condition.chunks_mut(given.max(1));
        let mut conditions: Vec<&mut [f32]> = conditions.collect();
        conditions.resize_with(o.batch, Default::default);
        x.par_chunks_mut(item)
            .zip(noises.par_chunks_mut(item))
            .zip(sigmas.par_iter_mut())
            .zip(conditions)
            .zip(picks.par_iter().enumerate())
            .for_each(|((((x, noisy), sigma), condition), (i, &pick))| {
                let (seed, index, at) = (run.seed, i as u64, step as u32);
                let mut word = [0u32];
                noise::fill_words(seed, index, band.stream(FLIP), at, &mut word);
                let flip = word[0] & 1 == 1;
                let clean = match band.level {
                    None => run.data.low_band(pick, flip),
                    Some(level) => {
                        let bands = run.data.level(pick, flip, level);
                        condition.copy_from_slice(&band.fold(bands.low, shown - made));
                        bands.high
                    }
                };
                x.copy_from_slice(&band.fold(band.turned(clean), made));
                let mut normal = [0f32];
                noise::fill_normal(seed, index, band.stream(SIGMA), at, &mut normal);
                *sigma = match lesson {
                    None => edm.training_sigma(normal[0] as f64),
                    Some(lesson) => lesson.sigma(i, step),
                };
                noise::fill_normal(seed, index, band.stream(NOISE), at, noisy);
            });
        Self {
            condition,
            x,
            noises,
            sigmas,
        }
    }
}
