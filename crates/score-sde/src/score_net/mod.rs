//! The networks of score_sde (Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential
//! Equations", arXiv 2011.13456): DDPM, DDPM++ and NCSN++, name for name and number for number, so that its checkpoints
//! load. All are one U whose modules are counted in the order they are used.

mod config;

use crate::blocks::{
    AttentionBlock, AttentionNames, AttentionSpec, Body, DownLevel, Downsample, DropMask, Filter,
    Head, InputPath, Layout, Mlp, OutputPath, Pointwise, Qkv, ResBlock, ResNames, ResSpec,
    Resample, Resampler, Skip, Stage, Start, UpLevel, Upsample, conv, fourier, host_values,
    sinusoids,
};
use crate::error::{Error, Result};
use crate::pictures::per_picture;
use candle_core::Tensor;
use candle_nn::{Init, VarBuilder};
use config::NETWORK;
pub use config::{
    Architecture, Combine, DataConfig, EmbeddingType, ModelConfig, Progressive, ProgressiveInput,
    ResBlockType, ScoreNetConfig,
};
use nn_ops::Conv2dConfig;
use nn_ops::plan::Plans;

/// Epsilon of every normalisation.
const EPS: f64 = 1e-6;
/// Variance with which DDPM's 1 x 1 maps begin.
const NIN: f64 = 0.1;

const DDPM: ResNames = ResNames {
    norm_in: "GroupNorm_0",
    conv_in: "Conv_0",
    emb: "Dense_0",
    norm_out: "GroupNorm_1",
    conv_out: "Conv_1",
    skip: "NIN_0",
};

const BIGGAN: ResNames = ResNames {
    skip: "Conv_2",
    ..DDPM
};

const ATTENTION: AttentionNames = AttentionNames {
    norm: "GroupNorm_0",
    qkv: Qkv::Separate(["NIN_0", "NIN_1", "NIN_2"]),
    out: "NIN_3",
    layout: Layout::Nin,
};

/// A network: (N, C, H, W) and N time steps or noise levels to (N, C, H, W).
#[derive(Debug, Clone)]
pub struct ScoreNet {
    config: ScoreNetConfig,
    /// The random frequencies (nf).
    frequencies: Option<Tensor>,
    time: Option<Mlp>,
    body: Body,
    plans: Plans,
    head: Option<Head>,
    sigmas: Vec<f64>,
}

/// The numbered modules of a checkpoint.
struct Modules<'a> {
    vb: VarBuilder<'a>,
    next: usize,
}

impl<'a> Modules<'a> {
    fn next(&mut self) -> VarBuilder<'a> {
        self.next += 1;
        self.vb.pp(self.next - 1)
    }
}

/// What the configuration says to every block.
struct Plan<'a> {
    model: &'a ModelConfig,
    ddpm: bool,
    filter: Filter,
    rescale: f64,
    /// Gain of the last layer of each block.
    gain: f64,
}

impl<'a> Plan<'a> {
    fn new(model: &'a ModelConfig) -> Self {
        let ddpm = model.name == Architecture::Ddpm;
        let filter = match model.fir && !ddpm {
            true => Filter::Fir(model.fir_kernel.clone()),
            false => Filter::Box,
        };
        Self {
            model,
            ddpm,
            filter,
            rescale: match model.skip_rescale && !ddpm {
                true => std::f64::consts::SQRT_2,
                false => 1.0,
            },
            gain: if ddpm { 0.0 } else { model.init_scale },
        }
    }

    fn biggan(&self) -> bool {
        !self.ddpm && self.model.resblock_type == ResBlockType::Biggan
    }

    fn groups(&self, channels: usize) -> usize {
        if self.ddpm {
            32
        } else {
            (channels / 4).min(32)
        }
    }

    fn res(
        &self,
        ci: usize,
        co: usize,
        resample: Option<Resample>,
        vb: VarBuilder,
    ) -> candle_core::Result<ResBlock> {
        let biggan = self.biggan();
        let spec = ResSpec {
            ci,
            co,
            emb: 4 * self.model.nf,
            groups: (self.groups(ci), self.groups(co)),
            eps: EPS,
            act: self.model.nonlinearity,
            scale_shift: false,
            dropout: self.model.dropout,
            skip: Skip {
                layout: if biggan { Layout::Conv2d } else { Layout::Nin },
                gain: if biggan { 1.0 } else { NIN },
                always: resample.is_some(),
            },
            resample,
            rescale: self.rescale,
            start: Start::FanAvg,
            gain: self.gain,
            names: if biggan { &BIGGAN } else { &DDPM },
        };
        ResBlock::new(spec, vb)
    }

