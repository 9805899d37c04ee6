//! Building blocks of both official networks.

use candle_core::{Module, ModuleT, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, add, gate, leaky_relu, sigmoid};

/// A 1 x 1 convolution without bias, initialised as torch does.
fn shortcut_conv(ci: usize, co: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let bound = 1.0 / (ci.max(1) as f64).sqrt();
    let weight = vb.get_with_hints(
        (co, ci, 1, 1),
        "weight",
        Init::Uniform {
            lo: -bound,
            up: bound,
        },
    )?;
    Ok(Conv2d::from_tensors(
        weight,
        None,
        Conv2dConfig {
            stride,
            ..Conv2dConfig::default()
        },
    ))
}

/// Convolution and batch normalisation.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Members `at` and `at + 1` of a sequence; the convolution keeps the size but for its stride.
    pub(super) fn new(
        ci: usize,
        co: usize,
        kernel: usize,
        stride: usize,
        at: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let cfg = Conv2dConfig {
            stride,
            ..Conv2dConfig::same(kernel)
        };
        Self::with_norm(
            Conv2d::new(ci, co, kernel, cfg, vb.pp(at))?,
            co,
            vb.pp(at + 1),
        )
    }

    fn with_norm(conv: Conv2d, co: usize, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            conv,
            norm: BatchNorm::new(co, BatchNormConfig::default(), vb)?,
        })
    }
}

impl ModuleT for ConvNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

/// The path around a block.
#[derive(Debug, Clone)]
enum Shortcut {
    Conv(Conv2d),
    ConvNorm(ConvNorm),
}

/// `act(conv norm act conv norm (x) + shortcut(x))`, convolutions 3 x 3, shortcut 1 x 1.
#[derive(Debug, Clone)]
pub(super) struct ResidualBlock {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Shortcut,
    slope: f64,
}

impl ResidualBlock {
    /// The generator's: width changes half way in the first convolution, a bare shortcut.
    pub(super) fn same_size(ci: usize, co: usize, slope: f64, vb: VarBuilder) -> Result<Self> {
        let (block, middle) = (vb.pp("block"), (ci + co) / 2);
        Ok(Self {
            first: ConvNorm::new(ci, middle, 3, 1, 0, block.clone())?,
            second: ConvNorm::new(middle, co, 3, 1, 3, block)?,
            shortcut: Shortcut::Conv(shortcut_conv(ci, co, 1, vb.pp("shortcut"))?),
            slope,
        })
    }

    /// The discriminator's: half the size and twice the width in the second convolution, a normalised shortcut.
    pub(super) fn halving(ci: usize, slope: f64, vb: VarBuilder) -> Result<Self> {
        let (block, around, co) = (vb.pp("block"), vb.pp("shortcut"), 2 * ci);
        Ok(Self {
            first: ConvNorm::new(ci, ci, 3, 1, 0, block.clone())?,
            second: ConvNorm::new(ci, co, 3, 2, 3, block)?,
            shortcut: Shortcut::ConvNorm(ConvNorm::with_norm(
                shortcut_conv(ci, co, 2, around.pp(0))?,
                co,
                around.pp(1),
            )?),
            slope,
        })
    }
}

impl ModuleT for ResidualBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let h = leaky_relu(&self.first.forward_t(x, train)?, self.slope)?;
        let h = self.second.forward_t(&h, train)?;
        let around = match &self.shortcut {
            Shortcut::Conv(s) => s.forward(x)?,
            Shortcut::ConvNorm(s) => s.forward_t(x, train)?,
        };
        leaky_relu(&add(&h, &around)?, self.slope)
    }
}

/// An attention gate (Oktay et al. 2018, arXiv 1804.03999): `x * sigmoid(psi(relu(w_g(g) + w_x(x))))`, one factor per pixel.
#[derive(Debug, Clone)]
pub(super) struct AttentionGate {
    w_g: ConvNorm,
    w_x: ConvNorm,
    psi: ConvNorm,
}

impl AttentionGate {
    /// For gate and skip of `width` channels each, half as many inside.
    pub(super) fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        let inner = width / 2;
        Ok(Self {
            w_g: ConvNorm::new(width, inner, 1, 1, 0, vb.pp("W_g"))?,
            w_x: ConvNorm::new(width, inner, 1, 1, 0, vb.pp("W_x"))?,
            psi: ConvNorm::new(inner, 1, 1, 1, 0, vb.pp("psi"))?,
        })
    }

    /// The skip x (N, C, H, W) weighted by what it and the gate g (N, C, H, W) have in common.
    pub(super) fn forward_t(&self, g: &Tensor, x: &Tensor, train: bool) -> Result<Tensor> {
        let sum = add(
            &self.w_g.forward_t(g, train)?,
            &self.w_x.forward_t(x, train)?,
        )?;
        let sum = leaky_relu(&sum, 0.0)?;
        gate(x, &sigmoid(&self.psi.forward_t(&sum, train)?)?)
    }
}
