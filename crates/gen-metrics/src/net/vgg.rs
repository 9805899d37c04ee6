//! VGG16's convolutions.

use super::layers::{Conv, Pad, Shape};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

/// VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556) up to its last convolution, for LPIPS.
///
/// Tensor names are those of the Python package `lpips`, below `net`: `slice1.0.weight` to `slice5.28.bias`, the number being
/// the layer's place in torchvision's `features`.
#[derive(Debug, Clone)]
pub struct Vgg16 {
    slices: Vec<Vec<Conv>>,
}

/// Channels of each slice, the numbers of its convolutions.
pub(crate) const SLICES: [(usize, &[usize]); 5] = [
    (64, &[0, 2]),
    (128, &[5, 7]),
    (256, &[10, 12, 14]),
    (512, &[17, 19, 21]),
    (512, &[24, 26, 28]),
];

impl Vgg16 {
    /// Reads the network.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let mut ci = 3;
        let mut slices = Vec::new();
        for (s, (co, numbers)) in SLICES.into_iter().enumerate() {
            let mut slice = Vec::new();
            for number in numbers {
                let shape = Shape::new(ci, co, [3, 3]).pad(Pad::By(1, 1));
                let vb = vb.pp(format!("slice{}.{number}", s + 1));
                slice.push(Conv::biased(shape, Some(f32::INFINITY), vb)?);
                ci = co;
            }
            slices.push(slice);
        }
        Ok(Self { slices })
    }

    /// What each of the five slices gives for pictures (N, 3, H, W): relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, with 64, 128,
    /// 256, 512 and 512 channels, each half the size of the one before.
    ///
    /// # Errors
    /// Pictures smaller than 16 x 16.
    pub fn slices(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let (_, c, h, w) = x.dims4()?;
        if c != 3 || h < 16 || w < 16 {
            bail!(
                "VGG16: expected (N, 3, H, W) of at least 16 x 16, got {:?}",
                x.shape()
            )
        }
        let mut out: Vec<Tensor> = Vec::with_capacity(self.slices.len());
        for slice in &self.slices {
            let x = match out.last() {
                Some(before) => nn_ops::max_pool2x(before)?,
                None => x.clone(),
            };
            out.push(slice.iter().try_fold(x, |x, conv| conv.forward(&x))?);
        }
        Ok(out)
    }
}
