//! Distances of features, by `gen-metrics`.

use super::Measure;
use crate::data::PictureSet;
use crate::error::{Error, Result};
use crate::eval::{FeatureSpace, features};
use crate::files::write_atomic;
use crate::picture::RgbImage;
use candle_core::Device;
use gen_metrics::{
    Extractor, Gaussian, KernelOptions, KernelReference, Picture, Statistics, frechet_distance,
};
use std::io::Write;
use std::path::Path;

/// The Frechet distance and the kernel distance of a network's features to those of a set's pictures.
#[derive(Debug)]
pub struct FeatureDistance {
    extractor: Extractor,
    gaussian: Gaussian,
    kernel: KernelReference,
}

impl FeatureDistance {
    /// The distances to the pictures of a set, whose features are kept in `folder`: they take minutes to find. `pictures` is
    /// how many will be compared with them.
    ///
    /// # Errors
    /// Weights that cannot be read, a folder that cannot be written to, [`Error::Cancelled`].
    pub fn new(
        space: &FeatureSpace,
        set: &PictureSet,
        pictures: u64,
        folder: &Path,
        device: &Device,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let extractor = Extractor::open(space.network, space.resize, &space.weights, device)?;
        let name = extractor.space().name();
        let file = folder.join(format!(
            "reference-{}-{:016x}.safetensors",
            extractor.space().short_name(),
            set.fingerprint()
        ));
        let kept = Statistics::open(&file).ok();
        let kept = kept.filter(|kept| kept.space.as_ref() == Some(&name));
        let statistics = match kept {
            Some(kept) => kept,
            None => {
                let features = features(&extractor, set, &|_| match stop() {
                    true => Err(Error::Cancelled),
                    false => Ok(()),
                })?;
                let statistics = Statistics::of(features, name)?;
                let bytes = statistics.to_safetensors()?;
                write_atomic(&file, |w| w.write_all(&bytes))?;
                statistics
            }
        };
        let reference = statistics.features.ok_or_else(|| {
            Error::Argument(format!(
                "{}: holds no features; remove it, and it is made anew",
                file.display()
            ))
        })?;
        let most = reference.count().min(pictures as usize);
        let usual = KernelOptions::default();
        let options = KernelOptions {
            size: usual.size.min(most),
            ..usual
        };
        Ok(Self {
            extractor,
            gaussian: statistics.gaussian,
            kernel: KernelReference::new(reference, options)?,
        })
    }
}

impl Measure for FeatureDistance {
    fn names(&self) -> Vec<String> {
        let space = self.extractor.space();
        let kernel = format!("kernel distance ({})", space.short_name());
        vec![space.frechet_name(), kernel]
    }

    fn identity(&self) -> String {
        let KernelOptions {
            subsets,
            size,
            seed,
        } = self.kernel.options();
        let space = self.extractor.space().name();
        format!("{space}, kernel distance of {subsets} subsets of {size}, seed {seed}")
    }

    fn distances(&self, pictures: &[RgbImage]) -> Result<Vec<f64>> {
        let some = pictures
            .iter()
            .map(|p| {
                let (width, height) = p.dimensions();
                Ok(Picture::new(width as usize, height as usize, p.as_raw())?)
            })
            .collect::<Result<Vec<_>>>()?;
        let features = self.extractor.extract(&some)?;
        let frechet = frechet_distance(&Gaussian::of(&features)?, &self.gaussian)?;
        let kernel = self.kernel.distance(&features)?;
        Ok(vec![frechet, kernel.mean])
    }
}