    fn attention(&self, channels: usize, vb: VarBuilder) -> candle_core::Result<AttentionBlock> {
        let spec = AttentionSpec {
            channels,
            heads: 1,
            head_width: channels,
            groups: Some(self.groups(channels)),
            eps: EPS,
            rescale: self.rescale,
            start: Start::FanAvg,
            gains: (NIN, self.gain),
            names: &ATTENTION,
        };
        AttentionBlock::new(&spec, vb)
    }

    fn head(
        &self,
        ci: usize,
        co: usize,
        gain: f64,
        modules: &mut Modules,
    ) -> candle_core::Result<Head> {
        let norm = (self.groups(ci), EPS);
        let ends = [modules.next(), modules.next()];
        let act = self.model.nonlinearity;
        Head::new(ci, co, norm, act, (Start::FanAvg, gain), ends)
    }

    /// A change of size with parameters.
    fn down(&self, ci: usize, co: usize, vb: VarBuilder) -> candle_core::Result<Downsample> {
        match &self.filter {
            Filter::Box => Downsample::behind(ci, co, Start::FanAvg, vb.pp("Conv_0")),
            Filter::Fir(taps) => {
                Downsample::filtered(ci, co, taps, Start::FanAvg, vb.pp("Conv2d_0"))
            }
        }
    }

    fn up(&self, ci: usize, co: usize, vb: VarBuilder) -> candle_core::Result<Upsample> {
        match &self.filter {
            Filter::Box => Upsample::repeated(ci, co, Start::FanAvg, vb.pp("Conv_0")),
            Filter::Fir(taps) => Upsample::filtered(ci, co, taps, Start::FanAvg, vb.pp("Conv2d_0")),
        }
    }
}

impl ScoreNet {
    /// Reads or creates the parameters, named as in score_sde's checkpoints without their "module.".
    ///
    /// # Errors
    /// A configuration out of range; a missing or misshapen parameter, by its name.
    pub fn new(config: ScoreNetConfig, vb: VarBuilder) -> Result<Self> {
        config.check()?;
        Self::build(config, vb)
    }

