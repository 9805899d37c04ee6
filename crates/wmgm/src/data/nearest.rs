//! Which training picture a sample is nearest to: the plain test that a model has not learned its data by heart.

use rayon::prelude::*;

use super::{DataError, PictureSet};
use crate::picture::{self, Layout, PictureError, RgbImage};

/// Pictures are compared at this size, so that neither fine texture nor a shift of a pixel hides a likeness.
const SIDE: u32 = 32;

/// The training picture nearest to a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Its index in the set.
    pub index: usize,
    /// Whether it is nearest when mirrored.
    pub flipped: bool,
    /// Root mean square difference of the two at 32x32, over pixels and channels, in levels of 0 to 255.
    pub distance: f64,
}

/// For each sample the nearest picture of `set`, by squared differences after an antialiased reduction of both to 32x32
/// (or the picture's own size if smaller), the picture as it is and mirrored. Of equals, the first counts.
///
/// # Errors
/// [`PictureError::Size`] naming a sample of another size than the set's, [`PictureError::Empty`] if the set is empty.
pub fn nearest(samples: &[RgbImage], set: &PictureSet) -> Result<Vec<Neighbour>, PictureError> {
    let expected = (set.size(), set.size());
    if let Some((picture, other)) = samples
        .iter()
        .enumerate()
        .find(|(_, p)| p.dimensions() != expected)
    {
        return Err(PictureError::Size {
            picture,
            found: other.dimensions(),
            expected,
        });
    }
    let samples: Vec<RgbImage> = samples.par_iter().map(reduce).collect();
    // Each picture is reduced once and compared with all samples; integers, so no order of summation matters.
    let best = (0..set.len())
        .into_par_iter()
        .filter_map(|i| set.picture(i).ok().map(|p| (i, reduce(&p))))
        .map(|(i, plain)| {
            let mirrored = image::imageops::flip_horizontal(&plain);
            let one = |s: &RgbImage| {
                (difference(s, &plain), i, false).min((difference(s, &mirrored), i, true))
            };
            samples.iter().map(one).collect::<Vec<_>>()
        })
        .reduce_with(|a, b| a.into_iter().zip(b).map(|(a, b)| a.min(b)).collect())
        .ok_or(PictureError::Empty)?;
    let values = f64::from(3 * SIDE.min(set.size()).pow(2));
    let neighbour = |(sum, index, flipped)| Neighbour {
        index,
        flipped,
        distance: (sum as f64 / values).sqrt(),
    };
    Ok(best.into_iter().map(neighbour).collect())
}

/// Each sample beside its nearest picture of `set` (mirrored if that is nearer), pair by pair on one sheet, and who
/// the neighbours are.
///
/// # Errors
/// As [`nearest`] and [`picture::sheet`].
pub fn nearest_sheet(
    samples: &[RgbImage],
    set: &PictureSet,
    layout: Layout,
) -> Result<(RgbImage, Vec<Neighbour>), PictureError> {
    let neighbours = nearest(samples, set)?;
    let pair = |(sample, neighbour): (&RgbImage, &Neighbour)| -> Result<RgbImage, PictureError> {
        let found = set
            .picture(neighbour.index)
            .map_err(|_: DataError| PictureError::Empty)?;
        let found = if neighbour.flipped {
            image::imageops::flip_horizontal(&found)
        } else {
            found
        };
        let touching = Layout {
            columns: Some(2),
            gap: 0,
            ..layout
        };
        picture::sheet(&[sample.clone(), found], touching)
    };
    let pairs = samples
        .iter()
        .zip(&neighbours)
        .map(pair)
        .collect::<Result<Vec<_>, _>>()?;
    Ok((picture::sheet(&pairs, layout)?, neighbours))
}

fn reduce(picture: &RgbImage) -> RgbImage {
    let side = SIDE.min(picture.width());
    picture::resize(picture, side, side)
}

/// Sum of squared differences.
fn difference(a: &RgbImage, b: &RgbImage) -> u64 {
    a.as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
        .sum()
}
