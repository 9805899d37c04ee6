//! Features of a set's pictures, some at a time.

use crate::data::PictureSet;
use crate::error::Result;
use gen_metrics::{Extractor, Features, Picture};
use std::ops::Range;

/// Pictures looked at at a time.
pub(crate) const CHUNK: usize = 64;

/// Features of all pictures of a set. `done` hears how many there are so far, and ends it with an error.
pub(crate) fn features(
    extractor: &Extractor,
    set: &PictureSet,
    done: &dyn Fn(usize) -> Result<()>,
) -> Result<Features> {
    let mut values = Vec::new();
    for start in (0..set.len()).step_by(CHUNK) {
        let end = (start + CHUNK).min(set.len());
        values.extend_from_slice(extractor.extract(&pictures(set, start..end)?)?.values());
        done(end)?;
    }
    Ok(Features::new(values, extractor.space().network.dim())?)
}

/// A part of a set, borrowed.
pub(crate) fn pictures(set: &PictureSet, part: Range<usize>) -> Result<Vec<Picture<'_>>> {
    let side = set.size() as usize;
    part.map(|i| Ok(Picture::new(side, side, set.rgb(i)?)?))
        .collect()
}
