//! The training pictures as standardised wavelet pyramids.

use crate::bands::{Level, LevelStats, Moments, haar_pyramid};
use crate::data::PictureSet;
use crate::error::Result;
use rayon::prelude::*;

/// Pictures and the statistics of their bands.
pub(super) struct TrainData {
    pub set: PictureSet,
    pub stats: Vec<LevelStats>,
}

impl TrainData {
    /// Measures the bands of all pictures (both orientations count once: a mirror image changes only signs).
    pub(super) fn new(set: PictureSet, levels: usize) -> Result<Self> {
        let side = set.size() as usize;
        // Fixed chunks merged in order: the same numbers for any thread count.
        let chunk = 64;
        let parts = (0..set.len().div_ceil(chunk))
            .into_par_iter()
            .map(|part| {
                let mut moments = vec![[Moments::default(); 4]; levels];
                for i in part * chunk..((part + 1) * chunk).min(set.len()) {
                    let pyramid = haar_pyramid(&values(&set, i, false)?, 3, side, levels);
                    for (m, level) in moments.iter_mut().zip(&pyramid) {
                        let bands = level.high.chunks_exact(level.low.len());
                        for (m, band) in m.iter_mut().zip([&level.low[..]].into_iter().chain(bands))
                        {
                            m.add(band);
                        }
                    }
                }
                Ok(moments)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut total = vec![[Moments::default(); 4]; levels];
        for part in &parts {
            for (t, p) in total.iter_mut().flatten().zip(part.iter().flatten()) {
                t.merge(p);
            }
        }
        let stats = total
            .iter()
            .map(|[low, lh, hl, hh]| LevelStats {
                low: low.stats(),
                high: [lh.stats(), hl.stats(), hh.stats()],
            })
            .collect();
        Ok(Self { set, stats })
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
        let mut pyramid = haar_pyramid(&x, 3, side, self.stats.len());
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
