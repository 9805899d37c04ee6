//! Judges patches of (low, details) at one level; every convolution is spectrally normalised.

use super::level_planes;
use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use nn_ops::{Conv2dConfig, Params, avg_pool2x, conv2d, conv2d_multiply_adds, leaky_relu};
use serde::{Deserialize, Serialize};

/// The discriminator's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetailDiscriminatorConfig {
    /// Channels of the picture.
    pub channels: usize,
    /// Wavelet levels it serves.
    pub levels: usize,
    /// Width of the convolutions of each size; the picture is halved after each size but the last two.
    pub widths: Vec<usize>,
    /// Convolutions of each size. One sees the finest texture through a single layer; two judge it better.
    #[serde(default = "one")]
    pub convs: usize,
    /// What every activation is multiplied by. Normalised convolutions pass on less than they are given: without a factor, many
    /// of them in a row tell nothing apart.
    #[serde(default = "unit_gain")]
    pub gain: f64,
}

fn one() -> usize {
    1
}

fn unit_gain() -> f64 {
    1.0
}

impl Default for DetailDiscriminatorConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            levels: 2,
            widths: vec![32, 64, 128, 128],
            convs: 1,
            gain: 1.0,
        }
    }
}

/// What a pass through the discriminator is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Training it, the power iterations advancing: once per step.
    Refine,
    /// Training it.
    Train,
    /// Training the generator: gradients reach the input, the discriminator's own are not computed.
    Judge,
}

/// A convolution whose weight is divided by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).
#[derive(Debug, Clone)]
struct SpectralConv {
    weight: Tensor,
    bias: Tensor,
    /// Estimate of the left singular vector, refined by one power iteration per training pass. It is a variable only so
    /// that checkpoints keep it.
    u: candle_core::Var,
}

impl SpectralConv {
    fn new(ci: usize, co: usize, vb: VarBuilder, buffers: &Params, name: &str) -> Result<Self> {
        let bound = 1.0 / ((ci * 9) as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let vb = vb.pp(name);
        buffers
            .builder(vb.device())
            .set_dtype(vb.dtype())
            .get_with_hints(
                co,
                &format!("{name}.u"),
                Init::Randn {
                    mean: 0.0,
                    stdev: 1.0,
                },
            )?;
        let u = buffers
            .named()
            .into_iter()
            .find_map(|(n, v)| (n == format!("{name}.u")).then_some(v));
        let Some(u) = u else {
            bail!("discriminator: buffer {name}.u was not created")
        };
        Ok(Self {
            weight: vb.get_with_hints((co, ci, 3, 3), "weight", init)?,
            bias: vb.get_with_hints(co, "bias", Init::Const(0.0))?,
            u,
        })
    }

    /// The weight with largest singular value 1 (as far as the power iteration has come) and the bias.
    fn normalised(&self, pass: Pass) -> Result<(Tensor, Tensor)> {
        let co = self.weight.dim(0)?;
        let frozen = |t: &Tensor| {
            if pass == Pass::Judge {
                t.detach()
            } else {
                t.clone()
            }
        };
        let (weight, bias) = (frozen(&self.weight), frozen(&self.bias));
        let flat = weight.flatten_from(1)?;
        let fixed = flat.detach();
        // All of u and v is constant for the gradient, as in the paper.
        let mut u = self.u.as_tensor().reshape((1, co))?.detach();
        let v = unit(&u.matmul(&fixed)?)?;
        if pass == Pass::Refine {
            u = unit(&fixed.matmul(&v.t()?.contiguous()?)?.t()?.contiguous()?)?;
            self.u.set(&u.flatten_all()?)?;
        }
        let sigma = flat
            .matmul(&v.t()?.contiguous()?)?
            .mul(&u.t()?.contiguous()?)?
            .sum_all()?;
        Ok((weight.broadcast_div(&sigma)?, bias))
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        let (weight, bias) = self.normalised(pass)?;
        conv2d(x, &weight, Some(&bias), Conv2dConfig::same(3))
    }
}

fn unit(v: &Tensor) -> Result<Tensor> {
    let norm = v.sqr()?.sum_all()?.sqrt()?;
    v.broadcast_div(&(norm + 1e-12)?)
}

/// Convolutions with LeakyReLU and means in between, to one judgement per patch.
#[derive(Debug, Clone)]
pub struct DetailDiscriminator {
    config: DetailDiscriminatorConfig,
    convs: Vec<SpectralConv>,
}

impl DetailDiscriminator {
    /// Reads or creates the parameters; `buffers` receives the state of the power iterations.
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(
        config: DetailDiscriminatorConfig,
        vb: VarBuilder,
        buffers: &Params,
    ) -> Result<Self> {
        if config.widths.len() < 2
            || config.widths.contains(&0)
            || config.channels == 0
            || config.convs == 0
        {
            bail!(
                "detail discriminator: needs at least two widths, one channel and one convolution of each size: {config:?}"
            )
        }
        let mut ch = 4 * config.channels + config.levels;
        let mut convs = Vec::new();
        let repeated = |&width| std::iter::repeat_n(width, config.convs);
        let widths = config.widths.iter().flat_map(repeated);
        for (i, width) in widths.chain([1]).enumerate() {
            convs.push(SpectralConv::new(
                ch,
                width,
                vb.clone(),
                buffers,
                &format!("conv{i}"),
            )?);
            ch = width;
        }
        Ok(Self { config, convs })
    }

