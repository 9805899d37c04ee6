//! Antialiased Lanczos resampling of 8-bit pictures, in integers.
//!
//! The filter is Lanczos with three lobes, widened by the scale when shrinking so that every source pixel counts; along
//! rows first, then along columns, with 22-bit weights and a rounding to 8 bits between the two. Those are Pillow's
//! choices (`Image.resize(..., LANCZOS)`), and the results are the same bytes, so that pictures prepared here and
//! there, and measures taken with either, agree. (Only where the height shrinks by far more than the width do newer
//! versions of Pillow begin with the columns.) Integer sums also make the result independent of machine and threads.

use std::f64::consts::PI;
use std::ops::Range;

use super::RgbImage;

/// Bits after the point of a weight. 8 (pixel) + 22 leaves two bits, sign and overshoot, of an `i32`.
const BITS: u32 = 22;

/// `picture` resampled to `width` x `height`. A side that keeps its length is not filtered.
///
/// A `width` or `height` of 0, or an empty picture, gives an empty picture.
pub fn resize(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    window(picture, (width, 0..width), (height, 0..height))
}

/// `picture` scaled so that its short side is `size`, antialiased, and its centre cut out: `size` x `size`.
///
/// The long side becomes `round(long * size / short)`; an odd pixel too many is cut at the right or bottom. Only what the
/// cut-out needs is computed, so the extreme 60000 x 1 costs no memory. A picture that has the size already is copied
/// unchanged.
pub fn resize_crop(picture: &RgbImage, size: u32) -> RgbImage {
    let (w, h) = picture.dimensions();
    let short = u64::from(w.min(h).max(1));
    let scaled = |side: u32| -> (u32, Range<u32>) {
        let long = (2 * u64::from(side) * u64::from(size) + short) / (2 * short);
        let long = long.min(u64::from(u32::MAX)) as u32;
        let start = (long.max(size) - size) / 2;
        (long, start..start + size)
    };
    window(picture, scaled(w), scaled(h))
}

/// The part `columns` x `rows` of `picture` scaled to the full `(width, height)` of the two tuples.
fn window(picture: &RgbImage, columns: (u32, Range<u32>), rows: (u32, Range<u32>)) -> RgbImage {
    let (w, h) = (picture.width() as usize, picture.height() as usize);
    let size = (columns.1.len() as u32, rows.1.len() as u32);
    if w == 0 || h == 0 || size.0 == 0 || size.1 == 0 {
        return RgbImage::new(size.0, size.1);
    }
    let across = Axis::new(w, columns.0, columns.1);
    let down = Axis::new(h, rows.0, rows.1);
    // Along rows, for the source rows that the second pass reads: (needed, out_width, 3).
    let needed = down.reads();
    let stride = 3 * size.0 as usize;
    let mut half = vec![0u8; needed.len() * stride];
    for (row, out) in picture
        .as_raw()
        .chunks_exact(3 * w)
        .skip(needed.start)
        .zip(half.chunks_exact_mut(stride))
    {
        let source = row.as_chunks::<3>().0;
        for (pixel, taps) in out.as_chunks_mut::<3>().0.iter_mut().zip(&across.outputs) {
            let mut sum = [1i32 << (BITS - 1); 3];
            for (source, &weight) in source[taps.first..]
                .iter()
                .zip(&across.weights[taps.weights.clone()])
            {
                for (s, &u) in sum.iter_mut().zip(source) {
                    *s += i32::from(u) * weight;
                }
            }
            *pixel = sum.map(byte);
        }
    }
    // Along columns: whole rows are summed, so that the inner loop runs over neighbours in memory.
    let mut out = RgbImage::new(size.0, size.1);
    let mut sum = vec![0i32; stride];
    for (out, taps) in out.as_mut().chunks_exact_mut(stride).zip(&down.outputs) {
        sum.fill(1 << (BITS - 1));
        let first = taps.first - needed.start;
        for (row, &weight) in half
            .chunks_exact(stride)
            .skip(first)
            .zip(&down.weights[taps.weights.clone()])
        {
            for (s, &u) in sum.iter_mut().zip(row) {
                *s += i32::from(u) * weight;
            }
        }
        for (u, &s) in out.iter_mut().zip(&sum) {
            *u = byte(s);
        }
    }
    out
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Which source pixels, with which weights, make each output pixel along one side.
struct Axis {
    outputs: Vec<Taps>,
    weights: Vec<i32>,
}

struct Taps {
    first: usize,
    weights: Range<usize>,
}

impl Axis {
    /// For the outputs `part` of `full` outputs over `source` pixels.
    fn new(source: usize, full: u32, part: Range<u32>) -> Self {
        let mut axis = Self {
            outputs: Vec::with_capacity(part.len()),
            weights: Vec::new(),
        };
        let scale = source as f64 / f64::from(full);
        let widened = scale.max(1.0);
        let support = 3.0 * widened;
        for i in part {
            let (first, weights) = if source == full as usize {
                (i as usize, vec![1.0])
            } else {
                let centre = (f64::from(i) + 0.5) * scale;
                let first = (centre - support + 0.5).max(0.0) as usize;
                let end = ((centre + support + 0.5) as usize).min(source);
                (
                    first,
                    (first..end)
                        .map(|x| lanczos3((x as f64 - centre + 0.5) / widened))
                        .collect(),
                )
            };
            let total: f64 = weights.iter().sum();
            let start = axis.weights.len();
            axis.weights.extend(
                weights
                    .iter()
                    .map(|w| (w / total * f64::from(1 << BITS)).round() as i32),
            );
            axis.outputs.push(Taps {
                first,
                weights: start..axis.weights.len(),
            });
        }
        axis
    }

    /// The source pixels that any output reads.
    fn reads(&self) -> Range<usize> {
        let first = self.outputs.iter().map(|t| t.first).min().unwrap_or(0);
        let end = self
            .outputs
            .iter()
            .map(|t| t.first + t.weights.len())
            .max()
            .unwrap_or(0);
        first..end
    }
}

/// sinc(x) sinc(x/3) for |x| < 3, else 0.
fn lanczos3(x: f64) -> f64 {
    let sinc = |x: f64| {
        if x == 0.0 {
            1.0
        } else {
            (PI * x).sin() / (PI * x)
        }
    };
    if x.abs() < 3.0 {
        sinc(x) * sinc(x / 3.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums of `window` cannot overflow: weights add up to one, and their overshoot stays small.
    #[test]
    fn sums_fit() {
        for source in (1..40).chain([127, 128, 129, 512, 1000, 4096]) {
            for full in (1..40).chain([64, 128, 129, 512, 700]) {
                let axis = Axis::new(source, full, 0..full);
                for taps in &axis.outputs {
                    let weights = &axis.weights[taps.weights.clone()];
                    let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
                    let size: i64 = weights.iter().map(|&w| i64::from(w.abs())).sum();
                    assert!(
                        (total - (1 << BITS)).abs() <= weights.len() as i64,
                        "{source} -> {full}: {total}"
                    );
                    assert!(
                        size * 255 + (1 << (BITS - 1)) <= i64::from(i32::MAX),
                        "{source} -> {full}: {size}"
                    );
                    assert!(taps.first + weights.len() <= source);
                }
            }
        }
    }
}
