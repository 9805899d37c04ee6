//! What the generator of details and its discriminator minimise.

use super::data::TrainData;
use crate::bands::failed;
use crate::config::HighConfig;
use crate::error::Result;
use candle_core::Tensor;
use msal_gan::detail::{hinge_discriminator, hinge_generator, l1};
use msal_gan::official::{LossConfig, discriminator_loss, generator_loss};

/// Losses and how they are weighed.
pub(super) enum Objective {
    /// The hinge loss, and L1 between standardised details.
    Hinge { adversarial: f64, l1: f64 },
    /// The official program's losses: the discriminator's of sigmoids, the generator's of pictures.
    Official(LossConfig),
}

/// What a generator made of the low bands of a batch, and what it should have made: standardised bands (N, C, H, W), the
/// level of each item.
pub(super) struct Made<'a> {
    pub levels: &'a [usize],
    pub low: &'a Tensor,
    pub high: &'a Tensor,
    pub fake: &'a Tensor,
}

impl Objective {
    pub(super) fn new(config: &HighConfig) -> Self {
        match config.official {
            Some(official) => Self::Official(official),
            None => Self::Hinge {
                adversarial: config.adversarial,
                l1: config.l1,
            },
        }
    }

    /// The weights of the adversarial term and of the distance.
    pub(super) fn weights(&self) -> [f64; 2] {
        match self {
            Self::Hinge { adversarial, l1 } => [*adversarial, *l1],
            Self::Official(c) => [c.alpha, 1.0],
        }
    }

    /// The distance's name in a run's numbers.
    pub(super) fn distance_name(&self) -> &'static str {
        match self {
            Self::Hinge { .. } => "l1",
            Self::Official(_) => "distance",
        }
    }

    /// What the discriminator minimises.
    pub(super) fn discriminator(&self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Hinge { .. } => hinge_discriminator(real, fake)?,
            Self::Official(_) => discriminator_loss(fake, real)?,
        })
    }

    /// The generator's adversarial term, where it was judged, and distance, both before [`Objective::weights`].
    pub(super) fn generator(
        &self,
        data: &TrainData,
        made: &Made<'_>,
        judged: Option<&Tensor>,
    ) -> Result<(Option<Tensor>, Tensor)> {
        match (self, judged) {
            (Self::Official(config), Some(logits)) => {
                let fake = pictures(data, made.levels, made.low, made.fake)?;
                let target = pictures(data, made.levels, made.low, made.high)?;
                let loss = generator_loss(logits, &fake, &target, config)?;
                let distance = ((loss.mse * config.lambda)? + (loss.dissimilarity * config.nu)?)?;
                Ok((Some(loss.adversarial), distance))
            }
            _ => {
                let adversarial = judged.map(hinge_generator).transpose()?;
                Ok((adversarial, l1(made.fake, made.high)?))
            }
        }
    }
}

/// Pictures (N, C, 2 H, 2 W) in about [-1, 1], whatever their level, of standardised bands; gradients pass through.
fn pictures(data: &TrainData, levels: &[usize], low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = low.dims4()?;
    let device = low.device();
    // A level's low band is 2^level times as bright as pixels: its picture, the next finer low band, half of that.
    let bright = |level: usize| 0.5f64.powi(level as i32 - 1);
    let (mut scales, mut shifts) = (Vec::new(), Vec::new());
    for &level in levels {
        let stats = &data.stats[level - 1];
        for band in [stats.low].into_iter().chain(stats.high) {
            scales.push((band.std * bright(level)) as f32);
            shifts.push((band.mean * bright(level)) as f32);
        }
    }
    let constants = |values: Vec<f32>| Tensor::from_vec(values, (n, 4, 1, 1, 1), device);
    let (scales, shifts) = (constants(scales)?, constants(shifts)?);
    let bands = Tensor::cat(&[&low.unsqueeze(1)?, &high.reshape((n, 3, c, h, w))?], 1)?;
    let bands = bands.broadcast_mul(&scales)?.broadcast_add(&shifts)?;
    let low = bands.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
    let high = bands.narrow(1, 1, 3)?.contiguous()?;
    let dwt = data.transform.filters();
    dwt.idwt2(&low, &high, None).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LoadOptions, PictureSet, quiet};
    use crate::transform::Transform;
    use candle_core::{Device, Var};
    use std::path::Path;

    /// The bands of real pictures are those pictures, half and quarter as large, whatever the level; and a gradient arrives.
    #[test]
    fn bands_become_pictures_of_their_level() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/pictures");
        for name in ["haar", "bior2.2"] {
            let options = LoadOptions::default();
            let (set, _) = PictureSet::load(&folder, 64, &options, &quiet).unwrap();
            let data = TrainData::new(set, 3, Transform::new(name).unwrap()).unwrap();
            let pyramid = data.pyramids(&[1], |_| false).swap_remove(0);
            // The picture itself, and its low bands, as bright as it is.
            let mut finer = vec![0f32; 3 * 64 * 64];
            data.set.fill_f32(1, false, &mut finer).unwrap();
            for (level, bands) in (1..).zip(&pyramid) {
                let side = 64 >> level;
                let tensor = |x: &[f32], c| Tensor::from_slice(x, (1, c, side, side), &Device::Cpu);
                let high = Var::from_tensor(&tensor(&bands.high, 9).unwrap()).unwrap();
                let low = tensor(&bands.low, 3).unwrap();
                let made = pictures(&data, &[level], &low, high.as_tensor()).unwrap();
                let values = made.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let apart = values.iter().zip(&finer).map(|(a, b)| (a - b).abs());
                assert!(apart.fold(0.0, f32::max) < 1e-4, "{name}, level {level}");
                let gradients = made.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                assert!(gradients.get(&high).is_some());
                let mut low = bands.low.clone();
                data.stats[level - 1].restore_low(&mut low);
                finer = low.iter().map(|v| v * 0.5f32.powi(level as i32)).collect();
            }
        }
    }
}
