//! The layer, which keeps running statistics.

use super::{BatchStatistics, batch_norm_eval, batch_norm_train};
use crate::plan::trace::{self, Op, Watched};
use candle_core::{ModuleT, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Constants of a batch normalisation layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

impl Default for BatchNormConfig {
    /// torch's defaults: 1e-5 and 0.1.
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
        }
    }
}

/// A batch normalisation layer, as `torch.nn.BatchNorm2d`: `weight`, `bias`, `running_mean` and `running_var`, (C) each.
///
/// A pass in training normalises by the batch and moves the running statistics towards its mean and *unbiased* variance;
/// otherwise these normalise. Built on [`crate::Params`], they are variables there, saved and loaded with the others; no
/// gradient reaches them, so an optimiser leaves them alone. torch's counter `num_batches_tracked` serves only another
/// kind of average and is neither read nor written.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
    /// How often they have moved.
    tracked: Arc<AtomicU64>,
    config: BatchNormConfig,
}

impl BatchNorm {
    /// Reads or creates (weight and variance one, bias and mean zero) a layer for `channels`.
    ///
    /// # Errors
    /// A missing or misshapen parameter.
    pub fn new(channels: usize, config: BatchNormConfig, vb: VarBuilder) -> Result<Self> {
        let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: Var::from_tensor(&get("running_mean", 0.0)?)?,
            running_var: Var::from_tensor(&get("running_var", 1.0)?)?,
            tracked: Arc::default(),
            config,
        })
    }

    /// The running mean, (C).
    pub fn running_mean(&self) -> &Tensor {
        self.running_mean.as_tensor()
    }

    /// The running variance (unbiased), (C).
    pub fn running_var(&self) -> &Tensor {
        self.running_var.as_tensor()
    }

    /// What it does outside of training, if no one trains it.
    fn traced(&self) -> Option<Op> {
        if self.weight.track_op() || self.bias.track_op() {
            return None;
        }
        let watched = Watched::new(&self.tracked);
        let values = |t: &Tensor| t.to_vec1::<f32>().ok();
        let (mean, var) = (values(self.running_mean())?, values(self.running_var())?);
        let (mut scale, mut shift) = (values(&self.weight)?, values(&self.bias)?);
        for (((a, b), m), v) in scale.iter_mut().zip(&mut shift).zip(mean).zip(var) {
            let by = f64::from(*a) / (f64::from(v) + self.config.eps).sqrt();
            (*a, *b) = (by as f32, (f64::from(*b) - f64::from(m) * by) as f32);
        }
        Some(Op::Affine {
            scale,
            shift,
            watched,
        })
    }

    fn track(&self, batch: &BatchStatistics) -> Result<()> {
        let m = self.config.momentum;
        let unbiased = batch.count as f64 / (batch.count as f64 - 1.0);
        for (running, new) in [
            (&self.running_mean, batch.mean.clone()),
            (&self.running_var, (&batch.var * unbiased)?),
        ] {
            let new = new.to_dtype(running.dtype())?;
            running.set(&((running.as_tensor().detach() * (1.0 - m))? + (new * m)?)?)?;
        }
        self.tracked.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let eps = self.config.eps;
        if !train {
            let (mean, var) = (self.running_mean(), self.running_var());
            return trace::step(
                &[x],
                || self.traced(),
                || batch_norm_eval(x, mean, var, &self.weight, &self.bias, eps),
            );
        }
        let (y, batch) = batch_norm_train(x, &self.weight, &self.bias, eps)?;
        self.track(&batch)?;
        Ok(y)
    }
}
