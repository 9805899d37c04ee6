//! How different the samples are from each other.

use crate::error::{Error, Result};
use crate::net::Lpips;
use crate::picture::Picture;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// A mean with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diversity {
    /// Mean distance of the pairs.
    pub mean: f64,
    /// Standard error of the mean.
    pub error: f64,
    /// Pairs.
    pub pairs: usize,
}

/// The mean LPIPS distance of pairs of pictures (Zhang et al. 2018; as a measure of diversity Zhu et al. 2017,
/// arXiv 1711.11586): 0 if all are one. Of real pictures it is what samples should reach.
///
/// # Errors
/// [`Error::TooFew`] below two pairs; pairs of different sizes.
pub fn lpips_diversity(
    net: &Lpips,
    pairs: &[[Picture<'_>; 2]],
    device: &Device,
) -> Result<Diversity> {
    if pairs.len() < 2 {
        return Err(Error::TooFew {
            metric: "LPIPS diversity",
            what: "the pairs",
            have: pairs.len(),
            need: 2,
            hint: "use more pictures",
        });
    }
    let one = |pair: &[Picture<'_>; 2]| -> Result<f64> {
        let [a, b] = pair.map(|p| {
            let [h, w] = p.size();
            Tensor::from_vec(p.planes(1.0 / 127.5, -1.0), (1, 3, h, w), device)
        });
        let found = net.distance(&a?, &b?)?.to_vec1::<f32>()?;
        Ok(found.iter().map(|&d| f64::from(d)).sum())
    };
    // On the CPU each pair is a task.
    let distances: Vec<f64> = match device.is_cpu() {
        true => pairs.par_iter().map(one).collect::<Result<_>>()?,
        false => pairs.iter().map(one).collect::<Result<_>>()?,
    };
    if let Some((row, value)) = distances.iter().enumerate().find(|(_, d)| !d.is_finite()) {
        return Err(Error::NotFinite {
            what: "LPIPS distances".into(),
            row,
            column: 0,
            value: *value,
        });
    }
    let n = distances.len() as f64;
    let mean = distances.iter().sum::<f64>() / n;
    let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok(Diversity {
        mean,
        error: (variance / n).sqrt(),
        pairs: distances.len(),
    })
}
