//! EfficientNet-Lite0.

use super::layers::{Conv, Pad, Shape};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

/// Numbers in a feature vector.
pub const DIM: usize = 1280;
/// Height and width of its pictures.
pub const SIZE: usize = 224;

/// EfficientNet-Lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze and excitation and with ReLU6) up to the mean over
/// positions before the classifier: pictures (N, 3, 224, 224), standardised by ImageNet's mean and deviation, to (N, 1280).
///
/// Tensor names are those of the Python package `efficientnet_lite_pytorch` (`_blocks.3._depthwise_conv.weight`, ...).
#[derive(Debug, Clone)]
pub struct EfficientNetLite0 {
    stem: Conv,
    blocks: Vec<Block>,
    head: Conv,
}

/// An inverted residual: widen, filter every channel by itself, narrow.
#[derive(Debug, Clone)]
struct Block {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    skip: bool,
}

/// Stages: blocks, kernel, stride of the first, expansion, channels out.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

const EPS: f64 = 1e-3;
const RELU6: Option<f32> = Some(6.0);

impl Block {
    fn new(
        ci: usize,
        co: usize,
        k: usize,
        stride: usize,
        expansion: usize,
        vb: VarBuilder,
    ) -> Result<Self> {
        let wide = ci * expansion;
        let conv = |name: &str, norm: &str, shape: Shape, relu| {
            Conv::normalised(shape, EPS, relu, vb.pp(name), vb.pp(norm))
        };
        let expand = match expansion {
            1 => None,
            _ => Some(conv(
                "_expand_conv",
                "_bn0",
                Shape::new(ci, wide, [1, 1]),
                RELU6,
            )?),
        };
        let filter = Shape::new(wide, wide, [k, k])
            .depthwise()
            .stride(stride)
            .pad(Pad::Same);
        Ok(Self {
            expand,
            depthwise: conv("_depthwise_conv", "_bn1", filter, RELU6)?,
            project: conv("_project_conv", "_bn2", Shape::new(wide, co, [1, 1]), None)?,
            skip: stride == 1 && ci == co,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(expand) => expand.forward(x)?,
            None => x.clone(),
        };
        let y = self.project.forward(&self.depthwise.forward(&wide)?)?;
        if self.skip { y + x } else { Ok(y) }
    }
}

impl EfficientNetLite0 {
    /// Reads the network. The classifier `_fc` is not needed.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let stem = Shape::new(3, 32, [3, 3]).stride(2).pad(Pad::Same);
        let (mut blocks, mut ci) = (Vec::new(), 32);
        for (count, kernel, stride, expansion, co) in STAGES {
            for i in 0..count {
                let vb = vb.pp(format!("_blocks.{}", blocks.len()));
                let stride = if i == 0 { stride } else { 1 };
                blocks.push(Block::new(ci, co, kernel, stride, expansion, vb)?);
                ci = co;
            }
        }
        Ok(Self {
            stem: Conv::normalised(stem, EPS, RELU6, vb.pp("_conv_stem"), vb.pp("_bn0"))?,
            blocks,
            head: Conv::normalised(
                Shape::new(ci, DIM, [1, 1]),
                EPS,
                RELU6,
                vb.pp("_conv_head"),
                vb.pp("_bn1"),
            )?,
        })
    }
}

impl Module for EfficientNetLite0 {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, c, h, w) = x.dims4()?;
        if c != 3 || h * w == 0 {
            bail!(
                "EfficientNet-Lite0: expected (N, 3, {SIZE}, {SIZE}), got {:?}",
                x.shape()
            )
        }
        let x = self.stem.forward(x)?;
        let x = self.blocks.iter().try_fold(x, |x, b| b.forward(&x))?;
        self.head.forward(&x)?.flatten_from(2)?.mean(2)
    }
}
