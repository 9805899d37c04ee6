//! The process itself: q forwards, p backwards.

use super::{Coefficients, EndVariance, LossType, MeanType, VarType};
use crate::error::{Error, Result, same_shape};
use crate::sampler::{check_threshold, thresholded};
use candle_core::{Device, Tensor};

/// A network: x (N, C, ...) and N scaled steps to (N, C, ...), or (N, 2 C, ...) with learned variances. Labels and other
/// conditions are the closure's own business.
pub type Model<'a> = &'a dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

/// p(x_{t-1} | x_t), each tensor of the picture's shape.
#[derive(Debug, Clone)]
pub struct MeanVariance {
    /// Its mean.
    pub mean: Tensor,
    /// Its variance.
    pub variance: Tensor,
    /// The variance's logarithm, finite also where the variance is 0.
    pub log_variance: Tensor,
    /// The x_0 the mean is made from.
    pub pred_xstart: Tensor,
}

/// What diffusers takes for the variance of a step that has none, so that it has a logarithm.
const LEAST_VARIANCE: f64 = 1e-20;

/// A diffusion process, possibly on a part of the steps it was defined with.
#[derive(Debug, Clone)]
pub struct GaussianDiffusion {
    coefficients: Coefficients,
    mean_type: MeanType,
    var_type: VarType,
    loss_type: LossType,
    rescale: bool,
    original_steps: usize,
    timestep_map: Vec<usize>,
    limit: Limit,
    end_variance: EndVariance,
}

/// What clipping does to a predicted x_0.
#[derive(Debug, Clone)]
enum Limit {
    /// Keeps each channel, or all, within bounds.
    Within(Vec<(f64, f64)>),
    /// Dynamic thresholding by this quantile, up to this bound.
    Threshold(f64, f64),
}

impl GaussianDiffusion {
    /// All steps of the given betas, shown to the network as 0, 1, ..., T - 1. The last beta may be 1 (zero terminal SNR,
    /// [`rescale_zero_terminal_snr`](super::rescale_zero_terminal_snr)) unless the noise is predicted, which says nothing
    /// of x_0 there.
    ///
    /// # Errors
    /// No betas, or another one outside (0, 1).
    pub fn new(
        betas: Vec<f64>,
        mean_type: MeanType,
        var_type: VarType,
        loss_type: LossType,
    ) -> Result<Self> {
        let coefficients = Coefficients::new(betas)?;
        let steps = coefficients.steps();
        if mean_type == MeanType::Epsilon && coefficients.betas.last() == Some(&1.0) {
            return Err(Error::Argument {
                op: "GaussianDiffusion::new",
                name: "mean type",
                value: "Epsilon with a last beta of 1".into(),
                need: "XStart, V or PreviousX where the last step has no signal",
            });
        }
        Ok(Self {
            coefficients,
            mean_type,
            var_type,
            loss_type,
            rescale: false,
            original_steps: steps,
            timestep_map: (0..steps).collect(),
            limit: Limit::Within(vec![(-1.0, 1.0)]),
            end_variance: EndVariance::default(),
        })
    }

    /// Whether the network is shown steps scaled to 0..1000, or as they are.
    #[must_use]
    pub fn rescale_timesteps(mut self, on: bool) -> Self {
        self.rescale = on;
        self
    }

    /// What clipping keeps a predicted x_0 within, in place of [-1, 1]: one pair for each channel, or one for all. A bound
    /// may be infinite.
    ///
    /// # Errors
    /// No pair, or one that is not in order.
    pub fn clip_within(mut self, bounds: Vec<(f64, f64)>) -> Result<Self> {
        let ordered = |(low, high): &&(f64, f64)| low <= high;
        let wrong = bounds.iter().find(|pair| !ordered(pair));
        if bounds.is_empty() || wrong.is_some() {
            return Err(Error::Argument {
                op: "GaussianDiffusion::clip_within",
                name: "bounds",
                value: wrong.map_or("empty".into(), |pair| format!("{pair:?}")),
                need: "(low, high) with low <= high, for each channel or once for all",
            });
        }
        self.limit = Limit::Within(bounds);
        Ok(self)
    }

