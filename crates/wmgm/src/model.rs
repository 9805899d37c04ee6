//! Both networks of a model at work: low bands out of noise, pictures out of low bands.

use crate::bands::{LevelStats, unfold};
use crate::config::SampleDefaults;
use crate::error::{Error, Result};
use crate::transform::Transform;
use candle_core::{Device, Tensor};
use msal_gan::DetailGenerator;
use nn_ops::{noise, precision};
use rayon::prelude::*;
use score_sde::sampler::{OnStep, dpmpp_2m, euler, heun};
use score_sde::{Edm, UNet};

/// What c_noise = ln(sigma) / 4 is multiplied by before the network's sinusoidal embedding, which expects hundreds.
pub(crate) const TIME_SCALE: f64 = 400.0;

/// Noise streams of sampling: the diffusion's start, its fresh noise where a sampler needs some, and the details of level
/// k at `DETAIL + k`.
pub(crate) const START: u32 = 100;
pub(crate) const FRESH: u32 = 101;
pub(crate) const DETAIL: u32 = 200;

/// A way down the noise levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// Heun's method: 2 n - 1 evaluations for n steps.
    Heun,
    /// DPM-Solver++(2M): n evaluations.
    DpmPp2M,
    /// Euler's method, DDIM with eta 0: n evaluations.
    Euler,
}

impl Sampler {
    /// All names.
    pub const NAMES: [&'static str; 3] = ["heun", "dpmpp-2m", "euler"];

    /// Network evaluations of `steps` steps.
    pub fn evaluations(self, steps: usize) -> usize {
        match self {
            Self::Heun => (2 * steps).saturating_sub(1),
            Self::DpmPp2M | Self::Euler => steps,
        }
    }
}

impl std::str::FromStr for Sampler {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "heun" => Ok(Self::Heun),
            "dpmpp-2m" => Ok(Self::DpmPp2M),
            "euler" => Ok(Self::Euler),
            _ => Err(Error::Argument(format!(
                "unknown sampler {name:?}; known are {}",
                Self::NAMES.join(", ")
            ))),
        }
    }
}

/// The diffusion model of the low band.
#[derive(Debug, Clone)]
pub struct LowModel {
    /// The score network.
    pub net: UNet,
    /// Its preconditioning.
    pub edm: Edm,
    /// Side of the low band.
    pub side: usize,
    /// How often the band is folded for the network.
    pub fold: usize,
}

impl LowModel {
    /// Standardised low bands (N, 3, side, side) of the pictures `indices` of a seed.
    ///
    /// # Errors
    /// An unknown sampler, steps out of range, errors of `on_step`.
    pub fn sample(
        &self,
        how: &SampleDefaults,
        seed: u64,
        indices: &[u64],
        device: &Device,
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        self.sample_watched(how, seed, indices, device, &|_| (), on_step)
    }

    /// As [`LowModel::sample`], showing `on_estimate` the network's idea of the clean band at every evaluation, and `on_step`
    /// the noisy one after every step: both folded, see [`LowModel::unfolded`].
    ///
    /// # Errors
    /// As [`LowModel::sample`].
    pub fn sample_watched(
        &self,
        how: &SampleDefaults,
        seed: u64,
        indices: &[u64],
        device: &Device,
        on_estimate: &dyn Fn(&Tensor),
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let sampler = crate::config::check_sample(how)?;
        let sigmas = self.edm.sigmas(how.steps);
        let (channels, side) = (3 << (2 * self.fold), self.side >> self.fold);
        let x = noise::normal_tensor(seed, indices, START, 0, &[channels, side, side], device)?;
        let x = (x * sigmas[0])?;
        let n = indices.len();
        let denoiser = |x: &Tensor, sigma: f64| {
            let clean = self.edm.denoise(x, sigma, |input, c_noise| {
                let t = Tensor::full((c_noise * TIME_SCALE) as f32, n, input.device())?;
                precision::computed(input, |input| self.net.forward(input, &t, None, None))
            })?;
            on_estimate(&clean);
            Ok(clean)
        };
        let x = match sampler {
            Sampler::Heun => heun(&denoiser, x, &sigmas, on_step),
            Sampler::DpmPp2M => dpmpp_2m(&denoiser, x, &sigmas, on_step),
            Sampler::Euler => euler(&denoiser, x, &sigmas, on_step),
        }
        .map_err(candle_core::Error::from)?;
        self.unfolded(&x)
    }

