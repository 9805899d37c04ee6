//! Pictures as a cascade sees them: a coarse picture, the mean of each cell, and standardised details per level.

use crate::bands::failed;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use checkpoints::Checkpoint;
use std::collections::HashMap;
use wavelet::{Dwt, Mode, Moments, Wavelet};

/// Half the orthonormal Haar transform: with p q above r t the samples of a cell, the coarse picture is their mean, and
/// the details are (p + q - r - t) / 4, (p - q + r - t) / 4 and (p - q - r + t) / 4.
///
/// So coarse pictures stay in [-1, 1] at every level. Details are (N, 3 C, H, W), band by band.
#[derive(Debug, Clone)]
pub struct MeanHaar {
    dwt: Dwt,
}

impl Default for MeanHaar {
    fn default() -> Self {
        Self {
            dwt: Dwt::new(Wavelet::haar(), Mode::Periodization),
        }
    }
}

impl MeanHaar {
    /// x (N, C, H, W) to the coarse picture (N, C, H / 2, W / 2) and the details (N, 3 C, H / 2, W / 2).
    ///
    /// # Errors
    /// Another rank, an odd height or width.
    pub fn split(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, c, h, w) = x.dims4()?;
        if h % 2 == 1 || w % 2 == 1 {
            return Err(Error::Argument(format!(
                "mean-Haar: the picture is {h} x {w}, both must be even"
            )));
        }
        let (low, high) = self.dwt.dwt2(x).map_err(failed)?; // (N, C, h, w), (N, 3, C, h, w)
        let high = high.reshape((n, 3 * c, h / 2, w / 2))?;
        Ok(((low * 0.5)?, (high * 0.5)?))
    }

    /// Undoes [`MeanHaar::split`].
    ///
    /// # Errors
    /// Details that do not belong to the coarse picture.
    pub fn merge(&self, coarse: &Tensor, details: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = coarse.dims4()?;
        if details.dims() != [n, 3 * c, h, w] {
            return Err(Error::Argument(format!(
                "mean-Haar: details {:?} do not belong to the coarse picture {:?}, they must be {:?}",
                details.dims(),
                coarse.dims(),
                [n, 3 * c, h, w]
            )));
        }
        let high = (details * 2.0)?.reshape((n, 3, c, h, w))?;
        self.dwt
            .idwt2(&(coarse * 2.0)?, &high, None)
            .map_err(failed)
    }
}

/// The numbers of one level's details, one of each per channel, as a cascade's checkpoint holds them.
#[derive(Debug, Clone, PartialEq)]
pub struct DetailStats {
    /// Mean over pictures and positions.
    pub mean: Vec<f64>,
    /// Variance over the same, of the population.
    pub var: Vec<f64>,
    /// The least value, which sampling goes down to; perhaps minus infinity.
    pub min: Vec<f64>,
    /// The greatest value, which sampling goes up to; perhaps infinity.
    pub max: Vec<f64>,
}

/// Their names in a checkpoint.
pub(super) const BUFFERS: [&str; 4] = ["details_mean", "details_var", "details_min", "details_max"];

impl DetailStats {
    /// Reads `{prefix}details_mean` and so on, (1, 3 C, 1, 1) each.
    ///
    /// # Errors
    /// A buffer that is missing, of another shape, or cannot standardise; it is named.
    pub fn read(state: &Checkpoint, prefix: &str, channels: usize) -> Result<Self> {
        let read = |buffer: &str| -> Result<Vec<f64>> {
            let name = format!("{prefix}{buffer}");
            let tensor = state.tensor(&name, &Device::Cpu)?;
            if tensor.dims() != [1, 3 * channels, 1, 1] || !tensor.dtype().is_float() {
                return Err(Error::Bundle {
                    path: state.path().into(),
                    reason: format!(
                        "tensor {name} is {:?} of {:?}, pictures of {channels} channels need floats of {:?}",
                        tensor.dtype(),
                        tensor.dims(),
                        [1, 3 * channels, 1, 1]
                    ),
                });
            }
            Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
        };
        let [mean, var, min, max] = BUFFERS;
        let stats = Self {
            mean: read(mean)?,
            var: read(var)?,
            min: read(min)?,
            max: read(max)?,
        };
        stats.check(channels).map_err(|reason| Error::Bundle {
            path: state.path().into(),
            reason: format!("{prefix}{reason}"),
        })?;
        Ok(stats)
    }

    /// The tensors that [`DetailStats::read`] reads.
    ///
    /// # Errors
    /// None but the device's.
    pub fn tensors(&self, prefix: &str) -> Result<HashMap<String, Tensor>> {
        let all = BUFFERS
            .into_iter()
            .zip([&self.mean, &self.var, &self.min, &self.max]);
        all.map(|(name, values)| {
            Ok((
                format!("{prefix}{name}"),
                row(values, DType::F32, &Device::Cpu)?,
            ))
        })
        .collect()
    }

