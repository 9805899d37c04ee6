//! Self-attention over all pixels.

use super::layers::{Layout, Pointwise, Start, pointwise};
use super::residual::join;
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;
use nn_ops::{GroupNorm, pixel_attention, self_attention_multiply_adds};

/// How queries, keys and values are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Qkv {
    /// In one tensor, head by head q, k and v.
    Joint(&'static str),
    /// Each in a tensor of its own, all heads of each.
    Separate([&'static str; 3]),
}

/// The names of an attention's tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionNames {
    pub norm: &'static str,
    pub qkv: Qkv,
    pub out: &'static str,
    pub layout: Layout,
}

/// An attention of `heads` heads, `head_width` channels each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionSpec<'a> {
    pub channels: usize,
    pub heads: usize,
    pub head_width: usize,
    /// Groups of the normalisation before it, if there is one.
    pub groups: Option<usize>,
    pub eps: f64,
    /// What the sum with the input is divided by.
    pub rescale: f64,
    pub start: Start,
    /// Gains of the first and the last map.
    pub gains: (f64, f64),
    pub names: &'a AttentionNames,
}

#[derive(Debug, Clone)]
enum Maps {
    Joint(Pointwise),
    Separate(Box<[Pointwise; 3]>),
}

/// Self-attention over all pixels, added to its input.
#[derive(Debug, Clone)]
pub(crate) struct AttentionBlock {
    norm: Option<GroupNorm>,
    qkv: Maps,
    out: Pointwise,
    heads: usize,
    head_width: usize,
    rescale: f64,
}

impl AttentionBlock {
    pub(crate) fn new(s: &AttentionSpec, vb: VarBuilder) -> Result<Self> {
        let (c, inner) = (s.channels, s.heads * s.head_width);
        let map =
            |ci, co, gain, name| Pointwise::new(ci, co, s.names.layout, s.start, gain, vb.pp(name));
        let norm = (s.groups)
            .map(|groups| GroupNorm::new(groups, c, s.eps, vb.pp(s.names.norm)))
            .transpose()?;
        let qkv = match s.names.qkv {
            Qkv::Joint(name) => Maps::Joint(map(c, 3 * inner, s.gains.0, name)?),
            Qkv::Separate([q, k, v]) => Maps::Separate(Box::new([
                map(c, inner, s.gains.0, q)?,
                map(c, inner, s.gains.0, k)?,
                map(c, inner, s.gains.0, v)?,
            ])),
        };
        Ok(Self {
            norm,
            qkv,
            out: map(inner, c, s.gains.1, s.names.out)?,
            heads: s.heads,
            head_width: s.head_width,
            rescale: s.rescale,
        })
    }

    /// Multiply-adds for one picture of this size.
    pub(crate) fn multiply_adds(&self, size: [usize; 2]) -> u64 {
        let maps = match &self.qkv {
            Maps::Joint(map) => map.multiply_adds(size),
            Maps::Separate(maps) => maps.iter().map(|map| map.multiply_adds(size)).sum(),
        };
        let inner = self.heads * self.head_width;
        maps + self_attention_multiply_adds(inner, size[0] * size[1]) + self.out.multiply_adds(size)
    }

    /// (N, C, H, W) to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = match &self.norm {
            Some(norm) => norm.forward(x)?,
            None => x.clone(),
        };
        let qkv = match &self.qkv {
            Maps::Joint(map) => map.forward(&normed)?,
            Maps::Separate(maps) => {
                let (matrix, bias) = self.merged(maps)?;
                pointwise(&normed, &matrix, &bias)?
            }
        };
        let y = self.out.forward(&pixel_attention(&qkv, self.heads)?)?;
        join(x, &y, self.rescale)
    }

    /// Three maps as one in the order of the operator: head by head q, k and v. Merging the weights, not the pictures,
    /// leaves one product for all three.
    fn merged(&self, maps: &[Pointwise; 3]) -> Result<(Tensor, Tensor)> {
        let (heads, d) = (self.heads, self.head_width);
        let mut parts = (Vec::new(), Vec::new());
        for map in maps {
            let matrix = map.matrix()?;
            let (_, c) = matrix.dims2()?;
            // (heads d, C) to (heads, d, C).
            parts.0.push(matrix.contiguous()?.reshape((heads, d, c))?);
            parts.1.push(map.bias().reshape((heads, d))?);
        }
        // (heads, 3, d, C) to (3 heads d, C).
        let matrix = Tensor::stack(&parts.0, 1)?.flatten_to(2)?;
        let bias = Tensor::stack(&parts.1, 1)?.flatten_all()?;
        Ok((matrix, bias))
    }
}
