//! The U: down the levels, through the middle, up again beside what was kept on the way.

use super::attention::AttentionBlock;
use super::layers::{Pointwise, Start, conv};
use super::nonlinearity::Nonlinearity;
use super::resample::{Downsample, Filter, Resampler, Upsample};
use super::residual::{DropMask, ResBlock, join};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;
use nn_ops::{Conv2d, Conv2dConfig, GroupNorm, add, cat_channels};

/// A residual block, with or without attention after it.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub res: ResBlock,
    pub attention: Option<AttentionBlock>,
}

impl Stage {
    fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let attention = self.attention.as_ref();
        self.res.multiply_adds(size) + attention.map_or(0, |a| a.multiply_adds(size))
    }

    fn forward(
        &self,
        x: &Tensor,
        emb: Option<&Tensor>,
        masks: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        let h = self.res.forward(x, emb, masks)?;
        match &self.attention {
            Some(attention) => attention.forward(&h),
            None => Ok(h),
        }
    }
}

/// Normalisation, activation and a 3 x 3 convolution: what ends a network, or gives a part of its output.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    norm: GroupNorm,
    act: Nonlinearity,
    conv: Conv2d,
}

impl Head {
    pub(crate) fn new(
        ci: usize,
        co: usize,
        (groups, eps): (usize, f64),
        act: Nonlinearity,
        (start, gain): (Start, f64),
        [norm, last]: [VarBuilder; 2],
    ) -> Result<Self> {
        Ok(Self {
            norm: GroupNorm::new(groups, ci, eps, norm)?,
            act,
            conv: conv(ci, co, 3, Conv2dConfig::same(3), start, gain, last)?,
        })
    }

    /// Multiply-adds for one picture of this size.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        self.conv.multiply_adds(size)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&self.act.after(&self.norm, x)?)
    }
}

/// How the input picture, made smaller beside the network, enters again below a level.
#[derive(Debug, Clone)]
pub(crate) enum InputPath {
    None,
    /// Through a 1 x 1 map: joined as channels before the others, or added.
    Skip {
        filter: Filter,
        map: Pointwise,
        cat: bool,
    },
    /// Through convolutions of its own; the network goes on from the sum.
    Residual {
        down: Downsample,
        rescale: f64,
    },
}

/// How the output picture grows beside the network, above the blocks of a level.
#[derive(Debug, Clone)]
pub(crate) enum OutputPath {
    None,
    /// A sum over the levels, each giving its part.
    Skip {
        filter: Filter,
        part: Option<Head>,
    },
    /// The first of a residual path.
    Begin(Head),
    /// Through convolutions of its own; the network goes on from the sum.
    Residual {
        up: Upsample,
        rescale: f64,
    },
}

/// The blocks of one size on the way down, and what leads to the next.
#[derive(Debug, Clone)]
pub(crate) struct DownLevel {
    pub stages: Vec<Stage>,
    pub down: Option<(Resampler, InputPath)>,
}

/// The blocks of one size on the way up, and what leads to the next.
#[derive(Debug, Clone)]
pub(crate) struct UpLevel {
    pub stages: Vec<Stage>,
    pub output: OutputPath,
    pub up: Option<Resampler>,
}

/// Everything between a network's embedding and its last layers.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub first: Conv2d,
    pub down: Vec<DownLevel>,
    pub middle: Vec<Stage>,
    pub up: Vec<UpLevel>,
}

impl Body {
    /// Multiply-adds for one picture of this size, which the levels can halve.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let of = |stages: &[Stage], size| -> u64 {
            stages.iter().map(|stage| stage.multiply_adds(size)).sum()
        };
        let mut total = self.first.multiply_adds(size);
        let mut size = size;
        for level in &self.down {
            total += of(&level.stages, size);
            let Some((down, path)) = &level.down else {
                continue;
            };
            size = size.map(|n| n / 2);
            total += down.multiply_adds(size);
            total += match path {
                InputPath::None => 0,
                InputPath::Skip { map, .. } => map.multiply_adds(size),
                InputPath::Residual { down, .. } => down.multiply_adds(size),
            };
        }
        total += of(&self.middle, size);
        for level in &self.up {
            total += of(&level.stages, size);
            total += match &level.output {
                OutputPath::None => 0,
                OutputPath::Skip { part, .. } => {
                    part.as_ref().map_or(0, |head| head.multiply_adds(size))
                }
                OutputPath::Begin(head) => head.multiply_adds(size),
                OutputPath::Residual { up, .. } => up.multiply_adds(size),
            };
            if let Some(up) = &level.up {
                size = size.map(|n| n * 2);
                total += up.multiply_adds(size);
            }
        }
        total
    }

    /// The features at full size, and the output picture of the paths beside the network if there are any.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        emb: Option<&Tensor>,
        masks: Option<&dyn DropMask>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let mut input = x.clone();
        let mut h = self.first.forward(x)?;
        let mut skips = vec![h.clone()];
        for level in &self.down {
            for stage in &level.stages {
                h = stage.forward(&h, emb, masks)?;
                skips.push(h.clone());
            }
            let Some((down, path)) = &level.down else {
                continue;
            };
            h = down.forward(&h, emb, masks)?;
            match path {
                InputPath::None => {}
                InputPath::Skip { filter, map, cat } => {
                    input = filter.down(&input)?;
                    let part = map.forward(&input)?;
                    h = match cat {
                        true => cat_channels(&part, &h)?,
                        false => add(&part, &h)?,
                    };
                }
                InputPath::Residual { down, rescale } => {
                    input = join(&down.forward(&input)?, &h, *rescale)?;
                    h = input.clone();
                }
            }
            skips.push(h.clone());
        }

        for stage in &self.middle {
            h = stage.forward(&h, emb, masks)?;
        }

        let mut output: Option<Tensor> = None;
        for level in &self.up {
            for stage in &level.stages {
                let Some(skip) = skips.pop() else {
                    bail!("network: more blocks on the way up than were kept on the way down")
                };
                h = stage.forward(&cat_channels(&h, &skip)?, emb, masks)?;
            }
            match &level.output {
                OutputPath::None => {}
                OutputPath::Skip { filter, part } => {
                    let before = output.as_ref().map(|o| filter.up(o)).transpose()?;
                    let part = part.as_ref().map(|head| head.forward(&h)).transpose()?;
                    output = match (before, part) {
                        (Some(before), Some(part)) => Some(add(&before, &part)?),
                        (before, part) => before.or(part),
                    };
                }
                OutputPath::Begin(head) => output = Some(head.forward(&h)?),
                OutputPath::Residual { up, rescale } => {
                    let Some(before) = &output else {
                        bail!("network: a residual output path without a beginning")
                    };
                    h = join(&up.forward(before)?, &h, *rescale)?;
                    output = Some(h.clone());
                }
            }
            if let Some(up) = &level.up {
                h = up.forward(&h, emb, masks)?;
            }
        }
        Ok((h, output))
    }
}