    /// Whether these can standardise the details of pictures of `channels`, in f32, too.
    ///
    /// # Errors
    /// The first number that cannot be meant, by its name.
    pub fn check(&self, channels: usize) -> std::result::Result<(), String> {
        let all = [&self.mean, &self.var, &self.min, &self.max];
        for (name, values) in BUFFERS.into_iter().zip(all) {
            if values.len() != 3 * channels {
                return Err(format!(
                    "{name} has {} numbers, expected {}",
                    values.len(),
                    3 * channels
                ));
            }
        }
        for i in 0..3 * channels {
            let [mean, var, min, max] = all.map(|values| values[i]);
            if !(-1e6..=1e6).contains(&mean) {
                return Err(format!(
                    "details_mean holds {mean} in channel {i}, it must be -1e6 to 1e6"
                ));
            }
            if !(1e-18..=1e12).contains(&var) {
                return Err(format!(
                    "details_var holds {var} in channel {i}, it must be 1e-18 to 1e12 (0 is that of pictures without any detail)"
                ));
            }
            if min.is_nan() || max.is_nan() || min > max {
                return Err(format!(
                    "details_min holds {min} in channel {i} and details_max {max}"
                ));
            }
        }
        Ok(())
    }

    /// (details - mean) / std, channel by channel, of details (N, 3 C, H, W).
    ///
    /// # Errors
    /// Another number of channels.
    pub fn standardise(&self, details: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.rows(details)?;
        Ok(details.broadcast_sub(&mean)?.broadcast_div(&std)?)
    }

    /// Undoes [`DetailStats::standardise`].
    ///
    /// # Errors
    /// As there.
    pub fn restore(&self, standardised: &Tensor) -> Result<Tensor> {
        let (mean, std) = self.rows(standardised)?;
        Ok(standardised.broadcast_mul(&std)?.broadcast_add(&mean)?)
    }

    /// What standardised details lie within, channel by channel.
    pub fn bounds(&self) -> Vec<(f64, f64)> {
        let numbers = self
            .mean
            .iter()
            .zip(&self.var)
            .zip(self.min.iter().zip(&self.max));
        numbers
            .map(|((mean, var), (min, max))| ((min - mean) / var.sqrt(), (max - mean) / var.sqrt()))
            .collect()
    }

    fn rows(&self, details: &Tensor) -> Result<(Tensor, Tensor)> {
        let std: Vec<f64> = self.var.iter().map(|v| v.sqrt()).collect();
        let (dtype, device) = (details.dtype(), details.device());
        Ok((row(&self.mean, dtype, device)?, row(&std, dtype, device)?))
    }
}

/// (1, n, 1, 1), rounded before it moves: Metal has no f64.
fn row(values: &[f64], dtype: DType, device: &Device) -> Result<Tensor> {
    let row = Tensor::from_slice(values, (1, values.len(), 1, 1), &Device::Cpu)?;
    Ok(row.to_dtype(dtype)?.to_device(device)?)
}

/// Pictures and the bands of all levels, there and back.
#[derive(Debug, Clone)]
pub struct CascadeBands {
    haar: MeanHaar,
    stats: Vec<DetailStats>,
}

impl CascadeBands {
    /// With the numbers of every level, the finest first.
    pub fn new(stats: Vec<DetailStats>) -> Self {
        Self {
            haar: MeanHaar::default(),
            stats,
        }
    }

    /// The numbers of every level, the finest first.
    pub fn stats(&self) -> &[DetailStats] {
        &self.stats
    }

    /// The transform of a level.
    pub fn haar(&self) -> &MeanHaar {
        &self.haar
    }

    /// The coarsest picture, and the coarse picture and the standardised details of every level, the finest first: what
    /// the diffusions of a cascade are trained on.
    ///
    /// # Errors
    /// Sizes that cannot be halved so often, another number of channels than the statistics'.
    pub fn forward(&self, x: &Tensor) -> Result<Vec<LevelBands>> {
        let mut levels: Vec<LevelBands> = Vec::with_capacity(self.stats.len());
        for stats in &self.stats {
            let (coarse, details) = self.haar.split(levels.last().map_or(x, |l| &l.coarse))?;
            levels.push(LevelBands {
                details: stats.standardise(&details)?,
                coarse,
            });
        }
        Ok(levels)
    }

    /// The picture one level up, of `coarse` and standardised `details` of `level` (0 is the finest).
    ///
    /// # Errors
    /// A level that is not there, bands that do not fit.
    pub fn merge(&self, level: usize, coarse: &Tensor, details: &Tensor) -> Result<Tensor> {
        let Some(stats) = self.stats.get(level) else {
            return Err(Error::Argument(format!(
                "level {level} of a cascade of {} does not exist",
                self.stats.len()
            )));
        };
        self.haar.merge(coarse, &stats.restore(details)?)
    }

