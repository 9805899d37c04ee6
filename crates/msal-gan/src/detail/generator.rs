//! From a level's low band and noise to its three detail bands, in one pass.

use super::level_planes;
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::plan::Plans;
use nn_ops::{
    Activation, Conv2d, Conv2dConfig, GroupNorm, Params, add, avg_pool2x, cat_channels,
    upsample_nearest2x,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const GROUPS: usize = 8;
const EPS: f64 = 1e-5;

/// The generator's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetailGeneratorConfig {
    /// Channels of the picture, 3 for RGB.
    pub channels: usize,
    /// Wavelet levels the network serves.
    pub levels: usize,
    /// Channels of noise beside the low band.
    pub noise_channels: usize,
    /// Width at full, half, quarter ... size; multiples of 8.
    pub widths: Vec<usize>,
    /// Residual blocks at each size on the way down (and again on the way up).
    pub blocks: usize,
    /// Whether all levels share one network, which is then told the level; otherwise each has its own.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub shared: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(shared: &bool) -> bool {
    *shared
}

impl Default for DetailGeneratorConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            levels: 2,
            noise_channels: 4,
            widths: vec![32, 64, 96],
            blocks: 1,
            shared: true,
        }
    }
}

/// Norm, SiLU, convolution, twice, around an identity or 1 x 1 path.
#[derive(Debug, Clone)]
struct ResBlock {
    norms: [GroupNorm; 2],
    convs: [Conv2d; 2],
    skip: Option<Conv2d>,
}

impl ResBlock {
    fn new(ci: usize, co: usize, vb: VarBuilder) -> Result<Self> {
        let same = Conv2dConfig::same(3);
        let skip = match ci == co {
            true => None,
            false => Some(Conv2d::new(
                ci,
                co,
                1,
                Conv2dConfig::same(1),
                vb.pp("skip"),
            )?),
        };
        Ok(Self {
            norms: [
                GroupNorm::new(GROUPS, ci, EPS, vb.pp("norm1"))?,
                GroupNorm::new(GROUPS, co, EPS, vb.pp("norm2"))?,
            ],
            convs: [
                Conv2d::new(ci, co, 3, same, vb.pp("conv1"))?,
                Conv2d::with_gain(co, co, 3, same, 0.1, vb.pp("conv2"))?,
            ],
            skip,
        })
    }
}

impl ResBlock {
    fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let convs = self.convs.iter().chain(&self.skip);
        convs.map(|conv| conv.multiply_adds(size)).sum()
    }
}

impl Module for ResBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = x.clone();
        for (norm, conv) in self.norms.iter().zip(&self.convs) {
            h = conv.forward(&norm.forward_act(&h, Activation::Silu)?)?;
        }
        match &self.skip {
            Some(skip) => add(&skip.forward(x)?, &h),
            None => add(x, &h),
        }
    }
}

/// From standardised low band (N, C, H, W) and noise (N, Z, H, W) to standardised details (N, 3 C, H, W), in the order LH, HL,
/// HH, each of C channels.
#[derive(Debug, Clone)]
pub struct DetailGenerator {
    config: DetailGeneratorConfig,
    /// One for all levels, or one for each from the finest.
    nets: Vec<Net>,
}

impl DetailGenerator {
    /// Reads or creates the parameters.
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(config: DetailGeneratorConfig, vb: VarBuilder) -> Result<Self> {
        let c = &config;
        if c.channels == 0 || c.levels == 0 || c.blocks == 0 || c.widths.is_empty() {
            bail!(
                "detail generator: channels, levels, blocks and widths must not be zero or empty: {c:?}"
            )
        }
        if let Some(w) = c.widths.iter().find(|w| **w == 0 || **w % GROUPS != 0) {
            bail!("detail generator: width {w} is not a multiple of {GROUPS}")
        }
        let nets = match c.shared {
            true => vec![Net::new(c, vb)?],
            false => (1..=c.levels)
                .map(|level| Net::new(c, vb.pp(format!("level{level}"))))
                .collect::<Result<_>>()?,
        };
        Ok(Self { config, nets })
    }

    /// The network's shape.
    pub fn config(&self) -> &DetailGeneratorConfig {
        &self.config
    }

    /// Parameters that `weights`, of a generator with fewer blocks of each size, lack: the blocks that come after theirs
    /// begin as identities, so that the larger network at first does what the smaller one did.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn added_blocks(
        &self,
        params: &Params,
        weights: &HashMap<String, Tensor>,
    ) -> Result<HashMap<String, Tensor>> {
        let mut added = HashMap::new();
        for (name, var) in params.named() {
            // As in "down.0.1.conv1.weight", or behind "level1.": size, block, layer.
            let parts: Vec<&str> = name.split('.').collect();
            let block = match parts[..] {
                [.., "down" | "up", _, block, _, _] => block != "0",
                _ => false,
            };
            if block && !weights.contains_key(&name) {
                let own = var.as_tensor().copy()?;
                let silent = name.contains(".conv2.");
                added.insert(name, if silent { own.zeros_like()? } else { own });
            }
        }
        Ok(added)
    }

    /// Multiply-adds of one pass for one picture whose low band is of `size` (H, W), counted as in [`nn_ops::count`].
    pub fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        self.nets[0].multiply_adds(size)
    }

    /// Details of `level` (1 is the finest) from its low band and noise.
    ///
    /// # Errors
    /// Channels that do not fit, sizes not divisible by 2^(sizes - 1), a level out of range.
    pub fn forward(&self, low: &Tensor, noise: &Tensor, level: usize) -> Result<Tensor> {
        self.forward_mixed(low, noise, &vec![level; low.dim(0)?])
    }

    /// As [`DetailGenerator::forward`], every item of the batch at a level of its own.
    ///
    /// # Errors
    /// As [`DetailGenerator::forward`], or another number of levels than items.
    pub fn forward_mixed(&self, low: &Tensor, noise: &Tensor, levels: &[usize]) -> Result<Tensor> {
        let (n, c, h, w) = low.dims4()?;
        let factor = 1 << (self.config.widths.len() - 1);
        let z = self.config.noise_channels;
        if c != self.config.channels
            || noise.dims() != [n, z, h, w]
            || h % factor != 0
            || w % factor != 0
        {
            bail!(
                "detail generator: needs low (N, {}, H, W) and noise (N, {z}, H, W) with H and W divisible by {factor}, got {:?} and {:?}",
                self.config.channels,
                low.shape(),
                noise.shape()
            )
        }
        let planes = level_planes(low, levels, self.config.levels)?;
        if self.config.shared {
            return self.nets[0].forward(&Tensor::cat(&[low, noise, &planes], 1)?);
        }
        let x = Tensor::cat(&[low, noise], 1)?;
        let mut details = Vec::new();
        let mut start = 0;
        for group in levels.chunk_by(|a, b| a == b) {
            let part = x.narrow(0, start, group.len())?;
            details.push(self.nets[group[0] - 1].forward(&part)?);
            start += group.len();
        }
        Tensor::cat(&details, 0)
    }
}

