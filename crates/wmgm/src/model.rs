//! Both networks of a model at work: low bands out of noise, pictures out of low bands.

use crate::bands::{LevelStats, fold, turn_colours, unfold};
use crate::error::{Error, Result};
use crate::guide::{self, Guide};
use crate::transform::Transform;
use candle_core::{Device, Tensor};
use msal_gan::DetailGenerator;
use nn_ops::{noise, precision};
use rayon::prelude::*;
use score_sde::sampler::{OnStep, SolverConfig, addressed_noise};
use score_sde::{Edm, Preconditioner, UNet};

/// What c_noise = ln(sigma) / 4 is multiplied by before the network's sinusoidal embedding, which expects hundreds.
pub(crate) const TIME_SCALE: f64 = 400.0;

/// Noise streams of sampling: the diffusion's start, its fresh noise where a sampler needs some, and the details of level
/// k at `DETAIL + k`.
pub(crate) const START: u32 = 100;
pub(crate) const FRESH: u32 = 101;
pub(crate) const DETAIL: u32 = 200;

/// Noise streams of level k's diffused details: the start at `START_DETAILS + 2 k`, fresh noise one above.
const START_DETAILS: u32 = 400;

/// The samplers that every model has.
pub const SAMPLERS: [&str; 3] = ["heun", "dpmpp-2m", "euler"];

/// A solver by its name: `heun` (2 n - 1 evaluations for n steps), `dpmpp-2m` (DPM-Solver++(2M) of second order to the last
/// step), `euler` (DDIM with eta 0), or another name that [`SolverConfig`] parses, with - or _.
///
/// # Errors
/// An unknown name; the message lists those known.
pub fn solver(name: &str) -> Result<SolverConfig> {
    let plain = name.replace('-', "_");
    if plain == "dpmpp_2m" {
        return Ok(SolverConfig {
            lower_order_final: false,
            ..SolverConfig::default()
        });
    }
    plain.parse().map_err(|e| {
        Error::Argument(format!(
            "unknown sampler {name:?}; known are {}, and all of: {e}",
            SAMPLERS.join(", ")
        ))
    })
}

/// Numbers that address a picture's noise in one diffusion.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The seed.
    pub seed: u64,
    /// The numbers of the batch's pictures.
    pub indices: &'a [u64],
    /// The streams of the start and of fresh noise.
    pub streams: [u32; 2],
}

impl<'a> Draw<'a> {
    /// For the coarsest band, or pixels.
    pub fn low(seed: u64, indices: &'a [u64]) -> Self {
        let streams = [START, FRESH];
        Self {
            seed,
            indices,
            streams,
        }
    }

    /// For the details of a level, 1 being the finest.
    pub fn details(seed: u64, indices: &'a [u64], level: usize) -> Self {
        let start = START_DETAILS + 2 * level as u32;
        let streams = [start, start + 1];
        Self {
            seed,
            indices,
            streams,
        }
    }
}

/// The clean bands that a score network, guided or not, sees in noisy ones x (N, C, H, W) of one noise level, given what it is
/// shown beside them, all folded.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn denoised(
    (net, guide): (&UNet, Option<&Guide>),
    preconditioner: &Preconditioner,
    x: &Tensor,
    sigma: f64,
    condition: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    preconditioner.denoise(x, sigma, |input, c_noise| {
        let t = Tensor::full((c_noise * TIME_SCALE) as f32, x.dim(0)?, x.device())?;
        let shown = match condition {
            None => input.clone(),
            Some(c) => Tensor::cat(&[input, c], 1)?,
        };
        guide::output(net, guide, &shown, &t)
    })
}

/// A band's preconditioning: by the deviation of each channel, where there are any, else by `sigma_data`.
///
/// # Errors
/// A deviation that none can be.
pub(crate) fn preconditioner(edm: Edm, channels: &[f64]) -> Result<Preconditioner> {
    match channels {
        [] => Ok(edm.into()),
        each => {
            Ok(Preconditioner::by_channel(edm, each.to_vec()).map_err(candle_core::Error::from)?)
        }
    }
}

/// The diffusion model of a band: a low band, pixels, or a level's details given its low band.
#[derive(Debug, Clone)]
pub struct BandModel {
    /// The score network.
    pub net: UNet,
    /// A worse one to be led away from.
    pub guide: Option<Guide>,
    /// Its preconditioning, and noise levels.
    pub preconditioner: Preconditioner,
    /// Channels of the band.
    pub channels: usize,
    /// Side of the band.
    pub side: usize,
    /// How often the band is folded for the network.
    pub fold: usize,
}

impl BandModel {
    /// Standardised bands (N, channels, side, side) of the pictures that `draw` numbers, by so many steps of a solver.
    ///
    /// `condition` is what the network is shown beside the band, standardised and folded as the band is: (N, C, side, side).
    ///
    /// # Errors
    /// Shapes that do not fit, errors of `on_step`.
    pub fn sample(
        &self,
        solver: &SolverConfig,
        steps: usize,
        draw: Draw<'_>,
        condition: Option<&Tensor>,
        device: &Device,
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        self.sample_watched((solver, steps), draw, condition, device, &|_| (), on_step)
    }

