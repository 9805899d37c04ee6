//! Resampling to a network's size, in floats, as the programs do it that the networks' numbers are compared with.
//!
//! The resize is a part of a metric: FID changes by whole points with it (Parmar et al. 2022, arXiv 2104.11222).

use rayon::prelude::*;

/// How a picture is brought to a network's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resize {
    /// `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`: two neighbours along each side, whatever
    /// the scale, so it aliases where it shrinks. pytorch-fid's.
    Bilinear,
    /// Pillow's bicubic filter (a = -0.5), widened when shrinking, in floats: clean-fid's, and
    /// `interpolate(mode="bicubic", antialias=True)`.
    Bicubic,
}

impl Resize {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic-antialias",
        }
    }

    /// Brings planes (channels, h, w) to (channels, `to[0]`, `to[1]`). A side that has its length already is not filtered.
    ///
    /// # Panics
    /// If `planes` is no whole number of planes, or a side is 0.
    pub fn apply(self, planes: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
        let [h, w] = from;
        assert!(h * w > 0 && planes.len().is_multiple_of(h * w) && to[0] * to[1] > 0);
        let (down, across) = (self.axis(h, to[0]), self.axis(w, to[1]));
        let mut out = vec![0f32; planes.len() / (h * w) * to[0] * to[1]];
        out.par_chunks_mut(to[0] * to[1])
            .zip(planes.par_chunks(h * w))
            .for_each(|(out, plane)| {
                let mut half = vec![0f32; h * to[1]];
                for (row, half) in plane.chunks_exact(w).zip(half.chunks_exact_mut(to[1])) {
                    for (o, taps) in half.iter_mut().zip(&across) {
                        let pairs = row[taps.first..].iter().zip(&taps.weights);
                        *o = pairs.map(|(v, w)| v * w).sum();
                    }
                }
                for (out, taps) in out.chunks_exact_mut(to[1]).zip(&down) {
                    let rows = half.chunks_exact(to[1]).skip(taps.first);
                    for (row, weight) in rows.zip(&taps.weights) {
                        out.iter_mut().zip(row).for_each(|(o, v)| *o += v * weight);
                    }
                }
            });
        out
    }

    /// Which of `source` values, with which weights, make each of `target`.
    fn axis(self, source: usize, target: usize) -> Vec<Taps> {
        if source == target {
            let alone = |first| Taps {
                first,
                weights: vec![1.0],
            };
            return (0..source).map(alone).collect();
        }
        let scale = source as f64 / target as f64;
        (0..target)
            .map(|i| match self {
                Self::Bilinear => {
                    let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
                    let first = (at as usize).min(source - 1);
                    let part = (at - first as f64) as f32;
                    let weights = match first + 1 < source {
                        true => vec![1.0 - part, part],
                        false => vec![1.0],
                    };
                    Taps { first, weights }
                }
                Self::Bicubic => {
                    let widened = scale.max(1.0);
                    let (centre, support) = ((i as f64 + 0.5) * scale, 2.0 * widened);
                    let first = (centre - support + 0.5).max(0.0) as usize;
                    let end = ((centre + support + 0.5) as usize).min(source);
                    let weights: Vec<f64> = (first..end)
                        .map(|x| cubic((x as f64 - centre + 0.5) / widened))
                        .collect();
                    let total: f64 = weights.iter().sum();
                    Taps {
                        first,
                        weights: weights.iter().map(|w| (w / total) as f32).collect(),
                    }
                }
            })
            .collect()
    }
}

struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
