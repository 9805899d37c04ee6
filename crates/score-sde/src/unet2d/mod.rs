//! diffusers' `UNet2DModel`, name for name and number for number, so that its checkpoints load: google/ddpm-* and the
//! like, and with the skip types NCSN++ (google/ncsnpp-*). Also checkpoints from before attention was renamed.

mod config;

use crate::blocks::{
    AttentionBlock, AttentionNames, AttentionSpec, Body, DownLevel, Downsample, DropMask, Filter,
    Head, InputPath, Layout, Mlp, Nonlinearity, OutputPath, Pointwise, Qkv, ResBlock, ResNames,
    ResSpec, Resample, Resampler, Skip, Stage, Start, UpLevel, Upsample, conv, fourier,
    host_values, sinusoids,
};
use crate::error::{Error, Result};
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use config::NETWORK;
pub use config::{
    ClassEmbedType, DownBlockType, MidBlockType, SampleSize, SampleType, TimeEmbeddingType,
    TimeScaleShift, UNet2DConfig, UpBlockType,
};
use nn_ops::plan::Plans;
use nn_ops::{Conv2dConfig, add};

const RES: ResNames = ResNames {
    norm_in: "norm1",
    conv_in: "conv1",
    emb: "time_emb_proj",
    norm_out: "norm2",
    conv_out: "conv2",
    skip: "conv_shortcut",
};

const ATTENTION: AttentionNames = AttentionNames {
    norm: "group_norm",
    qkv: Qkv::Separate(["to_q", "to_k", "to_v"]),
    out: "to_out.0",
    layout: Layout::Linear,
};

/// As saved until early 2023.
const OLD_ATTENTION: AttentionNames = AttentionNames {
    qkv: Qkv::Separate(["query", "key", "value"]),
    out: "proj_attn",
    ..ATTENTION
};

/// The taps of the skip types.
const FIR: [f64; 4] = [1.0, 3.0, 3.0, 1.0];
/// Standard deviation of random frequencies.
const FOURIER_SCALE: f64 = 16.0;
/// Channels of the pictures beside the network.
const RGB: usize = 3;

/// How labels enter the embedding.
#[derive(Debug, Clone)]
enum Classes {
    None,
    /// A row each (K, E).
    Table(Tensor),
    Timestep(Mlp),
    Identity,
}

/// The network: (N, Ci, H, W) and N time steps or noise levels to (N, Co, H, W).
#[derive(Debug, Clone)]
pub struct UNet2DModel {
    config: UNet2DConfig,
    /// Random frequencies (C) or the learned table (T, C).
    time_proj: Option<Tensor>,
    time: Mlp,
    classes: Classes,
    body: Body,
    plans: Plans,
    head: Head,
}

/// What one kind of block makes of the configuration.
struct Kind<'a> {
    config: &'a UNet2DConfig,
    /// Of a skip type: groups by width, a FIR filter, sums divided by sqrt 2.
    skip: bool,
    rescale: f64,
}

impl<'a> Kind<'a> {
    fn new(config: &'a UNet2DConfig, skip: bool) -> Self {
        let rescale = if skip { std::f64::consts::SQRT_2 } else { 1.0 };
        Self {
            config,
            skip,
            rescale,
        }
    }

    fn middle(config: &'a UNet2DConfig) -> Self {
        Self {
            rescale: config.mid_block_scale_factor,
            ..Self::new(config, false)
        }
    }

    fn groups(&self, channels: usize) -> usize {
        let own = (channels / 4).min(32);
        match self.skip {
            true => own,
            false => self.config.norm_num_groups.unwrap_or(own),
        }
    }

    fn filter(&self) -> Filter {
        if self.skip {
            Filter::Fir(FIR.to_vec())
        } else {
            Filter::Box
        }
    }