    /// As [`BandModel::sample`], showing `on_estimate` the network's idea of the clean band at every evaluation, and `on_step`
    /// the noisy one after every step: both folded, see [`BandModel::unfolded`]. `how` is a solver and its steps.
    ///
    /// # Errors
    /// As [`BandModel::sample`].
    pub fn sample_watched(
        &self,
        how: (&SolverConfig, usize),
        draw: Draw<'_>,
        condition: Option<&Tensor>,
        device: &Device,
        on_estimate: &dyn Fn(&Tensor),
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        let (solver, steps) = how;
        let Draw {
            seed,
            indices,
            streams,
        } = draw;
        let sigmas = self.preconditioner.edm().sigmas(steps);
        let condition = match condition {
            Some(band) => Some(self.folded(band)?),
            None => None,
        };
        let (channels, side) = (self.channels << (2 * self.fold), self.side >> self.fold);
        let x = noise::normal_tensor(
            seed,
            indices,
            streams[0],
            0,
            &[channels, side, side],
            device,
        )?;
        let x = (x * sigmas[0])?;
        let denoiser = |x: &Tensor, sigma: f64| {
            let nets = (&self.net, self.guide.as_ref());
            let clean = denoised(nets, &self.preconditioner, x, sigma, condition.as_ref())?;
            on_estimate(&clean);
            Ok(clean)
        };
        let mut fresh = addressed_noise(seed, indices, streams[1]);
        let x = solver
            .sample(&denoiser, x, &sigmas, &mut fresh, on_step)
            .map_err(candle_core::Error::from)?;
        self.unfolded(&x)
    }

    /// Bands (N, channels, side, side) as the network sees them, (N, channels * 4^fold, side / 2^fold, side / 2^fold), unfolded.
    ///
    /// # Errors
    /// Another shape.
    pub fn unfolded(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dim(0)?;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let bands = values
            .chunks_exact(self.channels * self.side * self.side)
            .map(|item| {
                let mut band = unfold(item.to_vec(), self.channels, self.side, self.fold)?;
                if !self.preconditioner.channels().is_empty() {
                    turn_colours(&mut band, true);
                }
                Ok(band)
            })
            .collect::<Result<Vec<_>>>()?;
        let shape = (n, self.channels, self.side, self.side);
        Ok(Tensor::from_vec(bands.concat(), shape, x.device())?)
    }

    /// A band (N, C, side, side) as the network sees it.
    fn folded(&self, band: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = band.dims4()?;
        if h != self.side || w != self.side {
            return Err(Error::Argument(format!(
                "a condition of {h} x {w} for a band of side {}",
                self.side
            )));
        }
        let values = band.flatten_all()?.to_vec1::<f32>()?;
        let items = values
            .chunks_exact(c * h * w)
            .map(|item| fold(item.to_vec(), c, h, self.fold))
            .collect::<Result<Vec<_>>>()?;
        let shape = (n, c << (2 * self.fold), h >> self.fold, w >> self.fold);
        Ok(Tensor::from_vec(items.concat(), shape, band.device())?)
    }

    /// Multiply-adds of one evaluation for one picture, its guide's included.
    ///
    /// # Errors
    /// A side that the network cannot halve.
    pub fn multiply_adds(&self) -> Result<u64> {
        let nets = std::iter::once(&self.net).chain(self.guide.as_ref().map(|g| &g.net));
        let side = [self.side >> self.fold; 2];
        nets.map(|net| Ok(net.multiply_adds(side)?)).sum()
    }
}

/// From standardised bands of level `level` to what is next: the standardised low band (N, C, 2 s, 2 s) of the level below,
/// or the picture itself, in its own units.
///
/// # Errors
/// Shapes that do not fit.
pub(crate) fn finer(
    transform: &Transform,
    stats: &[LevelStats],
    level: usize,
    low: &Tensor,
    high: &Tensor,
) -> Result<Tensor> {
    let (n, c, side, _) = low.dims4()?;
    let mut low_values = low.flatten_all()?.to_vec1::<f32>()?;
    let mut high_values = high.flatten_all()?.to_vec1::<f32>()?;
    let item = c * side * side;
    let merged: Vec<Vec<f32>> = low_values
        .par_chunks_exact_mut(item)
        .zip(high_values.par_chunks_exact_mut(3 * item))
        .map(|(low, high)| {
            stats[level - 1].restore_low(low);
            stats[level - 1].restore_high(high);
            let mut merged = transform.merge(low, high, c, side)?;
            if level > 1 {
                stats[level - 2].standardise_low(&mut merged);
            }
            Ok(merged)
        })
        .collect::<Result<_>>()?;
    let shape = (n, c, 2 * side, 2 * side);
    Ok(Tensor::from_vec(merged.concat(), shape, low.device())?)
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
        let (n, _, mut side, _) = low.dims4()?;
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
            low = finer(&self.transform, &self.stats, level, &low, &high)?;
            side *= 2;
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
