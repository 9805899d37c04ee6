//! LPIPS: how different two pictures look.

use super::vgg::{SLICES, Vgg16};
use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

/// The learned perceptual distance of Zhang et al. 2018 (arXiv 1801.03924), version 0.1 on VGG16, as the Python package `lpips`
/// has it: features of five layers, each vector scaled to length one, squared differences weighted per channel, summed and
/// averaged over positions, and the layers added up.
///
/// Tensor names are the package's: `net.` and [`Vgg16`]'s, `lin0.model.1.weight` to `lin4.model.1.weight`.
#[derive(Debug, Clone)]
pub struct Lpips {
    net: Vgg16,
    /// Weights of channels, (1, C, 1, 1).
    lins: Vec<Tensor>,
}

/// Features of one batch, each vector of length one.
#[derive(Debug, Clone)]
pub struct LpipsFeatures(Vec<Tensor>);

const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

impl Lpips {
    /// Reads the network.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let lins = SLICES.iter().enumerate().map(|(i, (channels, _))| {
            vb.get((1, *channels, 1, 1), &format!("lin{i}.model.1.weight"))
        });
        Ok(Self {
            lins: lins.collect::<Result<_>>()?,
            net: Vgg16::new(vb.pp("net"))?,
        })
    }

    /// Features of pictures (N, 3, H, W) in `[-1, 1]`, at least 16 x 16.
    ///
    /// # Errors
    /// Another shape.
    pub fn features(&self, x: &Tensor) -> Result<LpipsFeatures> {
        let constant = |values: [f32; 3]| Tensor::new(&values, x.device())?.reshape((1, 3, 1, 1));
        let x = x
            .broadcast_sub(&constant(SHIFT)?)?
            .broadcast_div(&constant(SCALE)?)?;
        let unit = |f: Tensor| {
            let length = (f.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?;
            f.broadcast_div(&length)
        };
        let slices = self.net.slices(&x)?;
        Ok(LpipsFeatures(
            slices.into_iter().map(unit).collect::<Result<_>>()?,
        ))
    }

    /// Distances (N) between the pictures of two batches of one shape.
    ///
    /// # Errors
    /// Batches of different shapes.
    pub fn between(&self, a: &LpipsFeatures, b: &LpipsFeatures) -> Result<Tensor> {
        let mut total: Option<Tensor> = None;
        for ((a, b), lin) in a.0.iter().zip(&b.0).zip(&self.lins) {
            if a.dims() != b.dims() {
                bail!(
                    "LPIPS: pictures of different shapes, {:?} and {:?} in a layer",
                    a.dims(),
                    b.dims()
                )
            }
            let layer = (a - b)?
                .sqr()?
                .broadcast_mul(lin)?
                .sum(1)?
                .flatten_from(1)?
                .mean(1)?;
            total = Some(match total {
                Some(total) => (total + layer)?,
                None => layer,
            });
        }
        total.ok_or_else(|| candle_core::Error::Msg("LPIPS: no layers".into()))
    }

    /// Distances (N) between pictures (N, 3, H, W) in `[-1, 1]`.
    ///
    /// # Errors
    /// As [`Lpips::features`] and [`Lpips::between`].
    pub fn distance(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        self.between(&self.features(a)?, &self.features(b)?)
    }
}