    /// Makes clipping dynamic thresholding of each picture, with the options of
    /// [`Thresholded::new`](crate::sampler::Thresholded::new).
    ///
    /// # Errors
    /// A ratio outside [0, 1], a `max` below 1.
    pub fn clip_by_threshold(mut self, ratio: f64, max: f64) -> Result<Self> {
        check_threshold("GaussianDiffusion::clip_by_threshold", ratio, max)?;
        self.limit = Limit::Threshold(ratio, max);
        Ok(self)
    }

    /// What the variance of the step to x_0 is, and whether [`ddpm`](crate::sampler::ddpm) adds noise there.
    #[must_use]
    pub fn end_variance(mut self, of: EndVariance) -> Self {
        self.end_variance = of;
        self
    }

    /// Whether a step of DDPM adds noise.
    pub(crate) fn is_noisy(&self, i: usize) -> bool {
        i > 0 || (self.end_variance == EndVariance::Own && self.timestep_map[0] > 0)
    }

    /// The process that visits only `steps` (ascending, see [`super::space_timesteps`]): same alpha_bar there, and the
    /// network is shown their original numbers.
    ///
    /// # Errors
    /// No steps, or steps that do not ascend or are none of this process.
    pub fn respaced(&self, steps: &[usize]) -> Result<Self> {
        let last = steps.last().copied();
        if last.is_none_or(|last| last >= self.steps()) || steps.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Error::Argument {
                op: "GaussianDiffusion::respaced",
                name: "steps",
                value: format!("{steps:?} of a process of {}", self.steps()),
                need: "ascending and below the number of steps, at least one",
            });
        }
        let mut bar = 1.0;
        let mut betas = Vec::with_capacity(steps.len());
        for &i in steps {
            betas.push(1.0 - self.coefficients.alphas_cumprod[i] / bar);
            bar = self.coefficients.alphas_cumprod[i];
        }
        Ok(Self {
            coefficients: Coefficients::new(betas)?,
            timestep_map: steps.iter().map(|&i| self.timestep_map[i]).collect(),
            ..self.clone()
        })
    }

    /// Number of steps T.
    pub fn steps(&self) -> usize {
        self.coefficients.steps()
    }

    /// The tables behind the process.
    pub fn coefficients(&self) -> &Coefficients {
        &self.coefficients
    }

    /// The original number of each step.
    pub fn timestep_map(&self) -> &[usize] {
        &self.timestep_map
    }

    /// What the network predicts.
    pub fn mean_type(&self) -> MeanType {
        self.mean_type
    }

    /// Where variances come from.
    pub fn var_type(&self) -> VarType {
        self.var_type
    }

    /// What training minimises.
    pub fn loss_type(&self) -> LossType {
        self.loss_type
    }

    /// What the network is shown for a step that lies between those of the process, in units of its index.
    pub(crate) fn model_time(&self, index: f64) -> f64 {
        let map = |i: f64| self.timestep_map[(i as usize).min(self.steps() - 1)] as f64;
        let (low, part) = (index.floor(), index.fract());
        let t = if part == 0.0 {
            map(low)
        } else {
            map(low) + part * (map(low + 1.0) - map(low))
        };
        if self.rescale {
            t * (1000.0 / self.original_steps as f64)
        } else {
            t
        }
    }

    /// The network's output for x (N, C, ...) at steps `t`.
    ///
    /// # Errors
    /// A step of no process, an output of the wrong shape, errors of the network.
    pub fn model_output(&self, model: Model, x: &Tensor, t: &[usize]) -> Result<Tensor> {
        self.check("model_output", x, t)?;
        let shown: Vec<f32> = t
            .iter()
            .map(|&i| self.model_time(i as f64) as f32)
            .collect();
        let output = model(x, &Tensor::new(shown, x.device())?)?;
        self.check_output("model_output", &output, x)?;
        Ok(output)
    }

    /// A sample of q(x_t | x_0) made with `noise`, both of x_0's shape (N, C, ...).
    ///
    /// # Errors
    /// Shapes or steps that do not fit.
    pub fn q_sample(&self, x_start: &Tensor, t: &[usize], noise: &Tensor) -> Result<Tensor> {
        self.check("q_sample", x_start, t)?;
        same_shape("q_sample", "noise", noise, x_start)?;
        let bar = &self.coefficients.alphas_cumprod;
        let signal = self.scale(x_start, t, |i| bar[i].sqrt())?;
        Ok((signal + self.scale(noise, t, |i| (1.0 - bar[i]).sqrt())?)?)
    }

    /// Mean, variance and log variance of q(x_t | x_0): the mean of x_0's shape, the others (N, 1, ...).
    ///
    /// # Errors
    /// Steps that do not fit.
    pub fn q_mean_variance(
        &self,
        x_start: &Tensor,
        t: &[usize],
    ) -> Result<(Tensor, Tensor, Tensor)> {
        self.check("q_mean_variance", x_start, t)?;
        let bar = &self.coefficients.alphas_cumprod;
        Ok((
            self.scale(x_start, t, |i| bar[i].sqrt())?,
            per_picture(x_start, t, |i| 1.0 - bar[i])?,
            per_picture(x_start, t, |i| (1.0 - bar[i]).ln())?,
        ))
    }

    /// Mean, variance and clipped log variance of q(x_{t-1} | x_t, x_0): the mean of x's shape, the others (N, 1, ...).
    ///
    /// # Errors
    /// Shapes or steps that do not fit.
    pub fn q_posterior(
        &self,
        x_start: &Tensor,
        x_t: &Tensor,
        t: &[usize],
    ) -> Result<(Tensor, Tensor, Tensor)> {
        self.check("q_posterior", x_t, t)?;
        same_shape("q_posterior", "x_start", x_start, x_t)?;
        let c = &self.coefficients;
        let clean = self.scale(x_start, t, |i| c.posterior_mean_coef1[i])?;
        Ok((
            (clean + self.scale(x_t, t, |i| c.posterior_mean_coef2[i])?)?,
            per_picture(x_t, t, |i| c.posterior_variance[i])?,
            per_picture(x_t, t, |i| c.posterior_log_variance_clipped[i])?,
        ))
    }

    /// p(x_{t-1} | x_t) by the network; `clip` keeps the predicted x_0 within [-1, 1], or what
    /// [`GaussianDiffusion::clip_within`] or [`GaussianDiffusion::clip_by_threshold`] was told.
    ///
    /// # Errors
    /// Shapes or steps that do not fit, errors of the network.
    pub fn p_mean_variance(
        &self,
        model: Model,
        x: &Tensor,
        t: &[usize],
        clip: bool,
    ) -> Result<MeanVariance> {
        let output = self.model_output(model, x, t)?;
        self.p_from_output(&output, x, t, clip)
    }

    /// The same from an output the network has already given.
    ///
    /// # Errors
    /// Shapes or steps that do not fit.
    pub fn p_from_output(
        &self,
        output: &Tensor,
        x: &Tensor,
        t: &[usize],
        clip: bool,
    ) -> Result<MeanVariance> {
        self.check("p_from_output", x, t)?;
        self.check_output("p_from_output", output, x)?;
        let (output, values) = self.split(output, x)?;
        let (variance, log_variance) = self.variances(values.as_ref(), x, t)?;
        let pred_xstart = self.xstart_from(&output, x, t)?;
        let pred_xstart = if clip {
            self.clipped(&pred_xstart)?
        } else {
            pred_xstart
        };
        let mean = match self.mean_type {
            MeanType::PreviousX => output,
            _ => self.q_posterior(&pred_xstart, x, t)?.0,
        };
        Ok(MeanVariance {
            mean,
            variance,
            log_variance,
            pred_xstart,
        })
    }

    fn clipped(&self, x: &Tensor) -> Result<Tensor> {
        let bounds = match &self.limit {
            Limit::Threshold(ratio, max) => return thresholded(x, *ratio, *max),
            Limit::Within(bounds) => bounds,
        };
        if let [(low, high)] = bounds[..] {
            return Ok(x.clamp(low, high)?);
        }
        if x.dim(1)? != bounds.len() {
            return Err(Error::Shape {
                op: "clip_within",
                name: "x",
                got: x.dims().to_vec(),
                expected: format!("(N, {}, ...), a channel for each bound", bounds.len()),
            });
        }
        let mut shape = vec![1; x.rank()];
        shape[1] = bounds.len();
        // In x's dtype before it moves: Metal has no f64.
        let channel = |value: fn(&(f64, f64)) -> f64| {
            let values: Vec<f64> = bounds.iter().map(value).collect();
            Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?
                .to_dtype(x.dtype())?
                .to_device(x.device())
        };
        let above = x.broadcast_maximum(&channel(|b| b.0)?)?;
        Ok(above.broadcast_minimum(&channel(|b| b.1)?)?)
    }

    /// The network's output as the prediction of the mean and, where they are learned, the values of the variance.
    pub(super) fn split(&self, output: &Tensor, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        if !self.var_type.is_learned() {
            return Ok((output.clone(), None));
        }
        let c = x.dim(1)?;
        Ok((output.narrow(1, 0, c)?, Some(output.narrow(1, c, c)?)))
    }

    fn variances(
        &self,
        values: Option<&Tensor>,
        x: &Tensor,
        t: &[usize],
    ) -> Result<(Tensor, Tensor)> {
        let c = &self.coefficients;
        let own = self.end_variance == EndVariance::Own;
        let min_log = |i: usize| match (i, own) {
            (0, true) => LEAST_VARIANCE.ln(),
            _ => c.posterior_log_variance_clipped[i],
        };
        let max_log = |i: usize| c.betas[i].ln();
        let full = |f: &dyn Fn(usize) -> f64| -> Result<Tensor> {
            Ok(per_picture(x, t, f)?
                .broadcast_as(x.shape())?
                .contiguous()?)
        };
        Ok(match (self.var_type, values) {
            (VarType::Learned, Some(log)) => (log.exp()?, log.clone()),
            (VarType::LearnedRange, Some(values)) => {
                let part = ((values + 1.0)? / 2.0)?;
                let high = part.broadcast_mul(&per_picture(x, t, max_log)?)?;
                let low = (1.0 - part)?.broadcast_mul(&per_picture(x, t, min_log)?)?;
                let log = (high + low)?;
                (log.exp()?, log)
            }
            (VarType::FixedLarge, _) => {
                // The first step's beta is far too small for the decoder: that of the posterior's second takes its place.
                let first = min_log(0).exp();
                let variance = |i: usize| match (i, own) {
                    (0, false) => first,
                    _ => c.betas[i],
                };
                (full(&variance)?, full(&|i| variance(i).ln())?)
            }
            _ => {
                let least = if own { LEAST_VARIANCE } else { 0.0 };
                let variance = |i: usize| c.posterior_variance[i].max(least);
                (full(&variance)?, full(&min_log)?)
            }
        })
    }

    /// x_0 from what the network predicts, as it is.
    fn xstart_from(&self, output: &Tensor, x: &Tensor, t: &[usize]) -> Result<Tensor> {
        let c = &self.coefficients;
        let bar = &c.alphas_cumprod;
        Ok(match self.mean_type {
            MeanType::XStart => output.clone(),
            MeanType::Epsilon => {
                let noise = self.scale(output, t, |i| (1.0 / bar[i] - 1.0).sqrt())?;
                (self.scale(x, t, |i| (1.0 / bar[i]).sqrt())? - noise)?
            }
            MeanType::V => {
                let v = self.scale(output, t, |i| (1.0 - bar[i]).sqrt())?;
                (self.scale(x, t, |i| bar[i].sqrt())? - v)?
            }
            MeanType::PreviousX => {
                let (c1, c2) = (&c.posterior_mean_coef1, &c.posterior_mean_coef2);
                (self.scale(output, t, |i| 1.0 / c1[i])? - self.scale(x, t, |i| c2[i] / c1[i])?)?
            }
        })
    }

    /// The noise in x_t if x_0 is `pred_xstart`.
    ///
    /// # Errors
    /// Shapes or steps that do not fit.
    pub fn eps_from_xstart(&self, x: &Tensor, t: &[usize], pred_xstart: &Tensor) -> Result<Tensor> {
        self.check("eps_from_xstart", x, t)?;
        same_shape("eps_from_xstart", "pred_xstart", pred_xstart, x)?;
        let bar = &self.coefficients.alphas_cumprod;
        if bar.last() == Some(&0.0) {
            // Not divided by alpha_bar where the last one is 0.
            let rest = (x - self.scale(pred_xstart, t, |i| bar[i].sqrt())?)?;
            return self.scale(&rest, t, |i| 1.0 / (1.0 - bar[i]).sqrt());
        }
        // In improved-diffusion's order: samplers amplify the rounding.
        let rest = (self.scale(x, t, |i| (1.0 / bar[i]).sqrt())? - pred_xstart)?;
        Ok(rest.broadcast_div(&per_picture(x, t, |i| (1.0 / bar[i] - 1.0).sqrt())?)?)
    }

    /// The noise in x_t by the network's output, which no clipping has touched.
    ///
    /// # Errors
    /// Shapes or steps that do not fit.
    pub fn eps_from_output(&self, output: &Tensor, x: &Tensor, t: &[usize]) -> Result<Tensor> {
        self.check("eps_from_output", x, t)?;
        self.check_output("eps_from_output", output, x)?;
        let output = self.split(output, x)?.0;
        let bar = &self.coefficients.alphas_cumprod;
        match self.mean_type {
            MeanType::Epsilon => Ok(output),
            MeanType::V => {
                let v = self.scale(&output, t, |i| bar[i].sqrt())?;
                Ok((v + self.scale(x, t, |i| (1.0 - bar[i]).sqrt())?)?)
            }
            MeanType::XStart | MeanType::PreviousX => {
                self.eps_from_xstart(x, t, &self.xstart_from(&output, x, t)?)
            }
        }
    }

    /// x times one factor per picture.
    pub(crate) fn scale(
        &self,
        x: &Tensor,
        t: &[usize],
        f: impl Fn(usize) -> f64,
    ) -> Result<Tensor> {
        Ok(x.broadcast_mul(&per_picture(x, t, f)?)?)
    }

    /// Errs unless x is (N, C, ...) and `t` names N steps of the process.
    pub(crate) fn check(&self, op: &'static str, x: &Tensor, t: &[usize]) -> Result<()> {
        if x.rank() < 2 || x.dims()[0] != t.len() || x.elem_count() == 0 {
            let expected = format!("({}, C, ...), one picture per step of t", t.len());
            return Err(Error::Shape {
                op,
                name: "x",
                got: x.dims().to_vec(),
                expected,
            });
        }
        match t.iter().find(|t| **t >= self.steps()) {
            None => Ok(()),
            Some(t) => Err(Error::Argument {
                op,
                name: "t",
                value: format!("{t} in a process of {} steps", self.steps()),
                need: "below the number of steps",
            }),
        }
    }

    fn check_output(&self, op: &'static str, output: &Tensor, x: &Tensor) -> Result<()> {
        let mut expected = x.dims().to_vec();
        if self.var_type.is_learned() {
            expected[1] *= 2;
        }
        if output.dims() == expected {
            return Ok(());
        }
        Err(Error::Shape {
            op,
            name: "the network's output",
            got: output.dims().to_vec(),
            expected: format!("{expected:?} with {:?} variances", self.var_type),
        })
    }
}

/// One number per picture, (N, 1, ...) of x's rank, dtype and device.
pub(crate) fn per_picture(x: &Tensor, t: &[usize], f: impl Fn(usize) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = t.iter().map(|&i| f(i)).collect();
    crate::pictures::per_picture(x, &values)
}
