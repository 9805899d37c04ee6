//! Networks of score_sde as networks of diffusers, where it has one that computes the same: DDPM as google/ddpm-*, NCSN++ as
//! google/ncsnpp-*.

use super::to_diffusers::refuse;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use score_sde::score_net::{
    Architecture, Combine, EmbeddingType, ModelConfig, Progressive, ProgressiveInput, ResBlockType,
};
use score_sde::unet2d::{DownBlockType, TimeEmbeddingType, UpBlockType};
use score_sde::{Nonlinearity, ScoreNetConfig, UNet2DConfig};
use std::collections::HashMap;

/// Groups of normalisations that diffusers' blocks of DDPM have at every width, and its attention in NCSN++.
const GROUPS: usize = 32;
const EPS: f64 = 1e-6;

/// What a numbered module of score_sde is.
enum Module {
    Res,
    Attention,
    /// The random frequencies.
    Frequencies,
    /// A layer with a weight and a bias, perhaps under a name of its own.
    Layer,
}

/// Whether a network's levels are of diffusers' skip types.
fn skips(m: &ModelConfig) -> bool {
    m.name != Architecture::Ddpm
        && (m.progressive != Progressive::None
            || m.progressive_input != ProgressiveInput::None
            || m.fir)
}

fn biggan(m: &ModelConfig) -> bool {
    m.name != Architecture::Ddpm && m.resblock_type == ResBlockType::Biggan
}

fn attends(c: &ScoreNetConfig, level: usize) -> bool {
    let size = c.data.image_size >> level;
    c.model.attn_resolutions.contains(&size)
}

fn fourier(m: &ModelConfig) -> bool {
    m.name != Architecture::Ddpm && m.embedding_type == EmbeddingType::Fourier
}

/// The `UNet2DModel` that computes what this network does.
///
/// # Errors
/// The first option that has no counterpart.
pub(super) fn counterpart(c: &ScoreNetConfig) -> Result<UNet2DConfig> {
    use {DownBlockType as D, UpBlockType as U};
    let (m, levels) = (&c.model, c.model.ch_mult.len());
    let widths: Vec<usize> = m.ch_mult.iter().map(|mult| mult * m.nf).collect();
    let (skips, fourier) = (skips(m), fourier(m));
    let mut needs = vec![
        (m.conditional, "conditional must be true"),
        (
            m.nonlinearity == Nonlinearity::Swish,
            "nonlinearity must be swish",
        ),
        (
            m.ch_mult.first() == Some(&1),
            "ch_mult must begin with 1, as wide as the first convolution",
        ),
        (
            m.scale_by_sigma == fourier,
            "scale_by_sigma must be true with embedding_type fourier and false otherwise",
        ),
    ];
    if skips {
        let taps = m.fir_kernel == [1.0, 3.0, 3.0, 1.0];
        let narrow = (0..levels).any(|level| attends(c, level) && widths[level] / 4 < GROUPS);
        needs.extend([
            (m.fir && taps, "fir must be true with fir_kernel 1, 3, 3, 1"),
            (
                m.progressive == Progressive::OutputSkip,
                "progressive must be output_skip where there is a FIR filter or progressive_input",
            ),
            (
                m.progressive_input == ProgressiveInput::InputSkip,
                "progressive_input must be input_skip where there is a FIR filter or progressive",
            ),
            (
                m.progressive_combine == Combine::Sum,
                "progressive_combine must be sum",
            ),
            (biggan(m), "resblock_type must be biggan with output_skip"),
            (m.skip_rescale, "skip_rescale must be true with output_skip"),
            (c.data.num_channels == 3, "num_channels must be 3"),
            (
                !narrow,
                "attn_resolutions must be of levels with 128 channels or more, for 32 groups",
            ),
        ]);
    } else {
        let ddpm = m.name == Architecture::Ddpm;
        needs.extend([
            (
                ddpm || !m.skip_rescale,
                "skip_rescale must be false without output_skip and input_skip",
            ),
            (
                !biggan(m) || levels == 1,
                "resblock_type must be ddpm without output_skip and input_skip",
            ),
            (
                m.resamp_with_conv || levels == 1,
                "resamp_with_conv must be true",
            ),
            (
                ddpm || m.nf / 4 >= GROUPS,
                "nf must be 128 or more, for 32 groups everywhere",
            ),
        ]);
    }
    if let Some((_, need)) = needs.iter().find(|(fits, _)| !fits) {
        return Err(refuse(&format!(
            "no network of diffusers computes what this one of score_sde does: {need}; use --to safetensors"
        )));
    }
    let down = |level| match (skips, attends(c, level)) {
        (false, false) => D::DownBlock2D,
        (false, true) => D::AttnDownBlock2D,
        (true, false) => D::SkipDownBlock2D,
        (true, true) => D::AttnSkipDownBlock2D,
    };
    let up = |level| match (skips, attends(c, level)) {
        (false, false) => U::UpBlock2D,
        (false, true) => U::AttnUpBlock2D,
        (true, false) => U::SkipUpBlock2D,
        (true, true) => U::AttnSkipUpBlock2D,
    };
    Ok(UNet2DConfig {
        in_channels: c.data.num_channels,
        out_channels: c.data.num_channels,
        center_input_sample: !c.data.centered,
        time_embedding_type: match fourier {
            true => TimeEmbeddingType::Fourier,
            false => TimeEmbeddingType::Positional,
        },
        freq_shift: if fourier { 0.0 } else { 1.0 },
        flip_sin_to_cos: false,
        down_block_types: (0..levels).map(down).collect(),
        up_block_types: (0..levels).rev().map(up).collect(),
        block_out_channels: widths,
        layers_per_block: m.num_res_blocks,
        mid_block_scale_factor: if skips { std::f64::consts::SQRT_2 } else { 1.0 },
        downsample_padding: 0,
        dropout: m.dropout,
        attention_head_dim: None,
        norm_num_groups: (!skips).then_some(GROUPS),
        norm_eps: EPS,
        ..UNet2DConfig::default()
    })
}