    fn res(
        &self,
        (ci, co): (usize, usize),
        groups_in: usize,
        resample: Option<Resample>,
        vb: VarBuilder,
    ) -> candle_core::Result<ResBlock> {
        let spec = ResSpec {
            ci,
            co,
            emb: self.config.time_features(),
            groups: (groups_in, self.groups(co)),
            eps: self.config.norm_eps,
            act: self.config.act_fn,
            scale_shift: self.config.resnet_time_scale_shift == TimeScaleShift::ScaleShift,
            dropout: self.config.dropout,
            skip: Skip {
                layout: Layout::Conv2d,
                gain: 1.0,
                always: self.skip && resample.is_some(),
            },
            resample,
            rescale: self.rescale,
            start: Start::Torch,
            gain: 1.0,
            names: &RES,
        };
        ResBlock::new(spec, vb)
    }

    /// A residual block that changes the size.
    fn resizing(
        &self,
        channels: usize,
        resample: Resample,
        vb: VarBuilder,
    ) -> candle_core::Result<Resampler> {
        let groups = self.groups(channels);
        let block = self.res((channels, channels), groups, Some(resample), vb)?;
        Ok(Resampler::Block(Box::new(block)))
    }

    fn attention(
        &self,
        channels: usize,
        groups: Option<usize>,
        vb: VarBuilder,
    ) -> candle_core::Result<AttentionBlock> {
        let head_width = self.config.attention_head_dim.unwrap_or(channels);
        let old = vb.contains_tensor("query.weight");
        let spec = AttentionSpec {
            channels,
            // What is left over takes no part.
            heads: channels / head_width,
            head_width,
            groups,
            eps: self.config.norm_eps,
            rescale: self.rescale,
            start: Start::Torch,
            gains: (1.0, 1.0),
            names: if old { &OLD_ATTENTION } else { &ATTENTION },
        };
        AttentionBlock::new(&spec, vb)
    }

    /// Groups of the normalisation before attention in a level.
    fn attention_groups(&self, channels: usize) -> Option<usize> {
        Some(if self.skip { 32 } else { self.groups(channels) })
    }
}

impl UNet2DModel {
    /// Reads or creates the parameters, named as in diffusers' checkpoints.
    ///
    /// # Errors
    /// A configuration out of range; a missing or misshapen parameter, by its name.
    pub fn new(config: UNet2DConfig, vb: VarBuilder) -> Result<Self> {
        config.check()?;
        Self::build(config, vb)
    }

