//! The U-Net of improved-diffusion (Nichol and Dhariwal 2021, arXiv 2102.09672), name for name and number for number,
//! so that its checkpoints load; with `conv_resample` off it is also the default network of this project.

mod config;
mod embedding;

pub use crate::blocks::DropMask;
use crate::blocks::{
    AttentionBlock, AttentionNames, AttentionSpec, Body, DownLevel, Downsample, Filter, Head,
    InputPath, Layout, Mlp, Nonlinearity, OutputPath, Qkv, ResBlock, ResNames, ResSpec, Resampler,
    Skip, Stage, Start, UpLevel, Upsample, conv,
};
use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
pub use config::UNetConfig;
pub use embedding::timestep_embedding;
use nn_ops::plan::Plans;
use nn_ops::{Conv2dConfig, silu};

/// Groups and epsilon of every normalisation.
const NORM: (usize, f64) = (32, 1e-5);

const RES: ResNames = ResNames {
    norm_in: "in_layers.0",
    conv_in: "in_layers.2",
    emb: "emb_layers.1",
    norm_out: "out_layers.0",
    conv_out: "out_layers.3",
    skip: "skip_connection",
};

const ATTENTION: AttentionNames = AttentionNames {
    norm: "norm",
    qkv: Qkv::Joint("qkv"),
    out: "proj_out",
    layout: Layout::Conv1d,
};

/// The network: (N, Ci, H, W) and N noise levels to (N, Co, H, W).
#[derive(Debug, Clone)]
pub struct UNet {
    config: UNetConfig,
    time: Mlp,
    labels: Option<Tensor>,
    body: Body,
    plans: Plans,
    head: Head,
}

impl UNet {
    /// Reads or creates the parameters, named as in improved-diffusion's checkpoints.
    ///
    /// # Errors
    /// A configuration out of range, a missing or misshapen parameter.
    pub fn new(config: UNetConfig, vb: VarBuilder) -> Result<Self> {
        config.check()?;
        Self::build(config, vb)
    }