    /// Multiply-adds of judging one level of one picture, its bands of `size` (H, W), counted as in [`nn_ops::count`]; the
    /// power iterations, one product of a matrix and a vector per layer and step, are not.
    pub fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let mut size = size;
        let mut total = 0;
        for (i, conv) in self.convs.iter().enumerate() {
            total += conv2d_multiply_adds(conv.weight.dims(), Conv2dConfig::same(3), size);
            if self.halved_after(i) {
                size = size.map(|n| n / 2);
            }
        }
        total
    }

    /// Whether a convolution is the last of its size, and a smaller one follows.
    fn halved_after(&self, conv: usize) -> bool {
        let c = &self.config;
        (conv + 1).is_multiple_of(c.convs) && (conv + 1) / c.convs + 2 <= c.widths.len()
    }

    /// Judgements (N, 1, H', W') of low (N, C, H, W) with details (N, 3 C, H, W) at `level`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, low: &Tensor, high: &Tensor, level: usize, pass: Pass) -> Result<Tensor> {
        self.forward_mixed(low, high, &vec![level; low.dim(0)?], pass)
    }

    /// As [`DetailDiscriminator::forward`], every item of the batch at a level of its own.
    ///
    /// # Errors
    /// As [`DetailDiscriminator::forward`], or another number of levels than items.
    pub fn forward_mixed(
        &self,
        low: &Tensor,
        high: &Tensor,
        levels: &[usize],
        pass: Pass,
    ) -> Result<Tensor> {
        let planes = level_planes(low, levels, self.config.levels)?;
        let mut x = Tensor::cat(&[low, high, &planes], 1)?;
        let last = self.convs.len() - 1;
        for (i, conv) in self.convs.iter().enumerate() {
            x = conv.forward(&x, pass)?;
            if i < last {
                x = leaky_relu(&x, 0.2)?;
                if self.config.gain != 1.0 {
                    x = (x * self.config.gain)?;
                }
            }
            if self.halved_after(i) {
                x = avg_pool2x(&x)?;
            }
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// The largest singular value of a (rows, columns) matrix, by many power iterations from another start.
    fn largest_singular_value(m: &Tensor) -> f64 {
        let mut u = Tensor::ones((1, m.dim(0).unwrap()), DType::F32, &Device::Cpu).unwrap();
        for _ in 0..500 {
            let v = unit(&u.matmul(m).unwrap()).unwrap();
            u = unit(&v.matmul(&m.t().unwrap().contiguous().unwrap()).unwrap()).unwrap();
        }
        let v = u.matmul(m).unwrap();
        v.sqr()
            .unwrap()
            .sum_all()
            .unwrap()
            .sqrt()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap() as f64
    }

    #[test]
    fn multiply_adds_by_hand() {
        let config = DetailDiscriminatorConfig {
            channels: 3,
            levels: 2,
            widths: vec![8, 16, 24, 32],
            convs: 1,
            gain: 1.0,
        };
        let pairs = |config| {
            let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
            let discriminator = DetailDiscriminator::new(config, vb, &Params::new(0)).unwrap();
            discriminator.multiply_adds([8, 8]) / 9
        };
        let once = 14 * 8 * 64 + 8 * 16 * 16 + (16 * 24 + 24 * 32 + 32) * 4;
        assert_eq!(pairs(config.clone()), once);
        let again = 8 * 8 * 64 + 16 * 16 * 16 + (24 * 24 + 32 * 32) * 4;
        assert_eq!(
            pairs(DetailDiscriminatorConfig { convs: 2, ..config }),
            once + again
        );
    }

    #[test]
    fn the_normalised_weight_has_spectral_norm_one() {
        let (params, buffers) = (Params::new(4), Params::new(5));
        for (i, (ci, co)) in [(17, 32), (8, 1), (1, 6)].into_iter().enumerate() {
            let conv = SpectralConv::new(
                ci,
                co,
                params.builder(&Device::Cpu),
                &buffers,
                &format!("c{i}"),
            )
            .unwrap();
            for _ in 0..300 {
                conv.normalised(Pass::Refine).unwrap();
            }
            for pass in [Pass::Train, Pass::Judge] {
                let before = conv.u.to_vec1::<f32>().unwrap();
                let (weight, _) = conv.normalised(pass).unwrap();
                let norm = largest_singular_value(&weight.flatten_from(1).unwrap().detach());
                assert!((norm - 1.0).abs() < 1e-3, "{ci}->{co}: {norm}");
                assert_eq!(
                    before,
                    conv.u.to_vec1::<f32>().unwrap(),
                    "only a refining pass moves u"
                );
            }
        }
    }
}
