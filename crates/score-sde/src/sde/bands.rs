//! One process acting on every band of a wavelet transform.

use super::{Score, Sde};
use crate::error::{Error, Result, ensure, same_shape};
use crate::pictures::{check_times, scale};
use candle_core::Tensor;

/// Forward and reverse process in the wavelet domain (Xiao et al., arXiv 2411.09356, definitions 2 to 4).
///
/// An orthonormal transform W keeps the form of a process: d(Wx) = f Wx dt + g d(Ww), where Ww is white noise again, and
/// score(Wx) = W score(x). So each band follows the same equation as the picture, and what couples them is the score
/// alone. Bands may be standardised first, x_b = mean_b + std_b y_b; then y_b follows the equation, and a band's noise
/// has its own scale, dx_b = f (x_b - mean_b) dt + std_b g dw.
///
/// The bands joined into one state (N, all their values), every sampler and the likelihood run on them:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use score_sde::sampler::{PredictorCorrector, addressed_noise, predictor_corrector};
/// use score_sde::sde::{Bands, Vp};
///
/// let bands = Bands::new(vec![vec![3, 4, 4], vec![3, 3, 4, 4]])?;
/// // The score of white noise in every band; it may look at all of them.
/// let white = |bands: &[Tensor], _: &[f64]| bands.iter().map(|b| b.neg()).collect();
/// let score = bands.score(&white);
/// let mut noise = addressed_noise(7, &[0, 1], 0);
/// let start = bands.join(&[
///     Tensor::ones((2, 3, 4, 4), candle_core::DType::F32, &Device::Cpu)?,
///     Tensor::zeros((2, 3, 3, 4, 4), candle_core::DType::F32, &Device::Cpu)?,
/// ])?;
/// let sde = Vp { num_scales: 25, ..Default::default() };
/// let options = PredictorCorrector::default();
/// let x = predictor_corrector(&sde, &score, start, &options, &mut noise, &mut |_, _| Ok(()))?;
/// assert_eq!(bands.split(&x)?[1].dims(), [2, 3, 3, 4, 4]);
/// # Ok::<(), score_sde::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Bands {
    shapes: Vec<Vec<usize>>,
    moments: Vec<(f64, f64)>,
}

impl Bands {
    /// Bands of these shapes, without the pictures' dimension, as they are.
    ///
    /// # Errors
    /// No bands, or an empty one.
    pub fn new(shapes: Vec<Vec<usize>>) -> Result<Self> {
        let size = |s: &Vec<usize>| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let total = (shapes.iter()).try_fold(0usize, |sum, s| sum.checked_add(size(s)?));
        let full = |s: &Vec<usize>| !s.is_empty() && !s.contains(&0);
        let full = !shapes.is_empty() && shapes.iter().all(full) && total.is_some();
        let need = "at least one band, none of them empty";
        ensure(full, "Bands::new", "shapes", format!("{shapes:?}"), need)?;
        let moments = vec![(0.0, 1.0); shapes.len()];
        Ok(Self { shapes, moments })
    }

    /// The same bands, each standardised by a mean and a standard deviation.
    ///
    /// # Errors
    /// Another number of moments than of bands, a mean that is not finite, a deviation that is not above 0.
    pub fn standardised(mut self, moments: Vec<(f64, f64)>) -> Result<Self> {
        let fits = moments.len() == self.shapes.len();
        let count = moments.len();
        ensure(
            fits,
            "Bands::standardised",
            "moments",
            count,
            "as many as bands",
        )?;
        for (mean, std) in &moments {
            let fine = mean.is_finite() && std.is_finite() && *std > 0.0;
            let value = format!("({mean}, {std})");
            let need = "a finite mean and a deviation above 0";
            ensure(fine, "Bands::standardised", "moments", value, need)?;
        }
        self.moments = moments;
        Ok(self)
    }

    /// All bands, each (N, its shape), standardised and joined into one state (N, all their values).
    ///
    /// # Errors
    /// Bands of other shapes.
    pub fn join(&self, bands: &[Tensor]) -> Result<Tensor> {
        let affine = |b: &Tensor, (mean, std): (f64, f64)| b.affine(1.0 / std, -mean / std);
        self.flat("Bands::join", bands, affine)
    }

