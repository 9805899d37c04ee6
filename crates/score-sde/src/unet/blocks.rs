//! The blocks a diffusion U-Net is assembled from.

use candle_core::{D, Module, Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{
    Activation, Conv2d, Conv2dConfig, GroupNorm, Linear, add, avg_pool2x, conv2d, mask,
    self_attention, upsample_nearest2x,
};

/// Groups of every normalisation.
const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

/// Two convolutions with the noise level let in between, around an identity or 1 x 1 path.
#[derive(Debug, Clone)]
pub(super) struct ResBlock {
    norm_in: GroupNorm,
    conv_in: Conv2d,
    emb: Linear,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    skip: Option<Conv2d>,
    scale_shift: bool,
    dropout: f64,
}

impl ResBlock {
    /// From `ci` to `co` channels, for an embedding of `emb` features.
    pub(super) fn new(
        ci: usize,
        co: usize,
        emb: usize,
        scale_shift: bool,
        dropout: f64,
        vb: VarBuilder,
    ) -> Result<Self> {
        let same = Conv2dConfig::same(3);
        let skip = if ci == co {
            None
        } else {
            Some(Conv2d::new(
                ci,
                co,
                1,
                Conv2dConfig::same(1),
                vb.pp("skip_connection"),
            )?)
        };
        let emb_width = if scale_shift { 2 * co } else { co };
        Ok(Self {
            norm_in: GroupNorm::new(GROUPS, ci, EPS, vb.pp("in_layers.0"))?,
            conv_in: Conv2d::new(ci, co, 3, same, vb.pp("in_layers.2"))?,
            emb: Linear::new(emb, emb_width, vb.pp("emb_layers.1"))?,
            norm_out: GroupNorm::new(GROUPS, co, EPS, vb.pp("out_layers.0"))?,
            // Starts as the identity.
            conv_out: Conv2d::with_gain(co, co, 3, same, 0.0, vb.pp("out_layers.3"))?,
            skip,
            scale_shift,
            dropout,
        })
    }

    /// x (N, Ci, H, W) and the activated embedding (N, E) to (N, Co, H, W).
    pub(super) fn forward(
        &self,
        x: &Tensor,
        emb: &Tensor,
        masks: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        let h = self.norm_in.forward_act(x, Activation::Silu)?;
        let h = self.conv_in.forward(&h)?;
        let emb = self.emb.forward(emb)?;
        let h = if self.scale_shift {
            let parts = emb.chunk(2, D::Minus1)?;
            self.norm_out
                .forward_modulated(&h, &parts[0], &parts[1], Activation::Silu)?
        } else {
            let h = h.broadcast_add(&emb.unsqueeze(2)?.unsqueeze(3)?)?;
            self.norm_out.forward_act(&h, Activation::Silu)?
        };
        let h = match masks {
            Some(source) if self.dropout > 0.0 => mask(&h, &source.mask(h.dims(), self.dropout)?)?,
            _ => h,
        };
        let h = self.conv_out.forward(&h)?;
        match &self.skip {
            Some(skip) => add(&skip.forward(x)?, &h),
            None => add(x, &h),
        }
    }
}

/// Where training finds dropout masks: 0 or 1 / (1 - p) per element.
pub trait DropMask {
    /// A fresh mask of this shape.
    ///
    /// # Errors
    /// Only those of the device.
    fn mask(&self, shape: &[usize], p: f64) -> Result<Tensor>;
}

/// Self-attention over all pixels, added to its input.
#[derive(Debug, Clone)]
pub(super) struct AttentionBlock {
    norm: GroupNorm,
    qkv: Pointwise,
    proj: Pointwise,
    heads: usize,
}

impl AttentionBlock {
    pub(super) fn new(c: usize, heads: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::new(GROUPS, c, EPS, vb.pp("norm"))?,
            qkv: Pointwise::new(c, 3 * c, 1.0, vb.pp("qkv"))?,
            proj: Pointwise::new(c, c, 0.0, vb.pp("proj_out"))?,
            heads,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let qkv = self.qkv.forward(&self.norm.forward(x)?)?;
        let y = self_attention(&qkv.reshape((n, 3 * c, h * w))?, self.heads)?;
        add(x, &self.proj.forward(&y.reshape((n, c, h, w))?)?)
    }
}

/// A 1 x 1 convolution whose weight is stored as that of a 1-D convolution, (Co, Ci, 1).
#[derive(Debug, Clone)]
struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

impl Pointwise {
    fn new(ci: usize, co: usize, gain: f64, vb: VarBuilder) -> Result<Self> {
        let bound = gain / (ci.max(1) as f64).sqrt();
        let init = candle_nn::Init::Uniform {
            lo: -bound,
            up: bound,
        };
        Ok(Self {
            weight: vb.get_with_hints((co, ci, 1), "weight", init)?,
            bias: vb.get_with_hints(co, "bias", init)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(
            x,
            &self.weight.unsqueeze(3)?,
            Some(&self.bias),
            Conv2dConfig::same(1),
        )
    }
}

/// Halves a picture: a strided convolution, or means of 2 x 2 pixels.
#[derive(Debug, Clone)]
pub(super) enum Downsample {
    Conv(Conv2d),
    Mean,
}

impl Downsample {
    pub(super) fn new(c: usize, conv: bool, vb: VarBuilder) -> Result<Self> {
        let cfg = Conv2dConfig {
            stride: 2,
            padding: 1,
            groups: 1,
        };
        Ok(if conv {
            Self::Conv(Conv2d::new(c, c, 3, cfg, vb.pp("op"))?)
        } else {
            Self::Mean
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Mean => avg_pool2x(x),
        }
    }
}

/// Doubles a picture by repeating pixels, with or without a convolution after it.
#[derive(Debug, Clone)]
pub(super) struct Upsample {
    conv: Option<Conv2d>,
}

impl Upsample {
    pub(super) fn new(c: usize, conv: bool, vb: VarBuilder) -> Result<Self> {
        let conv = match conv {
            true => Some(Conv2d::new(c, c, 3, Conv2dConfig::same(3), vb.pp("conv"))?),
            false => None,
        };
        Ok(Self { conv })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = upsample_nearest2x(x)?;
        match &self.conv {
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
