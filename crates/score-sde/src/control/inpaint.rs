//! Filling in what is missing.

use crate::error::{Result, ensure, same_shape};
use crate::pictures::{pictures, scale};
use crate::sampler::{Draw, Noise, OnStep, PredictorCorrector};
use crate::sde::{Score, Sde};
use candle_core::Tensor;

/// Fills in the unknown values of pictures: predictor-corrector sampling in which, after each half of a step, the known
/// values are replaced by ones diffused anew from `data` (Song et al. 2021, arXiv 2011.13456, appendix I.2). `mask` is 1
/// where `data` is known and 0 elsewhere, where `data` is not looked at; all three are (N, ...). `x` is the prior's standard deviation times noise.
///
/// The result has the known values as the process leaves them at `eps` (times [`signal`](crate::sde::Marginal::signal));
/// with `noise_removal` without noise. There, unlike score_sde, whose unknown values keep the last step's noise, all values
/// are without.
///
/// # Errors
/// Those of [`predictor_corrector`](crate::sampler::predictor_corrector), shapes that differ, a mask of other values.
pub fn inpaint(
    sde: &dyn Sde,
    score: &dyn Score,
    data: &Tensor,
    mask: &Tensor,
    x: Tensor,
    options: &PredictorCorrector,
    noise: Noise,
    on_step: OnStep,
) -> Result<Tensor> {
    let known = Known {
        data: data.clone(),
        mask: mask.clone(),
        basis: &|x| Ok(x.clone()),
        back: &|x| Ok(x.clone()),
    };
    known.sample(sde, score, x, options, noise, on_step)
}

type Map<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

/// Values that are known in some orthonormal basis.
pub(super) struct Known<'a> {
    /// In the basis.
    pub data: Tensor,
    /// In the basis: 1 where they are known, else 0.
    pub mask: Tensor,
    /// To the basis, per picture.
    pub basis: Map<'a>,
    /// From it.
    pub back: Map<'a>,
}

impl Known<'_> {
    pub fn sample(
        &self,
        sde: &dyn Sde,
        score: &dyn Score,
        x: Tensor,
        options: &PredictorCorrector,
        noise: Noise,
        on_step: OnStep,
    ) -> Result<Tensor> {
        same_shape("inpaint", "mask", &self.mask, &self.data)?;
        let other = pictures(&self.mask)?.into_iter().flatten();
        let other = { other }.find(|v| *v != 0.0 && *v != 1.0);
        let need = "0 or 1 everywhere";
        ensure(
            other.is_none(),
            "inpaint",
            "mask",
            other.unwrap_or(0.0),
            need,
        )?;
        same_shape("inpaint", "x", &(self.basis)(&x)?, &self.data)?;
        let x = self.replace(&x, &self.data)?;
        let mut settle = |(x, mean): (Tensor, Tensor), t: &[f64], draw: Draw| {
            let z = draw(&x)?;
            let signal = scale(&self.data, t, |t| sde.marginal(t).signal)?;
            let noisy = (&signal + scale(&z, t, |t| sde.marginal(t).std)?)?;
            Ok((self.replace(&x, &noisy)?, self.replace(&mean, &signal)?))
        };
        options.run(sde, score, x, &mut settle, noise, on_step)
    }

    /// x with the known values replaced by those of `values`, which are in the basis.
    fn replace(&self, x: &Tensor, values: &Tensor) -> Result<Tensor> {
        // Chosen, not multiplied: whatever `values` are where they are not known, NaN even, stays out.
        (self.back)(&self.mask.ne(0.0)?.where_cond(values, &(self.basis)(x)?)?)
    }
}
