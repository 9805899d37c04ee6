//! What a network is told of time or noise.

use super::layers::{Start, linear};
use super::nonlinearity::Nonlinearity;
use candle_core::{DType, Module, Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::Linear;

/// The values of t (N) on the host, in f32 as every program has them.
pub(crate) fn host_values(t: &Tensor) -> Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.to_vec1()
}

/// Sines and cosines of t (N) at the given frequencies, to (N, `dim`), padded with zeros.
///
/// Every step is rounded to f32 where PyTorch rounds it: t is up to 1000, and multiplies the difference.
pub(crate) fn sinusoids(
    t: &Tensor,
    frequencies: &[f32],
    dim: usize,
    cos_first: bool,
) -> Result<Tensor> {
    let values = host_values(t)?;
    let mut data = Vec::with_capacity(values.len() * dim);
    for v in &values {
        let sine = |f: &f32| libm::sin((v * f) as f64) as f32;
        let cosine = |f: &f32| libm::cos((v * f) as f64) as f32;
        if cos_first {
            data.extend(frequencies.iter().map(cosine));
            data.extend(frequencies.iter().map(sine));
        } else {
            data.extend(frequencies.iter().map(sine));
            data.extend(frequencies.iter().map(cosine));
        }
        data.resize(data.len().next_multiple_of(dim.max(1)), 0.0);
    }
    Tensor::from_vec(data, (values.len(), dim), t.device())
}

/// Sines and cosines of 2 pi w log(t), w (D) fixed random numbers: t (N) to (N, 2 D) (Tancik et al. 2020, arXiv
/// 2006.10739, as used in arXiv 2011.13456). `w` gets no gradient.
pub(crate) fn fourier(t: &Tensor, w: &Tensor, cos_first: bool) -> Result<Tensor> {
    let logs: Vec<f32> = (host_values(t)?.iter())
        .map(|t| libm::log(f64::from(*t)) as f32)
        .collect();
    // As in `sinusoids`, rounded after each factor.
    let w: Vec<f32> = host_values(w)?;
    let mut data = Vec::with_capacity(2 * logs.len() * w.len());
    for log in &logs {
        let angle = |w: &f32| f64::from(log * w * 2.0 * std::f32::consts::PI);
        let (sine, cosine) = (
            |w| libm::sin(angle(w)) as f32,
            |w| libm::cos(angle(w)) as f32,
        );
        if cos_first {
            data.extend(w.iter().map(cosine));
            data.extend(w.iter().map(sine));
        } else {
            data.extend(w.iter().map(sine));
            data.extend(w.iter().map(cosine));
        }
    }
    Tensor::from_vec(data, (logs.len(), 2 * w.len()), t.device())
}

/// Two fully connected layers with an activation between.
#[derive(Debug, Clone)]
pub(crate) struct Mlp {
    first: Linear,
    second: Linear,
    act: Nonlinearity,
}

impl Mlp {
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        act: Nonlinearity,
        start: Start,
        [first, second]: [VarBuilder; 2],
    ) -> Result<Self> {
        Ok(Self {
            first: linear(inputs, outputs, start, first)?,
            second: linear(outputs, outputs, start, second)?,
            act,
        })
    }

    /// Multiply-adds for one picture.
    pub(crate) fn multiply_adds(&self) -> u64 {
        self.first.multiply_adds() + self.second.multiply_adds()
    }

    /// (N, I) to (N, O).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second
            .forward(&self.act.apply(&self.first.forward(x)?)?)
    }
}