    /// The bands of a state: [`join`](Self::join) undone.
    ///
    /// # Errors
    /// A state of another length.
    pub fn split(&self, state: &Tensor) -> Result<Vec<Tensor>> {
        let total: usize = self
            .shapes
            .iter()
            .map(|s| s.iter().product::<usize>())
            .sum();
        if state.rank() != 2 || state.dims()[1] != total {
            return Err(Error::Shape {
                op: "Bands::split",
                name: "state",
                got: state.dims().to_vec(),
                expected: format!("(N, {total})"),
            });
        }
        let mut from = 0;
        let mut bands = Vec::new();
        for (shape, (mean, std)) in self.shapes.iter().zip(&self.moments) {
            let len = shape.iter().product();
            // (N, D) -> (N, its shape)
            let full: Vec<usize> = [&[state.dims()[0]], shape.as_slice()].concat();
            let band = state.narrow(1, from, len)?.reshape(full)?;
            bands.push(band.affine(*std, *mean)?);
            from += len;
        }
        Ok(bands)
    }

    /// The forward process: bands at times `t`, one per picture, from clean bands and white noise of their shapes.
    ///
    /// # Errors
    /// Bands, noise or times that do not fit.
    pub fn diffuse(
        &self,
        sde: &dyn Sde,
        bands: &[Tensor],
        t: &[f64],
        noise: &[Tensor],
    ) -> Result<Vec<Tensor>> {
        let clean = self.join(bands)?;
        check_times("Bands::diffuse", &clean, t)?;
        let noise = self.flat("Bands::diffuse", noise, |b, _| Ok(b.clone()))?;
        same_shape("Bands::diffuse", "noise", &noise, &clean)?;
        let kept = scale(&clean, t, |t| sde.marginal(t).signal)?;
        self.split(&(kept + scale(&noise, t, |t| sde.marginal(t).std)?)?)
    }

    /// The score of the joined state from one that takes all bands (N, its shape) and one time per picture, and gives the
    /// score of each band in the band's own units.
    pub fn score<'a>(&'a self, bands: &'a BandScore) -> JoinedScore<'a> {
        JoinedScore {
            bands: self,
            score: bands,
        }
    }

    fn flat(
        &self,
        op: &'static str,
        bands: &[Tensor],
        f: impl Fn(&Tensor, (f64, f64)) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let fits = |(b, s): (&Tensor, &Vec<usize>)| b.rank() > 0 && b.dims()[1..] == **s;
        if bands.len() != self.shapes.len() || !bands.iter().zip(&self.shapes).all(fits) {
            return Err(Error::Shape {
                op,
                name: "bands",
                got: bands.iter().flat_map(|b| b.dims().to_vec()).collect(),
                expected: format!("{:?}, each after the number of pictures", self.shapes),
            });
        }
        let flat = bands.iter().zip(&self.moments);
        let flat = flat.map(|(b, &m)| f(b, m)?.flatten_from(1));
        Ok(Tensor::cat(
            &flat.collect::<candle_core::Result<Vec<_>>>()?,
            1,
        )?)
    }
}

/// The score of every band, given all of them and one time per picture.
pub type BandScore<'a> = dyn Fn(&[Tensor], &[f64]) -> candle_core::Result<Vec<Tensor>> + 'a;

/// The score of a state that joins bands, see [`Bands::score`].
#[derive(Clone, Copy)]
pub struct JoinedScore<'a> {
    bands: &'a Bands,
    score: &'a BandScore<'a>,
}

impl Score for JoinedScore<'_> {
    fn score(&self, x: &Tensor, t: &[f64]) -> candle_core::Result<Tensor> {
        let scores = (self.score)(&self.bands.split(x)?, t)?;
        // y = (x - mean) / std: its gradient is std times that of x.
        Ok(self
            .bands
            .flat("Bands::score", &scores, |s, (_, std)| s.affine(std, 0.0))?)
    }
}
