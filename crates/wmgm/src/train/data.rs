//! The training pictures as standardised wavelet pyramids.

use crate::bands::{BandStats, Level, LevelStats, Moments, fold, turn_colours};
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::transform::Transform;
use rayon::prelude::*;

/// Pictures and the statistics of their bands.
pub(super) struct TrainData {
    pub set: PictureSet,
    /// Of every level, the finest first.
    pub stats: Vec<LevelStats>,
    /// Of the pixels, where there are no levels.
    pub pixels: Option<BandStats>,
    /// Deviations of the standardised pixels' channels, folded, where they were asked for.
    pub channels: Vec<f64>,
    pub transform: Transform,
}

impl TrainData {
    /// Measures the bands of all pictures (as they are: a mirror image has the same, but for signs, by Haar).
    pub(super) fn new(set: PictureSet, levels: usize, transform: Transform) -> Result<Self> {
        let stats = transform.statistics(&set, levels)?;
        let pixels = match levels {
            0 => Some(pixel_statistics(&set)?),
            _ => None,
        };
        Ok(Self {
            set,
            stats,
            pixels,
            channels: Vec::new(),
            transform,
        })
    }

    /// Measures the channels of the pixels in opponent colours, folded so often. They are about 0 but for the mean of all, and are
    /// taken to be.
    ///
    /// # Errors
    /// A size that cannot be folded, a channel that is 0 in all pictures.
    pub(super) fn measure_channels(&mut self, times: usize) -> Result<()> {
        let side = self.set.size() as usize;
        let squares = |pick: usize| {
            let mut x = self.low_band(pick, false);
            turn_colours(&mut x, false);
            let x = fold(x, 3, side, times)?;
            let channel = |c: &[f32]| c.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            Ok(x.chunks_exact((side >> times).pow(2))
                .map(channel)
                .collect())
        };
        let each = (0..self.set.len()).into_par_iter().map(squares);
        let each: Vec<Vec<f64>> = each.collect::<Result<_>>()?;
        let count = (self.set.len() * (side >> times).pow(2)) as f64;
        // One picture after another: the same numbers for any thread count.
        let sum = |c: usize| each.iter().map(|squares| squares[c]).sum::<f64>();
        self.channels = (0..3 << (2 * times))
            .map(|c| (sum(c) / count).sqrt())
            .collect();
        match self.channels.iter().position(|v| *v < 1e-9) {
            None => Ok(()),
            Some(c) => Err(Error::Argument(format!(
                "low.by_channel: channel {c} of the folded pictures is 0 everywhere; are they without details? leave by_channel out"
            ))),
        }
    }

    /// The standardised pyramids of some pictures, mirrored where `flip(i)` says so.
    pub(super) fn pyramids(
        &self,
        picks: &[usize],
        flip: impl Fn(usize) -> bool + Sync,
    ) -> Vec<Vec<Level>> {
        picks
            .par_iter()
            .enumerate()
            .map(|(i, &pick)| self.pyramid(pick, flip(i)))
            .collect()
    }

    fn pyramid(&self, pick: usize, flip: bool) -> Vec<Level> {
        let side = self.set.size() as usize;
        let x = values(&self.set, pick, flip).expect("picks lie within the set");
        let mut pyramid = self
            .transform
            .pyramid(&x, 3, side, self.stats.len())
            .expect("the statistics were made of the same sizes");
        for (level, stats) in pyramid.iter_mut().zip(&self.stats) {
            stats.standardise_low(&mut level.low);
            stats.standardise_high(&mut level.high);
        }
        pyramid
    }

    /// What is diffused of one picture, standardised: the coarsest low band, or the pixels where there are no levels.
    pub(super) fn low_band(&self, pick: usize, flip: bool) -> Vec<f32> {
        if let Some(stats) = &self.pixels {
            let mut x = values(&self.set, pick, flip).expect("picks lie within the set");
            stats.standardise(&mut x);
            return x;
        }
        let coarsest = self.pyramid(pick, flip).pop();
        coarsest.map(|level| level.low).unwrap_or_default()
    }

    /// Both bands of one level of one picture, standardised.
    pub(super) fn level(&self, pick: usize, flip: bool, level: usize) -> Level {
        self.pyramid(pick, flip).swap_remove(level - 1)
    }
}

/// Mean and deviation of all pixels of all pictures.
fn pixel_statistics(set: &PictureSet) -> Result<BandStats> {
    // One picture after another: the same numbers for any thread count.
    let mut moments = Moments::default();
    for i in 0..set.len() {
        moments.add(&values(set, i, false)?);
    }
    Ok(moments.stats())
}

/// One picture as (3, side, side) in [-1, 1].
fn values(set: &PictureSet, i: usize, flip: bool) -> Result<Vec<f32>> {
    let side = set.size() as usize;
    let mut x = vec![0f32; 3 * side * side];
    set.fill_f32(i, flip, &mut x)?;
    Ok(x)
}
