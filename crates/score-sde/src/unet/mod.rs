//! The U-Net of improved-diffusion (Nichol and Dhariwal 2021, arXiv 2102.09672), name for name and number for number,
//! so that its checkpoints load; with `conv_resample` off it is also the default network of this project.

mod blocks;
mod config;
mod embedding;

pub use blocks::DropMask;
use blocks::{AttentionBlock, Downsample, ResBlock, Upsample};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
pub use config::UNetConfig;
pub use embedding::timestep_embedding;
use nn_ops::{Activation, Conv2d, Conv2dConfig, GroupNorm, Linear, cat_channels, silu};

/// One entry of a level: what improved-diffusion calls a TimestepEmbedSequential.
#[derive(Debug, Clone, Default)]
struct Stage {
    first: Option<Conv2d>,
    res: Option<ResBlock>,
    attention: Option<AttentionBlock>,
    down: Option<Downsample>,
    up: Option<Upsample>,
}

impl Stage {
    fn forward(&self, x: &Tensor, emb: &Tensor, mask: Option<&dyn DropMask>) -> Result<Tensor> {
        let mut x = match &self.first {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        if let Some(res) = &self.res {
            x = res.forward(&x, emb, mask)?;
        }
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        if let Some(down) = &self.down {
            x = down.forward(&x)?;
        }
        match &self.up {
            Some(up) => up.forward(&x),
            None => Ok(x),
        }
    }
}

/// The network: (N, Ci, H, W) and N noise levels to (N, Co, H, W).
#[derive(Debug, Clone)]
pub struct UNet {
    config: UNetConfig,
    time: (Linear, Linear),
    labels: Option<Tensor>,
    input: Vec<Stage>,
    middle: (ResBlock, AttentionBlock, ResBlock),
    output: Vec<Stage>,
    norm: GroupNorm,
    last: Conv2d,
}

impl UNet {
    /// Reads or creates the parameters, named as in improved-diffusion's checkpoints.
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(config: UNetConfig, vb: VarBuilder) -> Result<Self> {
        config.check()?;
        let c = &config;
        let base = c.model_channels;
        let emb = 4 * base;
        let res = |ci, co, vb| ResBlock::new(ci, co, emb, c.use_scale_shift_norm, c.dropout, vb);
        let attend =
            |ds: usize, ch, heads, vb: VarBuilder| match c.attention_resolutions.contains(&ds) {
                true => AttentionBlock::new(ch, heads, vb).map(Some),
                false => Ok(None),
            };
        let labels = match c.num_classes {
            Some(k) => Some(vb.get_with_hints(
                (k, emb),
                "label_emb.weight",
                Init::Randn {
                    mean: 0.0,
                    stdev: 1.0,
                },
            )?),
            None => None,
        };

        let first = Conv2d::new(
            c.in_channels,
            base,
            3,
            Conv2dConfig::same(3),
            vb.pp("input_blocks.0.0"),
        )?;
        let mut input = vec![Stage {
            first: Some(first),
            ..Stage::default()
        }];
        let (mut widths, mut ch, mut ds) = (vec![base], base, 1);
        for (level, mult) in c.channel_mult.iter().enumerate() {
            for _ in 0..c.num_res_blocks {
                let vb = vb.pp(format!("input_blocks.{}", input.len()));
                let block = res(ch, mult * base, vb.pp("0"))?;
                ch = mult * base;
                input.push(Stage {
                    res: Some(block),
                    attention: attend(ds, ch, c.num_heads, vb.pp("1"))?,
                    ..Stage::default()
                });
                widths.push(ch);
            }
            if level + 1 < c.channel_mult.len() {
                let vb = vb.pp(format!("input_blocks.{}.0", input.len()));
                input.push(Stage {
                    down: Some(Downsample::new(ch, c.conv_resample, vb)?),
                    ..Stage::default()
                });
                widths.push(ch);
                ds *= 2;
            }
        }

        let mid = vb.pp("middle_block");
        let middle = (
            res(ch, ch, mid.pp("0"))?,
            AttentionBlock::new(ch, c.num_heads, mid.pp("1"))?,
            res(ch, ch, mid.pp("2"))?,
        );

        let mut output = Vec::new();
        for (level, mult) in c.channel_mult.iter().enumerate().rev() {
            for i in 0..=c.num_res_blocks {
                let vb = vb.pp(format!("output_blocks.{}", output.len()));
                let skip = widths.pop().unwrap_or(base);
                let block = res(ch + skip, mult * base, vb.pp("0"))?;
                ch = mult * base;
                let attention = attend(
                    ds,
                    ch,
                    c.num_heads_upsample.unwrap_or(c.num_heads),
                    vb.pp("1"),
                )?;
                let up = if level > 0 && i == c.num_res_blocks {
                    ds /= 2;
                    let at = if attention.is_some() { "2" } else { "1" };
                    Some(Upsample::new(ch, c.conv_resample, vb.pp(at))?)
                } else {
                    None
                };
                output.push(Stage {
                    res: Some(block),
                    attention,
                    up,
                    ..Stage::default()
                });
            }
        }
        let last = Conv2d::with_gain(
            ch,
            c.out_channels,
            3,
            Conv2dConfig::same(3),
            0.0,
            vb.pp("out.2"),
        )?;
        Ok(Self {
            time: (
                Linear::new(base, emb, vb.pp("time_embed.0"))?,
                Linear::new(emb, emb, vb.pp("time_embed.2"))?,
            ),
            labels,
            input,
            middle,
            output,
            norm: GroupNorm::new(32, ch, 1e-5, vb.pp("out.0"))?,
            last,
            config,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The network's output for x (N, Ci, H, W), time steps t (N) and, if it has classes, labels (N) of u32.
    ///
    /// H and W must be divisible by 2^(levels - 1). `mask` is the source of dropout while training, none otherwise.
    ///
    /// # Errors
    /// Shapes that do not fit, or labels given to a network without classes (or the reverse).
    pub fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        y: Option<&Tensor>,
        mask: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        let factor = 1 << (self.config.channel_mult.len() - 1);
        if c != self.config.in_channels || h % factor != 0 || w % factor != 0 || t.dims() != [n] {
            bail!(
                "UNet: needs x (N, {}, H, W) with H and W divisible by {factor} and t (N,), got {:?} and {:?}",
                self.config.in_channels,
                x.shape(),
                t.shape()
            )
        }
        let emb = timestep_embedding(t, self.config.model_channels)?.to_dtype(x.dtype())?;
        let emb = self.time.1.forward(&silu(&self.time.0.forward(&emb)?)?)?;
        let emb = match (&self.labels, y) {
            (Some(table), Some(y)) => (emb + table.index_select(y, 0)?)?,
            (None, None) => emb,
            (Some(_), None) => bail!("UNet: this network has classes, labels are needed"),
            (None, Some(_)) => bail!("UNet: this network has no classes, labels cannot be used"),
        };
        // Every block begins by activating the embedding: once is enough.
        let emb = silu(&emb)?;

        let mut skips = Vec::with_capacity(self.input.len());
        let mut h = x.clone();
        for stage in &self.input {
            h = stage.forward(&h, &emb, mask)?;
            skips.push(h.clone());
        }
        h = self.middle.0.forward(&h, &emb, mask)?;
        h = self.middle.1.forward(&h)?;
        h = self.middle.2.forward(&h, &emb, mask)?;
        for stage in &self.output {
            let skip = skips.pop().unwrap_or_else(|| h.clone());
            h = stage.forward(&cat_channels(&h, &skip)?, &emb, mask)?;
        }
        self.last
            .forward(&self.norm.forward_act(&h, Activation::Silu)?)
    }
}