    fn build(config: ScoreNetConfig, vb: VarBuilder) -> Result<Self> {
        let (m, channels) = (&config.model, config.data.num_channels);
        let plan = Plan::new(m);
        let sigmas = match vb.contains_tensor("sigmas") {
            // A buffer of the checkpoint, in place of what the configuration says.
            true => (vb.get(m.num_scales, "sigmas")?)
                .to_device(&candle_core::Device::Cpu)?
                .to_dtype(candle_core::DType::F64)?
                .to_vec1()?,
            false => config.sigmas(),
        };
        let mut modules = Modules {
            vb: vb.pp("all_modules"),
            next: 0,
        };

        let random = !plan.ddpm && m.embedding_type == EmbeddingType::Fourier;
        let frequencies = if random {
            let init = Init::Randn {
                mean: 0.0,
                stdev: m.fourier_scale,
            };
            Some(modules.next().get_with_hints(m.nf, "W", init)?)
        } else {
            None
        };
        let time = if m.conditional {
            let features = if random { 2 * m.nf } else { m.nf };
            let layers = [modules.next(), modules.next()];
            let act = m.nonlinearity;
            Some(Mlp::new(features, 4 * m.nf, act, Start::FanAvg, layers)?)
        } else {
            None
        };

        let same = Conv2dConfig::same(3);
        let first = conv(channels, m.nf, 3, same, Start::FanAvg, 1.0, modules.next())?;
        let (progressive, input) = match plan.ddpm {
            true => (Progressive::None, ProgressiveInput::None),
            false => (m.progressive, m.progressive_input),
        };
        let levels = m.ch_mult.len();
        let attended = |level: usize| {
            m.attn_resolutions
                .contains(&(config.data.image_size >> level))
        };

        let (mut widths, mut ch, mut input_ch) = (vec![m.nf], m.nf, channels);
        let mut down = Vec::new();
        for (level, mult) in m.ch_mult.iter().enumerate() {
            let mut stages = Vec::new();
            for _ in 0..m.num_res_blocks {
                let res = plan.res(ch, mult * m.nf, None, modules.next())?;
                ch = mult * m.nf;
                let attention = match attended(level) {
                    true => Some(plan.attention(ch, modules.next())?),
                    false => None,
                };
                stages.push(Stage { res, attention });
                widths.push(ch);
            }
            let next = if level + 1 < levels {
                let resampler = if plan.biggan() {
                    let resample = Some(Resample::Down(plan.filter.clone()));
                    Resampler::Block(Box::new(plan.res(ch, ch, resample, modules.next())?))
                } else {
                    // Without parameters it is a module all the same.
                    let vb = modules.next();
                    Resampler::Down(match m.resamp_with_conv {
                        true => plan.down(ch, ch, vb)?,
                        false => Downsample::Plain(plan.filter.clone()),
                    })
                };
                let path = match input {
                    ProgressiveInput::None => InputPath::None,
                    ProgressiveInput::InputSkip => {
                        let vb = modules.next().pp("Conv_0");
                        let layout = Layout::Conv2d;
                        let map = Pointwise::new(channels, ch, layout, Start::FanAvg, 1.0, vb)?;
                        let cat = m.progressive_combine == Combine::Cat;
                        if cat {
                            ch *= 2;
                        }
                        let filter = plan.filter.clone();
                        InputPath::Skip { filter, map, cat }
                    }
                    ProgressiveInput::Residual => {
                        let down = plan.down(input_ch, ch, modules.next())?;
                        input_ch = ch;
                        InputPath::Residual {
                            down,
                            rescale: plan.rescale,
                        }
                    }
                };
                widths.push(ch);
                Some((resampler, path))
            } else {
                None
            };
            down.push(DownLevel { stages, down: next });
        }

        let middle = vec![
            Stage {
                res: plan.res(ch, ch, None, modules.next())?,
                attention: Some(plan.attention(ch, modules.next())?),
            },
            Stage {
                res: plan.res(ch, ch, None, modules.next())?,
                attention: None,
            },
        ];

        let mut output_ch = 0;
        let mut up = Vec::new();
        for (level, mult) in m.ch_mult.iter().enumerate().rev() {
            let mut stages = Vec::new();
            for i in 0..=m.num_res_blocks {
                let skip = widths.pop().unwrap_or(m.nf);
                let res = plan.res(ch + skip, mult * m.nf, None, modules.next())?;
                ch = mult * m.nf;
                let attention = match attended(level) && i == m.num_res_blocks {
                    true => Some(plan.attention(ch, modules.next())?),
                    false => None,
                };
                stages.push(Stage { res, attention });
            }
            let output = match progressive {
                Progressive::None => OutputPath::None,
                Progressive::OutputSkip => OutputPath::Skip {
                    filter: plan.filter.clone(),
                    part: Some(plan.head(ch, channels, plan.gain, &mut modules)?),
                },
                Progressive::Residual if level + 1 == levels => {
                    OutputPath::Begin(plan.head(ch, ch, 1.0, &mut modules)?)
                }
                Progressive::Residual => OutputPath::Residual {
                    up: plan.up(output_ch, ch, modules.next())?,
                    rescale: plan.rescale,
                },
            };
            output_ch = ch;
            let next = if level == 0 {
                None
            } else if plan.biggan() {
                let resample = Some(Resample::Up(plan.filter.clone()));
                let block = plan.res(ch, ch, resample, modules.next())?;
                Some(Resampler::Block(Box::new(block)))
            } else {
                let vb = modules.next();
                Some(Resampler::Up(match m.resamp_with_conv {
                    true => plan.up(ch, ch, vb)?,
                    false => Upsample::Plain(plan.filter.clone()),
                }))
            };
            up.push(UpLevel {
                stages,
                output,
                up: next,
            });
        }
        let head = match progressive {
            Progressive::OutputSkip => None,
            _ => Some(plan.head(ch, channels, plan.gain, &mut modules)?),
        };
        Ok(Self {
            frequencies,
            time,
            body: Body {
                first,
                down,
                middle,
                up,
            },
            head,
            plans: Plans::default(),
            sigmas,
            config,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &ScoreNetConfig {
        &self.config
    }

    /// The network's output for x (N, C, H, W) and t (N): noise levels sigma for random frequencies, else time steps,
    /// 999 t or indices.
    ///
    /// H and W must be divisible by 2^(levels - 1); attention stays at its levels where they are not `image_size`.
    /// With `scale_by_sigma` and time steps, t rounded towards zero is an index of the noise levels, the most noise first.
    /// `mask` is the source of dropout while training, none otherwise.
    ///
    /// # Errors
    /// Shapes that do not fit, a noise level that is not positive, a time step without a noise level.
    pub fn forward(&self, x: &Tensor, t: &Tensor, mask: Option<&dyn DropMask>) -> Result<Tensor> {
        let (data, factor) = (&self.config.data, self.config.factor());
        let fits = |dims: &[usize]| {
            matches!(dims, [_, c, h, w] if *c == data.num_channels
                && *h > 0 && *w > 0 && h % factor == 0 && w % factor == 0)
        };
        if !fits(x.dims()) {
            return Err(Error::Shape {
                op: NETWORK,
                name: "x",
                got: x.dims().to_vec(),
                expected: format!(
                    "(N, {}, H, W) with H and W divisible by {factor}",
                    data.num_channels
                ),
            });
        }
        let n = x.dims()[0];
        if t.dims() != [n] {
            return Err(Error::Shape {
                op: NETWORK,
                name: "t",
                got: t.dims().to_vec(),
                expected: format!("({n},)"),
            });
        }
        let sigmas = self.noise_levels(t)?;

        let emb = match &self.time {
            Some(mlp) => {
                let emb = match &self.frequencies {
                    Some(w) => fourier(t, w, false)?,
                    None => self.positional(t)?,
                };
                let emb = mlp.forward(&emb.to_dtype(x.dtype())?)?;
                // Every block begins by activating the embedding: once is enough.
                Some(self.config.model.nonlinearity.apply(&emb)?)
            }
            None => None,
        };
        let x = match data.centered {
            true => x.clone(),
            false => ((x * 2.0)? - 1.0)?,
        };
        let network = |x: &Tensor, emb: Option<&Tensor>| {
            let (h, output) = self.body.forward(x, emb, mask)?;
            match &self.head {
                Some(head) => head.forward(&h),
                None => Ok(output.unwrap_or(h)),
            }
        };
        let h = match (mask, &emb) {
            (Some(_), emb) => network(&x, emb.as_ref())?,
            (None, Some(emb)) => self
                .plans
                .one(&[&x, emb], |t| network(&t[0], Some(&t[1])))?,
            (None, None) => self.plans.one(&[&x], |t| network(&t[0], None))?,
        };
        match sigmas {
            Some(sigmas) => {
                let inverse: Vec<f64> = sigmas.iter().map(|s| 1.0 / s).collect();
                Ok(h.broadcast_mul(&per_picture(&h, &inverse)?)?)
            }
            None => Ok(h),
        }
    }

    /// The frequencies of DDPM's TensorFlow program, the last one exactly 1/10000.
    fn positional(&self, t: &Tensor) -> candle_core::Result<Tensor> {
        let half = self.config.model.nf / 2;
        let step = -(10_000f64.ln() / (half - 1) as f64) as f32;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| libm::exp(f64::from(i as f32 * step)) as f32)
            .collect();
        sinusoids(t, &frequencies, self.config.model.nf, false)
    }

    /// What the output is divided by, if by anything.
    fn noise_levels(&self, t: &Tensor) -> Result<Option<Vec<f64>>> {
        let refuse = |value: f32, need| {
            Err(Error::Argument {
                op: NETWORK,
                name: "t",
                value: value.to_string(),
                need,
            })
        };
        let values = host_values(t)?;
        if self.frequencies.is_some() {
            let positive = |v: &&f32| !(**v > 0.0 && v.is_finite());
            if let Some(&v) = values.iter().find(positive) {
                return refuse(v, "a noise level, positive");
            }
            let levels = values.iter().map(|v| f64::from(*v)).collect();
            return Ok(self.config.model.scale_by_sigma.then_some(levels));
        }
        if !self.config.model.scale_by_sigma {
            return Ok(None);
        }
        let mut levels = Vec::with_capacity(values.len());
        for v in values {
            match self.sigmas.get(v.trunc() as usize) {
                Some(sigma) if v >= 0.0 => levels.push(*sigma),
                _ => return refuse(v, "the index of one of num_scales noise levels"),
            }
        }
        Ok(Some(levels))
    }
}
