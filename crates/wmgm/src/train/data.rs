//! The training pictures as standardised wavelet pyramids.

use crate::bands::{BandStats, Level, LevelStats, Moments};
use crate::data::PictureSet;
use crate::error::Result;
use crate::transform::Transform;
use rayon::prelude::*;

/// Pictures and the statistics of their bands.
pub(super) struct TrainData {
    pub set: PictureSet,
    /// Of every level, the finest first.
    pub stats: Vec<LevelStats>,
    /// Of the pixels, where there are no levels.
    pub pixels: Option<BandStats>,
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
            transform,
        })
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