/// A residual U-Net on low band and noise, and where levels share it, the level, together.
#[derive(Debug, Clone)]
struct Net {
    first: Conv2d,
    down: Vec<Vec<ResBlock>>,
    middle: ResBlock,
    up: Vec<Vec<ResBlock>>,
    norm: GroupNorm,
    last: Conv2d,
    plans: Plans,
}

impl Net {
    fn new(c: &DetailGeneratorConfig, vb: VarBuilder) -> Result<Self> {
        let inputs = c.channels + c.noise_channels + if c.shared { c.levels } else { 0 };
        let first = Conv2d::new(
            inputs,
            c.widths[0],
            3,
            Conv2dConfig::same(3),
            vb.pp("first"),
        )?;
        let mut ch = c.widths[0];
        let mut down = Vec::new();
        for (i, &width) in c.widths.iter().enumerate() {
            let mut stage = Vec::new();
            for b in 0..c.blocks {
                stage.push(ResBlock::new(ch, width, vb.pp(format!("down.{i}.{b}")))?);
                ch = width;
            }
            down.push(stage);
        }
        let middle = ResBlock::new(ch, ch, vb.pp("middle"))?;
        let mut up = Vec::new();
        for (i, &width) in c.widths.iter().enumerate().rev().skip(1) {
            let mut stage = Vec::new();
            for b in 0..c.blocks {
                let skip = if b == 0 { width } else { 0 };
                stage.push(ResBlock::new(
                    ch + skip,
                    width,
                    vb.pp(format!("up.{i}.{b}")),
                )?);
                ch = width;
            }
            up.push(stage);
        }
        Ok(Self {
            norm: GroupNorm::new(GROUPS, ch, EPS, vb.pp("norm"))?,
            last: Conv2d::new(ch, 3 * c.channels, 3, Conv2dConfig::same(3), vb.pp("last"))?,
            first,
            down,
            middle,
            up,
            plans: Plans::default(),
        })
    }

    fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let of = |stage: &[ResBlock], size| -> u64 {
            stage.iter().map(|block| block.multiply_adds(size)).sum()
        };
        let at = |halvings: usize| size.map(|n| n >> halvings);
        let lowest = self.down.len().saturating_sub(1);
        let down: u64 = (self.down.iter().enumerate())
            .map(|(i, stage)| of(stage, at(i)))
            .sum();
        let up: u64 = (self.up.iter().rev().enumerate())
            .map(|(i, stage)| of(stage, at(i)))
            .sum();
        let ends = self.first.multiply_adds(size) + self.last.multiply_adds(size);
        ends + down + self.middle.multiply_adds(at(lowest)) + up
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.plans.one(&[x], |x| self.plain(&x[0]))
    }

    fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x)?;
        let mut skips = Vec::new();
        for (i, stage) in self.down.iter().enumerate() {
            if i > 0 {
                skips.push(x.clone());
                x = avg_pool2x(&x)?;
            }
            x = run(stage, x)?;
        }
        x = self.middle.forward(&x)?;
        for stage in &self.up {
            let skip = skips.pop().unwrap_or_else(|| x.clone());
            x = run(stage, cat_channels(&upsample_nearest2x(&x)?, &skip)?)?;
        }
        self.last
            .forward(&self.norm.forward_act(&x, Activation::Silu)?)
    }
}

fn run(stage: &[ResBlock], x: Tensor) -> Result<Tensor> {
    stage.iter().try_fold(x, |x, block| block.forward(&x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn multiply_adds_by_hand() {
        let config = DetailGeneratorConfig {
            channels: 3,
            levels: 2,
            noise_channels: 4,
            widths: vec![8, 16],
            blocks: 2,
            shared: true,
        };
        let vb = VarBuilder::zeros(DType::F32, &Device::Cpu);
        let generator = DetailGenerator::new(config, vb).unwrap();
        let res = |ci: u64, co: u64, p: u64| {
            let skip = if ci == co { 0 } else { ci * co * p };
            9 * ci * co * p + 9 * co * co * p + skip
        };
        let by_hand = 9 * (3 + 4 + 2) * 8 * 64
            + 2 * res(8, 8, 64)
            + res(8, 16, 16)
            + res(16, 16, 16)
            + res(16, 16, 16) // middle
            + res(24, 8, 64)
            + res(8, 8, 64)
            + 9 * 8 * 9 * 64;
        assert_eq!(generator.multiply_adds([8, 8]), by_hand);
    }
}