    fn build(config: UNet2DConfig, vb: VarBuilder) -> Result<Self> {
        let c = &config;
        let (widths, last) = (&c.block_out_channels, c.block_out_channels.len() - 1);
        let (base, features) = (widths[0], c.time_features());
        let same = Conv2dConfig::same(3);
        let first = conv(
            c.in_channels,
            base,
            3,
            same,
            Start::Torch,
            1.0,
            vb.pp("conv_in"),
        )?;
        let normal = |stdev| Init::Randn { mean: 0.0, stdev };
        let table = "time_proj.weight";
        let time_proj = match (c.time_embedding_type, c.num_train_timesteps) {
            (TimeEmbeddingType::Fourier, _) => {
                Some(vb.get_with_hints(base, table, normal(FOURIER_SCALE))?)
            }
            (TimeEmbeddingType::Learned, Some(steps)) => {
                Some(vb.get_with_hints((steps, base), table, normal(1.0))?)
            }
            _ => None,
        };
        let inputs = match c.time_embedding_type {
            TimeEmbeddingType::Fourier => 2 * base,
            _ => base,
        };
        let mlp = |name: &str| {
            let vb = vb.pp(name);
            let layers = [vb.pp("linear_1"), vb.pp("linear_2")];
            Mlp::new(inputs, features, Nonlinearity::Swish, Start::Torch, layers)
        };
        let time = mlp("time_embedding")?;
        let classes = match (c.class_embed_type, c.num_class_embeds) {
            (Some(ClassEmbedType::Timestep), _) => Classes::Timestep(mlp("class_embedding")?),
            (Some(ClassEmbedType::Identity), _) => Classes::Identity,
            (None, Some(k)) => {
                let name = "class_embedding.weight";
                Classes::Table(vb.get_with_hints((k, features), name, normal(1.0))?)
            }
            (None, None) => Classes::None,
        };

        let mut down = Vec::new();
        let mut ch = base;
        for (i, (&width, kind)) in widths.iter().zip(&c.down_block_types).enumerate() {
            let vb = vb.pp(format!("down_blocks.{i}"));
            down.push(down_level(c, *kind, (ch, width), i == last, vb)?);
            ch = width;
        }

        let mut middle = Vec::new();
        if c.mid_block_type.is_some() {
            let (kind, vb) = (Kind::middle(c), vb.pp("mid_block"));
            let groups = match c.resnet_time_scale_shift {
                TimeScaleShift::Default => c.attn_norm_num_groups.or(Some(kind.groups(ch))),
                TimeScaleShift::ScaleShift => c.attn_norm_num_groups,
            };
            for i in 0..2 {
                let attention = match i == 0 && c.add_attention {
                    true => Some(kind.attention(ch, groups, vb.pp("attentions.0"))?),
                    false => None,
                };
                let vb = vb.pp(format!("resnets.{i}"));
                let res = kind.res((ch, ch), kind.groups(ch), None, vb)?;
                middle.push(Stage { res, attention });
            }
        }

        let mut up = Vec::new();
        for (i, kind) in c.up_block_types.iter().enumerate() {
            let width = widths[last - i];
            let below = widths[last.saturating_sub(i + 1)];
            let vb = vb.pp(format!("up_blocks.{i}"));
            up.push(up_level(c, *kind, [ch, width, below], i == last, vb)?);
            ch = width;
        }
        let ends = [vb.pp("conv_norm_out"), vb.pp("conv_out")];
        let norm = (Kind::new(c, false).groups(base), c.norm_eps);
        let gain = (Start::Torch, 1.0);
        let head = Head::new(base, c.out_channels, norm, Nonlinearity::Swish, gain, ends)?;
        Ok(Self {
            time_proj,
            time,
            classes,
            body: Body {
                first,
                down,
                middle,
                up,
            },
            head,
            plans: Plans::default(),
            config,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &UNet2DConfig {
        &self.config
    }

    /// The network's output for x (N, Ci, H, W) and t (N): time steps, or noise levels sigma for the fourier type.
    ///
    /// H and W must be divisible by 2^(levels - 1). `labels` are classes (N) of an integer type, numbers (N) that are
    /// embedded as time is, or embeddings (N, E), as the configuration says. `mask` is the source of dropout while
    /// training, none otherwise.
    ///
    /// # Errors
    /// Shapes that do not fit; a time step or class out of range; labels given to a network without classes, or the
    /// reverse.
    pub fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        labels: Option<&Tensor>,
        mask: Option<&dyn DropMask>,
    ) -> Result<Tensor> {
        let (c, factor) = (&self.config, self.config.factor());
        let fits = matches!(x.dims(), [_, ci, h, w] if *ci == c.in_channels
            && *h > 0 && *w > 0 && h % factor == 0 && w % factor == 0);
        if !fits {
            let expected = format!(
                "(N, {}, H, W) with H and W divisible by {factor}",
                c.in_channels
            );
            return Err(shape("x", x, expected));
        }
        let n = x.dims()[0];
        if t.dims() != [n] {
            return Err(shape("t", t, format!("({n},)")));
        }
        let emb = self
            .time
            .forward(&self.project("t", t)?.to_dtype(x.dtype())?)?;
        let emb = match self.labels(labels, x)? {
            Some(labels) => (emb + labels.to_dtype(x.dtype())?)?,
            None => emb,
        };
        // Every block begins by activating the embedding: once is enough.
        let emb = c.act_fn.apply(&emb)?;

        let x = match c.center_input_sample {
            true => ((x * 2.0)? - 1.0)?,
            false => x.clone(),
        };
        let network = |x: &Tensor, emb: &Tensor| {
            let (h, output) = self.body.forward(x, Some(emb), mask)?;
            let h = self.head.forward(&h)?;
            match &output {
                Some(output) => add(&h, output),
                None => Ok(h),
            }
        };
        let h = match mask {
            Some(_) => network(&x, &emb)?,
            None => self.plans.one(&[&x, &emb], |t| network(&t[0], &t[1]))?,
        };
        if c.time_embedding_type != TimeEmbeddingType::Fourier {
            return Ok(h);
        }
        let sigma = t.to_dtype(h.dtype())?.reshape((n, 1, 1, 1))?;
        Ok(h.broadcast_div(&sigma)?)
    }

    /// Numbers (N) as the network sees them, (N, C) or (N, 2 C).
    fn project(&self, name: &'static str, t: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let base = c.block_out_channels[0];
        match (&self.time_proj, c.time_embedding_type) {
            (Some(w), TimeEmbeddingType::Fourier) => {
                let positive = |v: &&f32| !(**v > 0.0 && v.is_finite());
                if let Some(v) = host_values(t)?.iter().find(positive) {
                    return Err(argument(name, *v, "a noise level, positive"));
                }
                Ok(fourier(t, w, false)?)
            }
            (Some(table), _) => rows(name, table, t),
            (None, _) => {
                let half = base / 2;
                let scale = -(10_000f64.ln()) as f32;
                let count = (half as f64 - c.freq_shift) as f32;
                let frequencies: Vec<f32> = (0..half)
                    .map(|i| libm::exp(f64::from(scale * i as f32 / count)) as f32)
                    .collect();
                Ok(sinusoids(t, &frequencies, base, c.flip_sin_to_cos)?)
            }
        }
    }

    /// What labels add to the embedding of the pictures x, (N, E).
    fn labels(&self, labels: Option<&Tensor>, x: &Tensor) -> Result<Option<Tensor>> {
        let n = x.dims()[0];
        let need = match (&self.classes, labels) {
            (Classes::None, None) => return Ok(None),
            (Classes::None, Some(_)) => "absent: this network has no classes",
            (_, None) => "given: this network has classes",
            (Classes::Identity, Some(e)) => {
                if e.dims() != [n, self.config.time_features()] {
                    let expected = format!("({n}, {})", self.config.time_features());
                    return Err(shape("labels", e, expected));
                }
                return Ok(Some(e.clone()));
            }
            (_, Some(y)) if y.dims() != [n] => return Err(shape("labels", y, format!("({n},)"))),
            (Classes::Table(table), Some(y)) => return Ok(Some(rows("labels", table, y)?)),
            (Classes::Timestep(mlp), Some(y)) => {
                let projected = self.project("labels", y)?.to_dtype(x.dtype())?;
                return Ok(Some(mlp.forward(&projected)?));
            }
        };
        Err(Error::Argument {
            op: NETWORK,
            name: "labels",
            value: if labels.is_some() { "given" } else { "absent" }.into(),
            need,
        })
    }
}

fn down_level(
    c: &UNet2DConfig,
    kind: DownBlockType,
    (ci, co): (usize, usize),
    last: bool,
    vb: VarBuilder,
) -> candle_core::Result<DownLevel> {
    let k = Kind::new(c, kind.skips());
    let mut stages = Vec::new();
    for j in 0..c.layers_per_block {
        let from = if j == 0 { ci } else { co };
        let res = k.res(
            (from, co),
            k.groups(from),
            None,
            vb.pp(format!("resnets.{j}")),
        )?;
        let attention = match kind.attends() {
            true => {
                let vb = vb.pp(format!("attentions.{j}"));
                Some(k.attention(co, k.attention_groups(co), vb)?)
            }
            false => None,
        };
        stages.push(Stage { res, attention });
    }
    if last {
        return Ok(DownLevel { stages, down: None });
    }
    let resnet = kind == DownBlockType::ResnetDownsampleBlock2D
        || (kind == DownBlockType::AttnDownBlock2D && c.downsample_type == SampleType::Resnet);
    let down = if k.skip {
        let resampler = k.resizing(co, Resample::Down(k.filter()), vb.pp("resnet_down"))?;
        let vb = vb.pp("skip_conv");
        let path = InputPath::Skip {
            filter: k.filter(),
            map: Pointwise::new(RGB, co, Layout::Conv2d, Start::Torch, 1.0, vb)?,
            cat: false,
        };
        (resampler, path)
    } else if resnet {
        let resampler = k.resizing(co, Resample::Down(k.filter()), vb.pp("downsamplers.0"))?;
        (resampler, InputPath::None)
    } else {
        let vb = vb.pp("downsamplers.0.conv");
        let down = match c.downsample_padding {
            0 => Downsample::behind(co, co, Start::Torch, vb)?,
            _ => Downsample::centred(co, co, Start::Torch, vb)?,
        };
        (Resampler::Down(down), InputPath::None)
    };
    Ok(DownLevel {
        stages,
        down: Some(down),
    })
}

/// `from` channels come from the level before, `below` from the way down at the end of this one, else `co`.
fn up_level(
    c: &UNet2DConfig,
    kind: UpBlockType,
    [from, co, below]: [usize; 3],
    last: bool,
    vb: VarBuilder,
) -> candle_core::Result<UpLevel> {
    let k = Kind::new(c, kind.skips());
    let mut stages = Vec::new();
    for j in 0..=c.layers_per_block {
        let own = if j == 0 { from } else { co };
        let skip = if j == c.layers_per_block { below } else { co };
        let groups = match kind {
            // Sic: only the second summand is divided.
            UpBlockType::AttnSkipUpBlock2D => (own + skip / 4).min(32),
            _ => k.groups(own + skip),
        };
        let res = k.res(
            (own + skip, co),
            groups,
            None,
            vb.pp(format!("resnets.{j}")),
        )?;
        let at = match kind {
            UpBlockType::AttnUpBlock2D => Some(j),
            UpBlockType::AttnSkipUpBlock2D if j == c.layers_per_block => Some(0),
            _ => None,
        };
        let attention = match at {
            Some(at) => {
                let vb = vb.pp(format!("attentions.{at}"));
                Some(k.attention(co, k.attention_groups(co), vb)?)
            }
            None => None,
        };
        stages.push(Stage { res, attention });
    }
    let output = match k.skip {
        true => {
            let norm = (k.groups(co), c.norm_eps);
            let ends = [vb.pp("skip_norm"), vb.pp("skip_conv")];
            let gain = (Start::Torch, 1.0);
            let part = match last {
                true => None,
                false => Some(Head::new(co, RGB, norm, Nonlinearity::Swish, gain, ends)?),
            };
            OutputPath::Skip {
                filter: k.filter(),
                part,
            }
        }
        false => OutputPath::None,
    };
    let resnet = kind == UpBlockType::ResnetUpsampleBlock2D
        || (kind == UpBlockType::AttnUpBlock2D && c.upsample_type == SampleType::Resnet);
    let up = if last {
        None
    } else if k.skip {
        Some(k.resizing(co, Resample::Up(k.filter()), vb.pp("resnet_up"))?)
    } else if resnet {
        Some(k.resizing(co, Resample::Up(k.filter()), vb.pp("upsamplers.0"))?)
    } else {
        let vb = vb.pp("upsamplers.0.conv");
        Some(Resampler::Up(Upsample::repeated(co, co, Start::Torch, vb)?))
    };
    Ok(UpLevel { stages, output, up })
}

/// The rows of a table (K, E) that indices (N) name, (N, E).
fn rows(name: &'static str, table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let count = table.dims()[0];
    let mut list = Vec::new();
    for v in host_values(indices)? {
        if !(v >= 0.0 && (v as usize) < count && v.fract() == 0.0) {
            return Err(argument(name, v, "the number of a row of its table"));
        }
        list.push(v as u32);
    }
    let indices = Tensor::new(list, table.device())?;
    Ok(table.index_select(&indices, 0)?)
}

fn shape(name: &'static str, got: &Tensor, expected: String) -> Error {
    Error::Shape {
        op: NETWORK,
        name,
        got: got.dims().to_vec(),
        expected,
    }
}

fn argument(name: &'static str, value: f32, need: &'static str) -> Error {
    Error::Argument {
        op: NETWORK,
        name,
        value: value.to_string(),
        need,
    }
}