/// The numbered modules in their order, each with its place in diffusers.
fn places(c: &ScoreNetConfig) -> Vec<(Module, String)> {
    use Module::{Attention, Frequencies, Layer, Res};
    let (m, levels, last) = (&c.model, c.model.ch_mult.len(), c.model.num_res_blocks);
    let skips = skips(m);
    let mut all = Vec::new();
    let mut add = |module, place: String| all.push((module, place));
    if fourier(m) {
        add(Frequencies, "time_proj".into());
    }
    add(Layer, "time_embedding.linear_1".into());
    add(Layer, "time_embedding.linear_2".into());
    add(Layer, "conv_in".into());
    for level in 0..levels {
        let at = |part: &str| format!("down_blocks.{level}.{part}");
        for i in 0..last {
            add(Res, at(&format!("resnets.{i}")));
            if attends(c, level) {
                add(Attention, at(&format!("attentions.{i}")));
            }
        }
        if level + 1 < levels && biggan(m) {
            add(Res, at("resnet_down"));
        } else if level + 1 < levels {
            add(Layer, at("downsamplers.0.conv"));
        }
        if level + 1 < levels && skips {
            add(Layer, at("skip_conv"));
        }
    }
    add(Res, "mid_block.resnets.0".into());
    add(Attention, "mid_block.attentions.0".into());
    add(Res, "mid_block.resnets.1".into());
    for level in (0..levels).rev() {
        let at = |part: &str| format!("up_blocks.{}.{part}", levels - 1 - level);
        for i in 0..=last {
            add(Res, at(&format!("resnets.{i}")));
        }
        if attends(c, level) {
            let index = if skips { 0 } else { last };
            add(Attention, at(&format!("attentions.{index}")));
        }
        if skips && level > 0 {
            add(Layer, at("skip_norm"));
            add(Layer, at("skip_conv"));
        }
        if level > 0 && biggan(m) {
            add(Res, at("resnet_up"));
        } else if level > 0 {
            add(Layer, at("upsamplers.0.conv"));
        }
    }
    add(Layer, "conv_norm_out".into());
    add(Layer, "conv_out".into());
    all
}

