//! Denoisers kept within a range.

use super::Denoiser;
use crate::error::{Error, Result};
use crate::pictures::{per_picture, pictures};
use candle_core::Tensor;

/// A denoiser whose answers are clipped to [-range, range].
#[derive(Clone, Copy)]
pub struct Clipped<'a> {
    inner: &'a dyn Denoiser,
    range: f64,
}

impl<'a> Clipped<'a> {
    /// # Errors
    /// A range that is not positive.
    pub fn new(inner: &'a dyn Denoiser, range: f64) -> Result<Self> {
        positive("Clipped::new", "range", range)?;
        Ok(Self { inner, range })
    }
}

impl Denoiser for Clipped<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> candle_core::Result<Tensor> {
        self.inner.denoise(x, sigma)?.clamp(-self.range, self.range)
    }
}

/// Dynamic thresholding (Saharia et al. 2022, "Photorealistic text-to-image diffusion models", arXiv 2205.11487, section
/// 2.3): each picture is clipped to [-s, s] and divided by s, which is a quantile of its own absolute values.
#[derive(Clone, Copy)]
pub struct Thresholded<'a> {
    inner: &'a dyn Denoiser,
    ratio: f64,
    max: f64,
}

impl<'a> Thresholded<'a> {
    /// `ratio` in [0, 1] is the quantile, 0.995 in the paper; s is kept within [1, `max`]. The paper has no upper bound;
    /// diffusers' `sample_max_value` is 1 by default, which clips to [-1, 1].
    ///
    /// # Errors
    /// A ratio outside [0, 1], a `max` below 1.
    pub fn new(inner: &'a dyn Denoiser, ratio: f64, max: f64) -> Result<Self> {
        check_threshold("Thresholded::new", ratio, max)?;
        Ok(Self { inner, ratio, max })
    }
}

impl Denoiser for Thresholded<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> candle_core::Result<Tensor> {
        let clean = self.inner.denoise(x, sigma)?;
        Ok(thresholded(&clean, self.ratio, self.max)?)
    }
}

/// Errs unless dynamic thresholding can be done with these.
pub(crate) fn check_threshold(op: &'static str, ratio: f64, max: f64) -> Result<()> {
    let refuse = |name, value: f64, need| {
        Err(Error::Argument {
            op,
            name,
            value: value.to_string(),
            need,
        })
    };
    match (ratio, max) {
        (r, _) if !(0.0..=1.0).contains(&r) => refuse("ratio", r, "in [0, 1]"),
        (_, m) if m.is_nan() || m < 1.0 => refuse("max", m, "at least 1"),
        _ => Ok(()),
    }
}

/// Dynamic thresholding of each picture (N, ...), see [`Thresholded`].
pub(crate) fn thresholded(clean: &Tensor, ratio: f64, max: f64) -> Result<Tensor> {
    if clean.elem_count() == 0 {
        return Ok(clean.clone());
    }
    let limits: Vec<f64> = pictures(&clean.abs()?)?
        .into_iter()
        .map(|values| quantile(values, ratio).max(1.0).min(max))
        .collect();
    let limits = per_picture(clean, &limits)?;
    let clipped = clean
        .broadcast_minimum(&limits)?
        .broadcast_maximum(&limits.neg()?)?;
    Ok(clipped.broadcast_div(&limits)?)
}

/// The quantile of values, linear between two of them.
fn quantile(mut values: Vec<f64>, ratio: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ratio * values.len().saturating_sub(1) as f64;
    let get = |i: f64| values.get(i as usize).copied().unwrap_or(1.0);
    let (low, high) = (get(at.floor()), get(at.ceil()));
    low + (high - low) * at.fract()
}

fn positive(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    match value > 0.0 {
        true => Ok(()),
        false => Err(Error::Argument {
            op,
            name,
            value: value.to_string(),
            need: "positive",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn each_picture_has_its_own_threshold() {
        let own = |x: &Tensor, _: f64| Ok(x.clone());
        let x = Tensor::new(&[[0.5f32, -0.25, 0.0], [4.0, -2.0, 1.0]], &Device::Cpu).unwrap();
        let run = |d: &dyn Denoiser| d.denoise(&x, 1.0).unwrap().to_vec2::<f32>().unwrap();
        let got = run(&Thresholded::new(&own, 0.5, f64::INFINITY).unwrap());
        assert_eq!(got, [[0.5, -0.25, 0.0], [1.0, -1.0, 0.5]]);
        let capped = run(&Thresholded::new(&own, 1.0, 1.0).unwrap());
        let clipped = run(&Clipped::new(&own, 1.0).unwrap());
        assert_eq!(capped, clipped);
    }

    #[test]
    fn bad_limits_are_named() {
        let own = |x: &Tensor, _: f64| Ok(x.clone());
        let text = |e: Option<Error>| e.map(|e| e.to_string()).unwrap_or_default();
        assert!(text(Thresholded::new(&own, 1.1, 2.0).err()).contains("ratio is 1.1"));
        assert!(text(Thresholded::new(&own, 0.9, 0.5).err()).contains("max is 0.5"));
        assert!(text(Clipped::new(&own, f64::NAN).err()).contains("range is NaN"));
    }
}
