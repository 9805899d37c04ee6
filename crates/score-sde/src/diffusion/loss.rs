//! Training losses and the variational bound, in bits per dimension.

use super::{GaussianDiffusion, LossType, MeanType, Model};
use crate::error::{Result, same_shape};
use crate::pictures::means;
use crate::sampler::Noise;
use candle_core::Tensor;
use std::f64::consts::{FRAC_2_PI, LN_2};

/// One loss per picture, (N).
#[derive(Debug, Clone)]
pub struct Losses {
    /// What to minimise.
    pub loss: Tensor,
    /// Its squared error, unless the bound alone is minimised.
    pub mse: Option<Tensor>,
    /// Its share of the bound, if variances are learned beside the squared error.
    pub vb: Option<Tensor>,
}

/// One term of the bound.
#[derive(Debug, Clone)]
pub struct VbTerm {
    /// (N) in bits per dimension: KL of the reverse step to the posterior, or at step 0 the decoder's -log p(x_0 | x_1).
    pub bits: Tensor,
    /// The predicted x_0.
    pub pred_xstart: Tensor,
}

/// The whole bound; columns go from the noisiest step T - 1 to 0.
#[derive(Debug, Clone)]
pub struct Bound {
    /// (N): all terms and the prior, in bits per dimension.
    pub total: Tensor,
    /// (N): KL of q(x_T | x_0) to N(0, 1).
    pub prior: Tensor,
    /// (N, T): the terms.
    pub vb: Tensor,
    /// (N, T): squared error of the predicted x_0.
    pub xstart_mse: Tensor,
    /// (N, T): squared error of the predicted noise.
    pub mse: Tensor,
}

impl GaussianDiffusion {
    /// The loss at steps `t` of clean pictures (N, C, ...) with the given noise, differentiable in the network.
    ///
    /// Beside a squared error, learned variances get the bound with the mean held fixed, so that it cannot disturb the
    /// mean (Nichol and Dhariwal 2021, section 3.1).
    ///
    /// # Errors
    /// Shapes or steps that do not fit, errors of the network.
    pub fn training_losses(
        &self,
        model: Model,
        x_start: &Tensor,
        t: &[usize],
        noise: &Tensor,
    ) -> Result<Losses> {
        let x_t = self.q_sample(x_start, t, noise)?;
        let output = self.model_output(model, &x_t, t)?;
        let steps = self.steps() as f64;
        if let LossType::Kl | LossType::RescaledKl = self.loss_type() {
            let bits = self.vb_from_output(&output, x_start, &x_t, t, false)?.bits;
            let loss = if self.loss_type() == LossType::RescaledKl {
                (bits * steps)?
            } else {
                bits
            };
            return Ok(Losses {
                loss,
                mse: None,
                vb: None,
            });
        }
        let (prediction, values) = self.split(&output, x_start)?;
        let vb = match values {
            None => None,
            Some(values) => {
                let frozen = Tensor::cat(&[&prediction.detach(), &values], 1)?;
                let bits = self.vb_from_output(&frozen, x_start, &x_t, t, false)?.bits;
                let hybrid = self.loss_type() == LossType::RescaledMse;
                Some(if hybrid {
                    (bits * (steps / 1000.0))?
                } else {
                    bits
                })
            }
        };
        let target = match self.mean_type() {
            MeanType::Epsilon => noise.clone(),
            MeanType::XStart => x_start.clone(),
            MeanType::V => {
                let bar = &self.coefficients().alphas_cumprod;
                let noise = self.scale(noise, t, |i| bar[i].sqrt())?;
                (noise - self.scale(x_start, t, |i| (1.0 - bar[i]).sqrt())?)?
            }
            MeanType::PreviousX => self.q_posterior(x_start, &x_t, t)?.0,
        };
        let mse = means(&(target - prediction)?.sqr()?)?;
        let loss = match &vb {
            Some(vb) => (&mse + vb)?,
            None => mse.clone(),
        };
        Ok(Losses {
            loss,
            mse: Some(mse),
            vb,
        })
    }

    /// The term of the bound at steps `t`.
    ///
    /// # Errors
    /// Shapes or steps that do not fit, errors of the network.
    pub fn vb_terms_bpd(
        &self,
        model: Model,
        x_start: &Tensor,
        x_t: &Tensor,
        t: &[usize],
        clip: bool,
    ) -> Result<VbTerm> {
        let output = self.model_output(model, x_t, t)?;
        self.vb_from_output(&output, x_start, x_t, t, clip)
    }