    /// Low bands (N, 3, side, side) as the network sees them, (N, 3 * 4^fold, side / 2^fold, side / 2^fold), unfolded.
    ///
    /// # Errors
    /// Another shape.
    pub fn unfolded(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dim(0)?;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let bands = values
            .chunks_exact(3 * self.side * self.side)
            .map(|item| unfold(item.to_vec(), 3, self.side, self.fold))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::from_vec(
            bands.concat(),
            (n, 3, self.side, self.side),
            x.device(),
        )?)
    }
}

/// The generator of details and the statistics of its bands.
#[derive(Debug, Clone)]
pub struct HighModel {
    /// One network for all levels.
    pub generator: DetailGenerator,
    /// Statistics of level 1 (finest) and up.
    pub stats: Vec<LevelStats>,
    /// The wavelet between levels.
    pub transform: Transform,
}

impl HighModel {
    /// Pictures (N, 3, H, W) in [-1, 1] from the standardised low bands of `from_level`, with the noise that belongs
    /// to the pictures `indices` of a seed: one generator pass per level.
    ///
    /// # Errors
    /// A level out of range or shapes that do not fit.
    pub fn details(
        &self,
        low: &Tensor,
        from_level: usize,
        seed: u64,
        indices: &[u64],
    ) -> Result<Tensor> {
        self.details_watched(low, from_level, seed, indices, &mut |_, _| Ok(()))
    }

    /// As [`HighModel::details`], showing `each` the low band of every level below `from_level` once it is made: with its
    /// level, standardised, and at last, as level 0, the pictures.
    ///
    /// # Errors
    /// As [`HighModel::details`], errors of `each`.
    pub fn details_watched(
        &self,
        low: &Tensor,
        from_level: usize,
        seed: u64,
        indices: &[u64],
        each: &mut dyn FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (n, c, mut side, _) = low.dims4()?;
        if from_level == 0 || from_level > self.stats.len() || n != indices.len() {
            return Err(Error::Argument(format!(
                "details: level {from_level} of {} and {n} low bands for {} pictures do not fit",
                self.stats.len(),
                indices.len()
            )));
        }
        let device = low.device().clone();
        let z = self.generator.config().noise_channels;
        let mut low = low.clone();
        for level in (1..=from_level).rev() {
            let noise = noise::normal_tensor(
                seed,
                indices,
                DETAIL + level as u32,
                0,
                &[z, side, side],
                &device,
            )?;
            let high = precision::computed(&low, |low| {
                let noise = noise.to_dtype(low.dtype())?;
                self.generator.forward(low, &noise, level)
            })?;
            let mut low_values = low.flatten_all()?.to_vec1::<f32>()?;
            let mut high_values = high.flatten_all()?.to_vec1::<f32>()?;
            let item = c * side * side;
            let merged: Vec<Vec<f32>> = low_values
                .par_chunks_exact_mut(item)
                .zip(high_values.par_chunks_exact_mut(3 * item))
                .map(|(low, high)| {
                    self.stats[level - 1].restore_low(low);
                    self.stats[level - 1].restore_high(high);
                    let mut merged = self.transform.merge(low, high, c, side)?;
                    if level > 1 {
                        self.stats[level - 2].standardise_low(&mut merged);
                    }
                    Ok(merged)
                })
                .collect::<Result<_>>()?;
            side *= 2;
            low = Tensor::from_vec(merged.concat(), (n, c, side, side), &device)?;
            each(level - 1, &low)?;
        }
        Ok(low)
    }

    /// Pictures (N, 3, H, W) of standardised low bands of `from_level` without any details: each band as the inverse
    /// transform spreads it. Level 0 are pictures already.
    ///
    /// # Errors
    /// A level out of range or shapes that do not fit.
    pub fn without_details(&self, low: &Tensor, from_level: usize) -> Result<Tensor> {
        let (n, c, side, _) = low.dims4()?;
        let Some(stats) = self.stats.get(from_level.wrapping_sub(1)) else {
            return match from_level {
                0 => Ok(low.clone()),
                _ => Err(Error::Argument(format!(
                    "level {from_level} of {} does not exist",
                    self.stats.len()
                ))),
            };
        };
        let values = low.flatten_all()?.to_vec1::<f32>()?;
        let pictures: Vec<Vec<f32>> = values
            .par_chunks_exact(c * side * side)
            .map(|low| {
                let mut low = low.to_vec();
                stats.restore_low(&mut low);
                (0..from_level).try_fold(low, |low, k| {
                    let none = vec![0.0; 3 * low.len()];
                    self.transform.merge(&low, &none, c, side << k)
                })
            })
            .collect::<Result<_>>()?;
        let size = side << from_level;
        Ok(Tensor::from_vec(
            pictures.concat(),
            (n, c, size, size),
            low.device(),
        )?)
    }
}
