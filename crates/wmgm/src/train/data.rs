//! The training pictures as standardised wavelet pyramids.

use crate::bands::{Level, LevelStats};
use crate::data::PictureSet;
use crate::error::Result;
use crate::transform::Transform;
use rayon::prelude::*;

/// Pictures and the statistics of their bands.
pub(super) struct TrainData {
    pub set: PictureSet,
    pub stats: Vec<LevelStats>,
    pub transform: Transform,
}

impl TrainData {
    /// Measures the bands of all pictures (as they are: a mirror image has the same, but for signs, by Haar).
    pub(super) fn new(set: PictureSet, levels: usize, transform: Transform) -> Result<Self> {
        let stats = transform.statistics(&set, levels)?;
        Ok(Self {
            set,
            stats,
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

    /// The standardised coarsest low band of one picture.
    pub(super) fn low_band(&self, pick: usize, flip: bool, out: &mut [f32]) {
        let mut pyramid = self.pyramid(pick, flip);
        if let Some(level) = pyramid.pop() {
            out.copy_from_slice(&level.low);
        }
    }
}

/// One picture as (3, side, side) in [-1, 1].
fn values(set: &PictureSet, i: usize, flip: bool) -> Result<Vec<f32>> {
    let side = set.size() as usize;
    let mut x = vec![0f32; 3 * side * side];
    set.fill_f32(i, flip, &mut x)?;
    Ok(x)
}