    fn vb_from_output(
        &self,
        output: &Tensor,
        x_start: &Tensor,
        x_t: &Tensor,
        t: &[usize],
        clip: bool,
    ) -> Result<VbTerm> {
        let (true_mean, _, true_log) = self.q_posterior(x_start, x_t, t)?;
        let p = self.p_from_output(output, x_t, t, clip)?;
        let kl = normal_kl(&true_mean, &true_log, &p.mean, &p.log_variance)?;
        let half_log = (&p.log_variance * 0.5)?;
        let decoder = discretized_gaussian_log_likelihood(x_start, &p.mean, &half_log)?.neg()?;
        let first: Vec<u8> = t.iter().map(|t| u8::from(*t == 0)).collect();
        let first = Tensor::new(first, x_t.device())?;
        let nats = first.where_cond(&means(&decoder)?, &means(&kl)?)?;
        Ok(VbTerm {
            bits: (nats / LN_2)?,
            pred_xstart: p.pred_xstart,
        })
    }

    /// KL of q(x_T | x_0) to N(0, 1), (N) in bits per dimension: what no network can change.
    ///
    /// # Errors
    /// A shape that is not (N, C, ...).
    pub fn prior_bpd(&self, x_start: &Tensor) -> Result<Tensor> {
        let t = vec![self.steps() - 1; x_start.dims().first().copied().unwrap_or(0)];
        let (mean, _, log) = self.q_mean_variance(x_start, &t)?;
        let zero = log.zeros_like()?;
        Ok((means(&normal_kl(&mean, &log, &zero, &zero)?)? / LN_2)?)
    }

    /// The whole bound of clean pictures (N, C, ...): T evaluations, `noise(t, x)` giving that of step t.
    ///
    /// # Errors
    /// A shape that is not (N, C, ...), errors of the network and of `noise`.
    pub fn calc_bpd_loop(
        &self,
        model: Model,
        x_start: &Tensor,
        noise: Noise,
        clip: bool,
    ) -> Result<Bound> {
        let n = x_start.dims().first().copied().unwrap_or(0);
        let (mut vb, mut xstart_mse, mut mse) = (Vec::new(), Vec::new(), Vec::new());
        for i in (0..self.steps()).rev() {
            let t = vec![i; n];
            let eps = noise(i, x_start)?;
            let x_t = self.q_sample(x_start, &t, &eps)?;
            let term = self.vb_terms_bpd(model, x_start, &x_t, &t, clip)?;
            let guess = self.eps_from_xstart(&x_t, &t, &term.pred_xstart)?;
            xstart_mse.push(means(&(&term.pred_xstart - x_start)?.sqr()?)?.detach());
            mse.push(means(&(guess - eps)?.sqr()?)?.detach());
            vb.push(term.bits.detach());
        }
        let (vb, prior) = (Tensor::stack(&vb, 1)?, self.prior_bpd(x_start)?);
        Ok(Bound {
            total: (vb.sum(1)? + &prior)?,
            prior,
            vb,
            xstart_mse: Tensor::stack(&xstart_mse, 1)?,
            mse: Tensor::stack(&mse, 1)?,
        })
    }
}

/// KL of N(mean1, exp(log1)) to N(mean2, exp(log2)) per element, in nats; shapes broadcast.
///
/// # Errors
/// Shapes that do not broadcast.
pub fn normal_kl(mean1: &Tensor, log1: &Tensor, mean2: &Tensor, log2: &Tensor) -> Result<Tensor> {
    let log_ratio = log2.broadcast_sub(log1)?;
    let distance = mean1
        .broadcast_sub(mean2)?
        .sqr()?
        .broadcast_mul(&log2.neg()?.exp()?)?;
    let spread = ((&log_ratio - 1.0)? + log_ratio.neg()?.exp()?)?;
    Ok((spread.broadcast_add(&distance)? * 0.5)?)
}

/// Log-probability per element, in nats, that a normal variable falls into the 8-bit bin of x, whose values are
/// v / 127.5 - 1; the outer bins reach to infinity. Uses the tanh approximation of the normal distribution function.
///
/// # Errors
/// Shapes that differ.
pub fn discretized_gaussian_log_likelihood(
    x: &Tensor,
    means: &Tensor,
    log_scales: &Tensor,
) -> Result<Tensor> {
    const OP: &str = "discretized_gaussian_log_likelihood";
    same_shape(OP, "means", means, x)?;
    same_shape(OP, "log_scales", log_scales, x)?;
    let (centered, inverse) = ((x - means)?, log_scales.neg()?.exp()?);
    let plus = normal_cdf(&(&inverse * (&centered + 1.0 / 255.0)?)?)?;
    let minus = normal_cdf(&(&inverse * (&centered - 1.0 / 255.0)?)?)?;
    let log = |p: &Tensor| -> Result<Tensor> { Ok(p.maximum(1e-12)?.log()?) };
    let inner = log(&(&plus - &minus)?)?;
    let upper = x.gt(0.999)?.where_cond(&log(&(1.0 - &minus)?)?, &inner)?;
    Ok(x.lt(-0.999)?.where_cond(&log(&plus)?, &upper)?)
}

fn normal_cdf(x: &Tensor) -> Result<Tensor> {
    let inner = ((x * x.sqr()?)? * 0.044715)?;
    Ok((((x + inner)? * FRAC_2_PI.sqrt())?.tanh()? + 1.0)?.affine(0.5, 0.0)?)
}
