//! A convolution with what follows it: its normalisation folded in, its activation in place.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{Conv2d, Conv2dConfig};

/// Zeros around a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pad {
    /// Lines above and below, columns left and right.
    By(usize, usize),
    /// TensorFlow's "SAME": as many as give ceil(size / stride), the odd one below or to the right.
    Same,
}

/// Shape of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) ci: usize,
    pub(super) co: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    pub(super) pad: Pad,
    pub(super) groups: usize,
}

impl Shape {
    pub(super) fn new(ci: usize, co: usize, kernel: [usize; 2]) -> Self {
        Self {
            ci,
            co,
            kernel,
            stride: 1,
            pad: Pad::By(0, 0),
            groups: 1,
        }
    }
    pub(super) fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }
    pub(super) fn pad(self, pad: Pad) -> Self {
        Self { pad, ..self }
    }
    /// Zeros that are as many on all sides, for pictures of any size, are the convolution's own business.
    fn own_padding(self) -> Option<usize> {
        match (self.pad, self.kernel) {
            (Pad::By(h, w), _) => (h == w).then_some(h),
            (Pad::Same, [h, w]) => (self.stride == 1 && h == w && h % 2 == 1).then_some(h / 2),
        }
    }
    pub(super) fn depthwise(self) -> Self {
        Self {
            groups: self.ci,
            ..self
        }
    }
}

/// `activation(convolution(x))`.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    conv: Conv2d,
    shape: Shape,
    /// What values are cut to, from 0; none for a linear layer.
    relu: Option<f32>,
}

impl Conv {
    /// A convolution without bias and the batch normalisation after it (`weight`, `bias`, `running_mean`, `running_var`):
    /// `w' = w s / sqrt(var + eps)`, `b' = bias - mean s / sqrt(var + eps)`, computed in f64.
    pub(super) fn normalised(
        shape: Shape,
        eps: f64,
        relu: Option<f32>,
        conv: VarBuilder,
        norm: VarBuilder,
    ) -> Result<Self> {
        let Shape { co, .. } = shape;
        let weight = conv.get(Self::weight_shape(shape), "weight")?;
        let get = |name: &str| -> Result<Vec<f64>> {
            norm.get(co, name)?.to_dtype(DType::F64)?.to_vec1()
        };
        let (scale, bias, mean, var) = (
            get("weight")?,
            get("bias")?,
            get("running_mean")?,
            get("running_var")?,
        );
        if let Some(var) = var.iter().find(|v| **v + eps <= 0.0) {
            bail!("tensor {} holds {var}, which is no variance", norm.prefix())
        }
        let factor: Vec<f64> = scale
            .iter()
            .zip(&var)
            .map(|(s, v)| s / (v + eps).sqrt())
            .collect();
        let bias: Vec<f32> = bias
            .iter()
            .zip(&mean)
            .zip(&factor)
            .map(|((b, m), f)| (b - m * f) as f32)
            .collect();
        let device = weight.device().clone();
        let factor = Tensor::from_vec(factor, (co, 1, 1, 1), &device)?;
        let weight = weight
            .to_dtype(DType::F64)?
            .broadcast_mul(&factor)?
            .to_dtype(DType::F32)?;
        let bias = Tensor::from_vec(bias, co, &device)?;
        Ok(Self::from_tensors(shape, relu, weight, bias))
    }

    /// A convolution with a bias.
    pub(super) fn biased(shape: Shape, relu: Option<f32>, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get(Self::weight_shape(shape), "weight")?;
        let bias = vb.get(shape.co, "bias")?;
        Ok(Self::from_tensors(shape, relu, weight, bias))
    }

    fn weight_shape(shape: Shape) -> (usize, usize, usize, usize) {
        let [kh, kw] = shape.kernel;
        (shape.co, shape.ci / shape.groups, kh, kw)
    }

    fn from_tensors(shape: Shape, relu: Option<f32>, weight: Tensor, bias: Tensor) -> Self {
        let padding = shape.own_padding();
        let config = Conv2dConfig {
            stride: shape.stride,
            padding: padding.unwrap_or(0),
            groups: shape.groups,
        };
        Self {
            conv: Conv2d::from_tensors(weight, Some(bias), config),
            shape,
            relu,
        }
    }
}

impl Module for Conv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let [kh, kw] = self.shape.kernel;
        let stride = self.shape.stride;
        let [(top, bottom), (left, right)] = match (self.shape.own_padding(), self.shape.pad) {
            (Some(_), _) => [(0, 0); 2],
            (None, Pad::By(h, w)) => [(h, h), (w, w)],
            (None, Pad::Same) => [(h, kh), (w, kw)].map(|(size, kernel)| {
                let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
                (total / 2, total - total / 2)
            }),
        };
        let x = x
            .pad_with_zeros(2, top, bottom)?
            .pad_with_zeros(3, left, right)?;
        let y = self.conv.forward(&x)?;
        match self.relu {
            Some(most) => relu(y, most),
            None => Ok(y),
        }
    }
}

/// `min(max(y, 0), most)`, in place on the CPU: `y` belongs to nobody else.
fn relu(y: Tensor, most: f32) -> Result<Tensor> {
    if y.device().is_cpu() {
        y.inplace_op1(&Relu(most))?;
        Ok(y)
    } else if most.is_finite() {
        y.clamp(0f32, most)
    } else {
        y.relu()
    }
}

struct Relu(f32);

impl InplaceOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("relu: expected contiguous f32 values")
        };
        values[start..end]
            .iter_mut()
            .for_each(|v| *v = v.clamp(0.0, self.0));
        Ok(())
    }
}
