//! The residual block of all diffusion U-Nets.

use super::layers::{Layout, Pointwise, Start, conv, linear};
use super::nonlinearity::Nonlinearity;
use super::resample::Filter;
use candle_core::{D, Module, Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::plan::opaque;
use nn_ops::{Conv2d, Conv2dConfig, GroupNorm, Linear, add, add_channels, add_scaled, mask};

/// Where training finds dropout masks: 0 or 1 / (1 - p) per element.
pub trait DropMask {
    /// A fresh mask of this shape.
    ///
    /// # Errors
    /// Only those of the device.
    fn mask(&self, shape: &[usize], p: f64) -> Result<Tensor>;
}

/// The names of a residual block's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResNames {
    pub norm_in: &'static str,
    pub conv_in: &'static str,
    pub emb: &'static str,
    pub norm_out: &'static str,
    pub conv_out: &'static str,
    pub skip: &'static str,
}

/// Whether a block changes the picture's size on its way.
#[derive(Debug, Clone)]
pub(crate) enum Resample {
    Up(Filter),
    Down(Filter),
}

impl Resample {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Up(filter) => filter.up(x),
            Self::Down(filter) => filter.down(x),
        }
    }
}

/// The path past the convolutions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skip {
    pub layout: Layout,
    pub gain: f64,
    /// A map even where the width stays.
    pub always: bool,
}

/// What distinguishes the residual blocks of the families.
#[derive(Debug, Clone)]
pub(crate) struct ResSpec<'a> {
    pub ci: usize,
    pub co: usize,
    /// Features of the embedding.
    pub emb: usize,
    /// Groups of both normalisations.
    pub groups: (usize, usize),
    pub eps: f64,
    pub act: Nonlinearity,
    /// The embedding scales and shifts the second normalisation, instead of being added before.
    pub scale_shift: bool,
    pub dropout: f64,
    pub resample: Option<Resample>,
    pub skip: Skip,
    /// What the sum of both paths is divided by.
    pub rescale: f64,
    pub start: Start,
    /// Gain of the last convolution; with 0 the block starts as its skip.
    pub gain: f64,
    pub names: &'a ResNames,
}

/// Two convolutions with the noise level let in between, around an identity or 1 x 1 path.
#[derive(Debug, Clone)]
pub(crate) struct ResBlock {
    norm_in: GroupNorm,
    resample: Option<Resample>,
    conv_in: Conv2d,
    emb: Linear,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    skip: Option<Pointwise>,
    act: Nonlinearity,
    scale_shift: bool,
    dropout: f64,
    rescale: f64,
}

impl ResBlock {
    pub(crate) fn new(s: ResSpec, vb: VarBuilder) -> Result<Self> {
        let (ci, co, n) = (s.ci, s.co, s.names);
        let same = Conv2dConfig::same(3);
        let emb_width = if s.scale_shift { 2 * co } else { co };
        Ok(Self {
            norm_in: GroupNorm::new(s.groups.0, ci, s.eps, vb.pp(n.norm_in))?,
            conv_in: conv(ci, co, 3, same, s.start, 1.0, vb.pp(n.conv_in))?,
            emb: linear(s.emb, emb_width, s.start, vb.pp(n.emb))?,
            norm_out: GroupNorm::new(s.groups.1, co, s.eps, vb.pp(n.norm_out))?,
            conv_out: conv(co, co, 3, same, s.start, s.gain, vb.pp(n.conv_out))?,
            skip: match ci != co || s.skip.always {
                true => {
                    let (layout, gain) = (s.skip.layout, s.skip.gain);
                    Some(Pointwise::new(
                        ci,
                        co,
                        layout,
                        s.start,
                        gain,
                        vb.pp(n.skip),
                    )?)
                }
                false => None,
            },
            resample: s.resample,
            act: s.act,
            scale_shift: s.scale_shift,
            dropout: s.dropout,
            rescale: s.rescale,
        })
    }

    /// Multiply-adds for one picture that leaves with this size.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let skip = self.skip.as_ref();
        self.conv_in.multiply_adds(size)
            + self.conv_out.multiply_adds(size)
            + self.emb.multiply_adds()
            + skip.map_or(0, |skip| skip.multiply_adds(size))
    }

    /// x (N, Ci, H, W) and the activated embedding (N, E), if the network has one, to (N, Co, H', W').
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        emb: Option<&Tensor>,
        masks: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        let h = self.act.after(&self.norm_in, x)?;
        let (x, h) = match &self.resample {
            Some(r) => (r.forward(x)?, r.forward(&h)?),
            None => (x.clone(), h),
        };
        let h = self.conv_in.forward(&h)?;
        let h = match emb {
            Some(emb) => {
                let emb = self.emb.forward(emb)?;
                if self.scale_shift {
                    let half = |i: usize| {
                        opaque(&[&emb], move |e| Ok(e[0].chunk(2, D::Minus1)?[i].clone()))
                    };
                    self.act
                        .after_modulated(&self.norm_out, &h, &half(0)?, &half(1)?)?
                } else {
                    self.act.after(&self.norm_out, &add_channels(&h, &emb)?)?
                }
            }
            None => self.act.after(&self.norm_out, &h)?,
        };
        let h = match masks {
            Some(source) if self.dropout > 0.0 => mask(&h, &source.mask(h.dims(), self.dropout)?)?,
            _ => h,
        };
        let h = self.conv_out.forward(&h)?;
        match &self.skip {
            Some(skip) => join(&skip.forward(&x)?, &h, self.rescale),
            None => join(&x, &h, self.rescale),
        }
    }
}

/// (a + b) / rescale.
pub(crate) fn join(a: &Tensor, b: &Tensor, rescale: f64) -> Result<Tensor> {
    if rescale == 1.0 {
        add(a, b)
    } else {
        add_scaled(a, b, 1.0 / rescale)
    }
}