    fn build(config: UNetConfig, vb: VarBuilder) -> Result<Self> {
        let c = &config;
        let base = c.model_channels;
        let emb = 4 * base;
        let res = |ci, co, vb| {
            let spec = ResSpec {
                ci,
                co,
                emb,
                groups: (NORM.0, NORM.0),
                eps: NORM.1,
                act: Nonlinearity::Swish,
                scale_shift: c.use_scale_shift_norm,
                dropout: c.dropout,
                resample: None,
                skip: Skip {
                    layout: Layout::Conv2d,
                    gain: 1.0,
                    always: false,
                },
                rescale: 1.0,
                start: Start::Torch,
                gain: 0.0,
                names: &RES,
            };
            ResBlock::new(spec, vb)
        };
        let attention = |channels: usize, heads: usize, vb| {
            let spec = AttentionSpec {
                channels,
                heads,
                head_width: channels / heads,
                groups: Some(NORM.0),
                eps: NORM.1,
                rescale: 1.0,
                start: Start::Torch,
                gains: (1.0, 0.0),
                names: &ATTENTION,
            };
            AttentionBlock::new(&spec, vb)
        };
        let attend = |ds: usize, ch, heads, vb| match c.attention_resolutions.contains(&ds) {
            true => attention(ch, heads, vb).map(Some),
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

        let first = conv(
            c.in_channels,
            base,
            3,
            Conv2dConfig::same(3),
            Start::Torch,
            1.0,
            vb.pp("input_blocks.0.0"),
        )?;
        let (mut widths, mut ch, mut ds, mut at) = (vec![base], base, 1, 1);
        let mut down = Vec::new();
        for (level, mult) in c.channel_mult.iter().enumerate() {
            let mut stages = Vec::new();
            for _ in 0..c.num_res_blocks {
                let vb = vb.pp(format!("input_blocks.{at}"));
                let block = res(ch, mult * base, vb.pp("0"))?;
                ch = mult * base;
                stages.push(Stage {
                    res: block,
                    attention: attend(ds, ch, c.num_heads, vb.pp("1"))?,
                });
                widths.push(ch);
                at += 1;
            }
            let next = if level + 1 < c.channel_mult.len() {
                let vb = vb.pp(format!("input_blocks.{at}.0.op"));
                let down = match c.conv_resample {
                    true => Downsample::centred(ch, ch, Start::Torch, vb)?,
                    false => Downsample::Plain(Filter::Box),
                };
                widths.push(ch);
                ds *= 2;
                at += 1;
                Some((Resampler::Down(down), InputPath::None))
            } else {
                None
            };
            down.push(DownLevel { stages, down: next });
        }

        let mid = vb.pp("middle_block");
        let middle = vec![
            Stage {
                res: res(ch, ch, mid.pp("0"))?,
                attention: Some(attention(ch, c.num_heads, mid.pp("1"))?),
            },
            Stage {
                res: res(ch, ch, mid.pp("2"))?,
                attention: None,
            },
        ];

        let heads_up = c.num_heads_upsample.unwrap_or(c.num_heads);
        let mut up = Vec::new();
        let mut at = 0;
        for (level, mult) in c.channel_mult.iter().enumerate().rev() {
            let (mut stages, mut next) = (Vec::new(), None);
            for i in 0..=c.num_res_blocks {
                let vb = vb.pp(format!("output_blocks.{at}"));
                let skip = widths.pop().unwrap_or(base);
                let block = res(ch + skip, mult * base, vb.pp("0"))?;
                ch = mult * base;
                let attention = attend(ds, ch, heads_up, vb.pp("1"))?;
                if level > 0 && i == c.num_res_blocks {
                    ds /= 2;
                    // The last in its block, wherever that is.
                    let vb = vb.pp(if attention.is_some() { "2" } else { "1" });
                    next = Some(Resampler::Up(match c.conv_resample {
                        true => Upsample::repeated(ch, ch, Start::Torch, vb.pp("conv"))?,
                        false => Upsample::Plain(Filter::Box),
                    }));
                }
                stages.push(Stage {
                    res: block,
                    attention,
                });
                at += 1;
            }
            up.push(UpLevel {
                stages,
                output: OutputPath::None,
                up: next,
            });
        }
        let act = Nonlinearity::Swish;
        let ends = [vb.pp("out.0"), vb.pp("out.2")];
        Ok(Self {
            time: Mlp::new(
                base,
                emb,
                act,
                Start::Torch,
                [vb.pp("time_embed.0"), vb.pp("time_embed.2")],
            )?,
            labels,
            body: Body {
                first,
                down,
                middle,
                up,
            },
            head: Head::new(ch, c.out_channels, NORM, act, (Start::Torch, 0.0), ends)?,
            plans: Plans::default(),
            config,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Multiply-adds of one evaluation for one picture of `size` (H, W), counted as in [`nn_ops::count`].
    ///
    /// # Errors
    /// A side that the levels cannot halve.
    pub fn multiply_adds(&self, size: [usize; 2]) -> Result<u64> {
        let factor = 1 << (self.config.channel_mult.len() - 1);
        if size.iter().any(|n| *n == 0 || !n.is_multiple_of(factor)) {
            bail!("UNet: {size:?} must be divisible by {factor}")
        }
        Ok(self.time.multiply_adds()
            + self.body.multiply_adds(size)
            + self.head.multiply_adds(size))
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
        let emb = self.time.forward(&emb)?;
        let emb = match (&self.labels, y) {
            (Some(table), Some(y)) => {
                let of_class = table.index_select(y, 0)?.to_dtype(emb.dtype())?;
                (emb + of_class)?
            }
            (None, None) => emb,
            (Some(_), None) => bail!("UNet: this network has classes, labels are needed"),
            (None, Some(_)) => bail!("UNet: this network has no classes, labels cannot be used"),
        };
        // Every block begins by activating the embedding: once is enough.
        let emb = silu(&emb)?;

        let network = |x: &Tensor, emb: &Tensor| {
            let (h, _) = self.body.forward(x, Some(emb), mask)?;
            self.head.forward(&h)
        };
        match mask {
            Some(_) => network(x, &emb),
            None => self.plans.one(&[x, &emb], |t| network(&t[0], &t[1])),
        }
    }
}