/// The network's tensors by diffusers' names.
pub(super) fn renamed(
    c: &ScoreNetConfig,
    unet: &UNet2DConfig,
    tensors: HashMap<String, Tensor>,
) -> Result<HashMap<String, Tensor>> {
    let places = places(c);
    let mut out = HashMap::new();
    let dtype = tensors.values().next().map_or(DType::F32, Tensor::dtype);
    for (name, tensor) in tensors {
        // Noise levels of networks that are told of times: diffusers' schedulers have their own.
        if name == "sigmas" {
            continue;
        }
        let none = || refuse(&format!("tensor {name} has no place in diffusers"));
        let rest = name.strip_prefix("all_modules.").ok_or_else(none)?;
        let (number, rest) = rest.split_once('.').ok_or_else(none)?;
        let place = number.parse().ok().and_then(|i: usize| places.get(i));
        let (module, at) = place.ok_or_else(none)?;
        let (inner, last) = rest.rsplit_once('.').unwrap_or(("", rest));
        let part = match (module, inner) {
            (Module::Res, "GroupNorm_0") => "norm1",
            (Module::Res, "Conv_0") => "conv1",
            (Module::Res, "Dense_0") => "time_emb_proj",
            (Module::Res, "GroupNorm_1") => "norm2",
            (Module::Res, "Conv_1") => "conv2",
            (Module::Res, "NIN_0" | "Conv_2") => "conv_shortcut",
            (Module::Attention, "GroupNorm_0") => "group_norm",
            (Module::Attention, "NIN_0") => "to_q",
            (Module::Attention, "NIN_1") => "to_k",
            (Module::Attention, "NIN_2") => "to_v",
            (Module::Attention, "NIN_3") => "to_out.0",
            (Module::Frequencies | Module::Layer, _) => "",
            _ => return Err(none()),
        };
        // Maps of channels stand (in, out) there.
        let turned = inner.starts_with("NIN_") && last == "W";
        let tensor = match (turned, module) {
            (true, Module::Res) => tensor.t()?.contiguous()?.unsqueeze(2)?.unsqueeze(3)?,
            (true, _) => tensor.t()?.contiguous()?,
            _ => tensor,
        };
        let last = match last {
            "W" => "weight",
            "b" => "bias",
            other => other,
        };
        let dot = if part.is_empty() { "" } else { "." };
        out.insert(format!("{at}{dot}{part}.{last}"), tensor);
    }
    let expected = unet.tensors()?;
    if !skips(&c.model) {
        silent(c, &expected, dtype, &mut out)?;
    }
    let wrong = expected.iter().find(|(name, shape)| {
        let tensor = out.get(name);
        tensor.is_none_or(|tensor| tensor.dims() != shape.as_slice())
    });
    match wrong {
        None if out.len() == expected.len() => Ok(out),
        None => Err(refuse("more tensors than the network of diffusers has")),
        Some((name, shape)) => Err(Error::Argument(format!(
            "--to diffusers: tensor {name} of shape {shape:?} has no counterpart in this network"
        ))),
    }
}

/// On the way up score_sde has attention behind the last block of a level alone, diffusers' `AttnUpBlock2D` behind each: the
/// others get parameters with which they add nothing.
fn silent(
    c: &ScoreNetConfig,
    expected: &[(String, Vec<usize>)],
    dtype: DType,
    out: &mut HashMap<String, Tensor>,
) -> Result<()> {
    for (name, shape) in expected {
        let extra = (0..c.model.num_res_blocks)
            .any(|i| name.starts_with("up_blocks.") && name.contains(&format!(".attentions.{i}.")));
        if !extra {
            continue;
        }
        let tensor = match name.ends_with("group_norm.weight") {
            true => Tensor::ones(shape.as_slice(), dtype, &Device::Cpu)?,
            false => Tensor::zeros(shape.as_slice(), dtype, &Device::Cpu)?,
        };
        out.insert(name.clone(), tensor);
    }
    Ok(())
}
