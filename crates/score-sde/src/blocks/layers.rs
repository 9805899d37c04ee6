//! Convolutions and 1 x 1 maps by how they are stored and how they begin.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{Conv2d, Conv2dConfig, Linear, conv2d};

/// How weights begin where no checkpoint has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// PyTorch's default, times a gain.
    Torch,
    /// Uniform with variance gain / mean of fan-in and fan-out, biases 0: DDPM's. A gain of 0 is a small one, 1e-10.
    FanAvg,
}

impl Start {
    fn weight(self, fan_in: usize, fan_out: usize, gain: f64) -> Init {
        let bound = match self {
            Self::Torch if gain == 0.0 => return Init::Const(0.0),
            Self::Torch => gain / (fan_in.max(1) as f64).sqrt(),
            Self::FanAvg => {
                let mean = (fan_in as f64 + fan_out as f64) / 2.0;
                (3.0 * if gain == 0.0 { 1e-10 } else { gain } / mean.max(1.0)).sqrt()
            }
        };
        Init::Uniform {
            lo: -bound,
            up: bound,
        }
    }

    fn bias(self, fan_in: usize, gain: f64) -> Init {
        match self {
            Self::Torch => self.weight(fan_in, 0, gain),
            Self::FanAvg => Init::Const(0.0),
        }
    }
}

/// A convolution, K x K, with its bias.
pub(crate) fn conv(
    ci: usize,
    co: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    start: Start,
    gain: f64,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let fan = |channels: usize| channels.saturating_mul(kernel * kernel);
    let weight = start.weight(fan(ci), fan(co), gain);
    let weight = vb.get_with_hints((co, ci, kernel, kernel), "weight", weight)?;
    let bias = vb.get_with_hints(co, "bias", start.bias(fan(ci), gain))?;
    Ok(Conv2d::from_tensors(weight, Some(bias), cfg))
}

/// A fully connected layer.
pub(crate) fn linear(
    inputs: usize,
    outputs: usize,
    start: Start,
    vb: VarBuilder,
) -> Result<Linear> {
    let weight = start.weight(inputs, outputs, 1.0);
    Ok(Linear::from_tensors(
        vb.get_with_hints((outputs, inputs), "weight", weight)?,
        vb.get_with_hints(outputs, "bias", start.bias(inputs, 1.0))?,
    ))
}

/// How a checkpoint stores a map between the channels of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `weight` (Co, Ci, 1, 1).
    Conv2d,
    /// `weight` (Co, Ci, 1).
    Conv1d,
    /// `weight` (Co, Ci).
    Linear,
    /// `W` (Ci, Co) and `b`: the "network in network" of DDPM.
    Nin,
}

/// The same linear map of the channels at every pixel.
#[derive(Debug, Clone)]
pub(crate) struct Pointwise {
    weight: Tensor,
    bias: Tensor,
    layout: Layout,
}

impl Pointwise {
    pub(crate) fn new(
        ci: usize,
        co: usize,
        layout: Layout,
        start: Start,
        gain: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        let init = start.weight(ci, co, gain);
        let weight = match layout {
            Layout::Conv2d => vb.get_with_hints((co, ci, 1, 1), "weight", init)?,
            Layout::Conv1d => vb.get_with_hints((co, ci, 1), "weight", init)?,
            Layout::Linear => vb.get_with_hints((co, ci), "weight", init)?,
            Layout::Nin => vb.get_with_hints((ci, co), "W", init)?,
        };
        let name = if layout == Layout::Nin { "b" } else { "bias" };
        Ok(Self {
            weight,
            bias: vb.get_with_hints(co, name, start.bias(ci, gain))?,
            layout,
        })
    }

    /// The weights as a matrix (Co, Ci); a view, so that training finds the stored tensor behind it.
    pub(crate) fn matrix(&self) -> Result<Tensor> {
        match self.layout {
            Layout::Nin => self.weight.t(),
            _ => self.weight.flatten_from(1),
        }
    }

    /// (Co).
    pub(crate) fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// Multiply-adds at so many positions.
    pub(crate) fn multiply_adds(&self, [h, w]: [usize; 2]) -> u64 {
        (self.weight.elem_count() * h * w) as u64
    }

    /// (N, Ci, H, W) to (N, Co, H, W).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        pointwise(x, &self.matrix()?, &self.bias)
    }
}

/// x (N, Ci, H, W), weights (Co, Ci) and bias (Co) to (N, Co, H, W).
pub(crate) fn pointwise(x: &Tensor, matrix: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (co, ci) = matrix.dims2()?;
    let weight = matrix.contiguous()?.reshape((co, ci, 1, 1))?;
    conv2d(x, &weight, Some(bias), Conv2dConfig::same(1))
}