    /// Undoes [`CascadeBands::forward`]: the picture of the coarsest picture and every level's standardised details, the
    /// finest first.
    ///
    /// # Errors
    /// Bands that do not fit.
    pub fn inverse(&self, coarsest: &Tensor, details: &[Tensor]) -> Result<Tensor> {
        if details.len() != self.stats.len() {
            return Err(Error::Argument(format!(
                "{} levels of details for a cascade of {}",
                details.len(),
                self.stats.len()
            )));
        }
        let mut coarsest_first = details.iter().enumerate().rev();
        coarsest_first.try_fold(coarsest.clone(), |x, (level, d)| self.merge(level, &x, d))
    }
}

/// The bands of one level of pictures.
#[derive(Debug, Clone)]
pub struct LevelBands {
    /// (N, C, H, W).
    pub coarse: Tensor,
    /// (N, 3 C, H, W), standardised.
    pub details: Tensor,
}

/// Statistics of the details of pictures seen so far, in f64.
#[derive(Debug, Clone)]
pub struct DetailMoments {
    haar: MeanHaar,
    channels: usize,
    levels: Vec<LevelDetails>,
}

#[derive(Debug, Clone)]
struct LevelDetails {
    moments: Vec<Moments>,
    min: f64,
    max: f64,
}

impl DetailMoments {
    /// Of no pictures yet.
    pub fn new(channels: usize, levels: usize) -> Self {
        let level = LevelDetails {
            moments: vec![Moments::default(); 3 * channels],
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        Self {
            haar: MeanHaar::default(),
            channels,
            levels: vec![level; levels],
        }
    }

    /// Adds pictures x (N, C, H, W), one after another.
    ///
    /// # Errors
    /// Another number of channels, sizes that cannot be halved so often, values that are not finite.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        if x.dims4()?.1 != self.channels {
            return Err(Error::Argument(format!(
                "statistics of details: pictures are {:?}, expected {} channels",
                x.dims(),
                self.channels
            )));
        }
        let mut x = x.clone();
        for level in &mut self.levels {
            let (coarse, details) = self.haar.split(&x)?;
            for picture in details
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .flatten_from(2)?
                .to_vec3::<f32>()?
            {
                for (moments, values) in level.moments.iter_mut().zip(&picture) {
                    if values.iter().any(|v| !v.is_finite()) {
                        return Err(Error::Argument(
                            "statistics of details: a picture holds a value that is not finite"
                                .into(),
                        ));
                    }
                    moments.add(values);
                    let values = values.iter().map(|&v| f64::from(v));
                    (level.min, level.max) =
                        values.fold((level.min, level.max), |(a, b), v| (a.min(v), b.max(v)));
                }
            }
            x = coarse;
        }
        Ok(())
    }

    /// Adds what another has seen.
    ///
    /// # Errors
    /// Another number of channels or levels.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if (other.channels, other.levels.len()) != (self.channels, self.levels.len()) {
            return Err(Error::Argument(
                "statistics of details: of other channels or levels".into(),
            ));
        }
        for (level, other) in self.levels.iter_mut().zip(&other.levels) {
            for (moments, other) in level.moments.iter_mut().zip(&other.moments) {
                moments.merge(other);
            }
            (level.min, level.max) = (level.min.min(other.min), level.max.max(other.max));
        }
        Ok(())
    }

    /// The numbers of every level, the finest first. As in cascaded-wavelet-diffusion all channels share the level's least
    /// and greatest value; its variance is n / (n - 1) times this one, for n pictures.
    pub fn stats(&self) -> Vec<DetailStats> {
        let one = |level: &LevelDetails| {
            let stats = level.moments.iter().map(Moments::stats);
            let (mean, var): (Vec<f64>, Vec<f64>) = stats.map(|s| (s.mean, s.std * s.std)).unzip();
            DetailStats {
                min: vec![level.min; mean.len()],
                max: vec![level.max; mean.len()],
                mean,
                var,
            }
        };
        self.levels.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures(n: usize, c: usize, side: usize) -> Tensor {
        let item = [c, side, side];
        let indices: Vec<u64> = (0..n as u64).collect();
        nn_ops::noise::normal_tensor(3, &indices, 1, 0, &item, &Device::Cpu).unwrap()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let d = (a - b).unwrap().abs().unwrap();
        d.max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn a_cell_by_hand() {
        let x = Tensor::new(&[1f32, 3.0, 5.0, 8.0], &Device::Cpu).unwrap();
        let x = x.reshape((1, 1, 2, 2)).unwrap();
        let (coarse, details) = MeanHaar::default().split(&x).unwrap();
        assert_eq!(
            coarse.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [4.25]
        );
        let details = details.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(details, [-2.25, -1.25, 0.25]);
    }

    #[test]
    fn pictures_come_back_from_standardised_bands() {
        let x = (pictures(5, 2, 16) + 0.3).unwrap();
        let mut moments = DetailMoments::new(2, 3);
        moments.add(&x).unwrap();
        let bands = CascadeBands::new(moments.stats());
        bands.stats().iter().for_each(|s| s.check(2).unwrap());
        let levels = bands.forward(&x).unwrap();
        assert_eq!(levels[0].details.dims(), [5, 6, 8, 8]);
        assert_eq!(levels[2].coarse.dims(), [5, 2, 2, 2]);
        let details: Vec<Tensor> = levels.iter().map(|l| l.details.clone()).collect();
        let back = bands.inverse(&levels[2].coarse, &details).unwrap();
        assert!(worst(&x, &back) < 1e-5);
        // Standardised: mean 0 and variance 1 in every channel, within the bounds.
        for (level, stats) in levels.iter().zip(bands.stats()) {
            let d = &level.details;
            let channels = d.transpose(0, 1).unwrap().flatten_from(1).unwrap();
            for (values, (low, high)) in channels
                .to_vec2::<f32>()
                .unwrap()
                .iter()
                .zip(stats.bounds())
            {
                let n = values.len() as f64;
                let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let var = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
                assert!(
                    mean.abs() < 1e-5 && (var - 1.0).abs() < 1e-4,
                    "{mean} {var}"
                );
                assert!(
                    values
                        .iter()
                        .all(|&v| f64::from(v) > low - 1e-4 && f64::from(v) < high + 1e-4)
                );
            }
        }
        // White noise has details of variance 1 / 4 at the finest level, 1 / 16 at the next.
        for (stats, expected) in bands.stats().iter().zip([0.25, 0.0625]) {
            let mean = stats.var.iter().sum::<f64>() / 6.0;
            assert!((mean / expected - 1.0).abs() < 0.2, "{mean}");
        }
    }

    #[test]
    fn statistics_do_not_depend_on_the_batches() {
        let x = pictures(6, 1, 8);
        let mut whole = DetailMoments::new(1, 2);
        whole.add(&x).unwrap();
        let mut parts = DetailMoments::new(1, 2);
        for i in [0, 2, 4] {
            parts.add(&x.narrow(0, i, 2).unwrap()).unwrap();
        }
        assert_eq!(whole.stats(), parts.stats());
        let mut merged = DetailMoments::new(1, 2);
        for i in 0..2 {
            let mut half = DetailMoments::new(1, 2);
            half.add(&x.narrow(0, 3 * i, 3).unwrap()).unwrap();
            merged.merge(&half).unwrap();
        }
        for (a, b) in whole.stats().iter().zip(merged.stats()) {
            assert_eq!((&a.min, &a.max), (&b.min, &b.max));
            assert!(a.var.iter().zip(&b.var).all(|(a, b)| (a - b).abs() < 1e-12));
        }
        assert!(merged.merge(&DetailMoments::new(2, 2)).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let haar = MeanHaar::default();
        let e = haar.split(&Tensor::zeros((1, 1, 4, 3), DType::F32, &Device::Cpu).unwrap());
        assert!(e.unwrap_err().to_string().contains("4 x 3"));
        let (coarse, details) = haar.split(&pictures(1, 3, 4)).unwrap();
        let e = haar
            .merge(&coarse, &details.narrow(1, 0, 3).unwrap())
            .unwrap_err();
        assert!(e.to_string().contains("[1, 9, 2, 2]"), "{e}");
        let good = DetailStats {
            mean: vec![0.0; 3],
            var: vec![1.0; 3],
            min: vec![f64::NEG_INFINITY; 3],
            max: vec![f64::INFINITY; 3],
        };
        good.check(1).unwrap();
        assert!(good.check(2).unwrap_err().contains("details_mean has 3"));
        for var in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let stats = DetailStats {
                var: vec![1.0, var, 1.0],
                ..good.clone()
            };
            assert!(stats.check(1).unwrap_err().contains("channel 1"));
        }
        let stats = DetailStats {
            min: vec![f64::NAN; 3],
            ..good.clone()
        };
        assert!(stats.check(1).unwrap_err().contains("details_min"));
        let mut none = DetailMoments::new(1, 1);
        none.add(&Tensor::zeros((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap())
            .unwrap();
        assert!(
            none.stats()[0]
                .check(1)
                .unwrap_err()
                .contains("without any detail")
        );
        assert!(none.add(&pictures(1, 3, 4)).is_err());
        let nan = Tensor::full(f32::NAN, (1, 1, 4, 4), &Device::Cpu).unwrap();
        assert!(
            none.add(&nan)
                .unwrap_err()
                .to_string()
                .contains("not finite")
        );
    }
}
