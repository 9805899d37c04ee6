//! A model as a folder that diffusers loads: `model_index.json`, `unet/` and `scheduler/`.

use super::diffusers::VeScheduler;
use super::score_sde_to_diffusers;
use crate::error::{Error, Result};
use crate::files::{FileError, write_atomic, write_folder};
use crate::sgm::{NetworkConfig, ProcessConfig, Scheduler, SgmConfig, VarianceType};
use candle_core::Tensor;
use checkpoints::names::{Place, improved_to_diffusers};
use checkpoints::safetensors::{self, Precision};
use score_sde::diffusion::{BetaCurve, Schedule};
use score_sde::sde::{Process, Vp};
use score_sde::unet2d::{DownBlockType, SampleSize, TimeScaleShift, UpBlockType};
use score_sde::{DiffusionConfig, UNet2DConfig, UNetConfig};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// The version of diffusers whose names and defaults these are.
const VERSION: &str = "0.42.1";

pub(super) fn write(
    config: &SgmConfig,
    tensors: HashMap<String, Tensor>,
    precision: Option<Precision>,
    out: &Path,
) -> Result<()> {
    let (mut unet, tensors) = match &config.network {
        NetworkConfig::Diffusers(unet) => (unet.clone(), tensors),
        NetworkConfig::ImprovedDiffusion(unet) => (counterpart(unet)?, renamed(unet, tensors)?),
        NetworkConfig::ScoreSde(net) => {
            let unet = score_sde_to_diffusers::counterpart(net)?;
            let tensors = score_sde_to_diffusers::renamed(net, &unet, tensors)?;
            (unet, tensors)
        }
    };
    unet.sample_size = Some(match config.size {
        [height, width] if height == width => SampleSize::Square(height),
        sides => SampleSize::Rectangle(sides),
    });
    let (pipeline, class, scheduler) = scheduler(config)?;
    let unet = labelled(&unet, "UNet2DModel")?;
    let index = json!({
        "_class_name": pipeline,
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", class],
        "unet": ["diffusers", "UNet2DModel"],
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::to_bytes(tensors, precision, Some(metadata))?;
    write_folder(out, "model_index.json", |folder| {
        for part in ["unet", "scheduler"] {
            let path = folder.join(part);
            std::fs::create_dir(&path).map_err(|source| FileError::Write { path, source })?;
        }
        for (name, value) in [
            ("model_index.json", &index),
            ("unet/config.json", &unet),
            ("scheduler/scheduler_config.json", &scheduler),
        ] {
            let text = format!("{value:#}\n");
            write_atomic(folder.join(name), |w| w.write_all(text.as_bytes()))?;
        }
        let name = "unet/diffusion_pytorch_model.safetensors";
        write_atomic(folder.join(name), |w| w.write_all(&weights))
    })?;
    Ok(())
}

pub(super) fn refuse(why: &str) -> Error {
    Error::Argument(format!("--to diffusers: {why}"))
}

/// A configuration with its class, as diffusers' files have it.
fn labelled(config: &impl Serialize, class: &str) -> Result<Value> {
    let mut value = serde_json::to_value(config).map_err(|e| Error::Argument(e.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("_class_name".into(), class.into());
        fields.insert("_diffusers_version".into(), VERSION.into());
    }
    Ok(value)
}

/// Pipeline, class and configuration of the scheduler.
fn scheduler(config: &SgmConfig) -> Result<(&'static str, &'static str, Value)> {
    let ddpm = |scheduler: &Scheduler| {
        let (pipeline, class, other) = match config.sample.sampler.as_str() {
            "ddim" => ("DDIMPipeline", "DDIMScheduler", "variance_type"),
            _ => ("DDPMPipeline", "DDPMScheduler", "set_alpha_to_one"),
        };
        let mut value = labelled(scheduler, class)?;
        // A field of the other scheduler, which this one warns of.
        value
            .as_object_mut()
            .and_then(|fields| fields.remove(other));
        Ok((pipeline, class, value))
    };
    match &config.process {
        ProcessConfig::Diffusers(scheduler) => ddpm(scheduler),
        ProcessConfig::ImprovedDiffusion(process) => ddpm(&discrete(process)?),
        ProcessConfig::ScoreSde(sde) => {
            let ve = match sde.process {
                Process::Ve(ve) => ve,
                Process::Vp(vp) => return ddpm(&chain(vp, sde.centered)?),
                _ => return Err(refuse("diffusers has no scheduler of subvpsde")),
            };
            if sde.centered {
                return Err(refuse(
                    "ScoreSdeVePipeline makes pictures in [0, 1], this network's are in [-1, 1] (centered)",
                ));
            }
            let options = &config.sample.predictor_corrector;
            let scheduler = VeScheduler {
                num_train_timesteps: ve.num_scales,
                snr: options.snr,
                sigma_min: ve.sigma_min,
                sigma_max: ve.sigma_max,
                sampling_eps: options.eps,
                correct_steps: options.n_steps_each,
            };
            let class = "ScoreSdeVeScheduler";
            Ok(("ScoreSdeVePipeline", class, labelled(&scheduler, class)?))
        }
    }
}

/// The chain of score_sde's VP process, whose ancestral sampler has the variance beta and clips nothing. Its networks are
/// told 999 t, that is the number of the step of a thousand.
fn chain(vp: Vp, centered: bool) -> Result<Scheduler> {
    if vp.num_scales != 1000 {
        return Err(refuse(
            "the network is shown times of a thousand steps, diffusers would show their numbers (num_scales is not 1000)",
        ));
    }
    if !centered {
        return Err(refuse(
            "DDPMPipeline makes pictures in [-1, 1], this network's are in [0, 1] (centered is false)",
        ));
    }
    Ok(Scheduler {
        num_train_timesteps: vp.num_scales,
        beta_start: vp.beta_min / vp.num_scales as f64,
        beta_end: vp.beta_max / vp.num_scales as f64,
        variance_type: VarianceType::FixedLarge,
        clip_sample: false,
        ..Scheduler::default()
    })
}

/// improved-diffusion's process by diffusers' fields.
fn discrete(c: &DiffusionConfig) -> Result<Scheduler> {
    if c.rescale_timesteps && c.diffusion_steps != 1000 {
        return Err(refuse(
            "the network is shown steps scaled to 1000 (rescale_timesteps), diffusers shows their numbers",
        ));
    }
    let scale = 1000.0 / c.diffusion_steps.max(1) as f64;
    Ok(Scheduler {
        num_train_timesteps: c.diffusion_steps,
        beta_start: scale * 0.0001,
        beta_end: scale * 0.02,
        beta_schedule: match c.noise_schedule {
            Schedule::Linear => BetaCurve::Linear,
            Schedule::Cosine => BetaCurve::SquaredCosine,
        },
        variance_type: match (c.learn_sigma, c.sigma_small) {
            (true, _) => VarianceType::LearnedRange,
            (false, true) => VarianceType::FixedSmall,
            (false, false) => VarianceType::FixedLarge,
        },
        prediction_type: if c.predict_xstart {
            "sample"
        } else {
            "epsilon"
        }
        .into(),
        ..Scheduler::default()
    })
}

/// The `UNet2DModel` that computes what improved-diffusion's U-Net does.
fn counterpart(c: &UNetConfig) -> Result<UNet2DConfig> {
    let levels = c.channel_mult.len();
    if c.channel_mult.first() != Some(&1) {
        return Err(refuse(
            "the first level is wider than the first convolution",
        ));
    }
    if !c.conv_resample && levels > 1 {
        return Err(refuse(
            "sizes change without convolutions (conv_resample is false)",
        ));
    }
    let attends = |level: usize| c.attention_resolutions.contains(&(1 << level));
    let widths: Vec<usize> = c
        .channel_mult
        .iter()
        .map(|m| m * c.model_channels)
        .collect();
    let attended = (0..levels).filter(|&level| level + 1 == levels || attends(level));
    let mut heads: Vec<usize> = attended
        .map(|level| widths[level] / c.num_heads.max(1))
        .collect();
    heads.dedup();
    let same = c.num_heads_upsample.is_none_or(|n| n == c.num_heads);
    let attention_head_dim = match (c.num_heads, heads.as_slice()) {
        (1, _) if same => None,
        (_, &[width]) if same => Some(width),
        _ => {
            return Err(refuse(
                "heads of attention have another width at each level, in diffusers they all have one",
            ));
        }
    };
    let down = |level| match attends(level) {
        true => DownBlockType::AttnDownBlock2D,
        false => DownBlockType::DownBlock2D,
    };
    let up = |level| match attends(level) {
        true => UpBlockType::AttnUpBlock2D,
        false => UpBlockType::UpBlock2D,
    };
    Ok(UNet2DConfig {
        in_channels: c.in_channels,
        out_channels: c.out_channels,
        down_block_types: (0..levels).map(down).collect(),
        up_block_types: (0..levels).rev().map(up).collect(),
        block_out_channels: widths,
        layers_per_block: c.num_res_blocks,
        attention_head_dim,
        attn_norm_num_groups: Some(32),
        resnet_time_scale_shift: match c.use_scale_shift_norm {
            true => TimeScaleShift::ScaleShift,
            false => TimeScaleShift::Default,
        },
        dropout: c.dropout,
        num_class_embeds: c.num_classes,
        ..UNet2DConfig::default()
    })
}

/// Its tensors by diffusers' names.
fn renamed(c: &UNetConfig, tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut out = HashMap::new();
    for (name, tensor) in tensors {
        // A 1-D convolution over one pixel is a linear layer.
        let flat = |t: Tensor| match t.dims() {
            [co, ci, 1] => t.reshape((*co, *ci)),
            _ => Ok(t),
        };
        match improved_to_diffusers(&name, c.num_res_blocks) {
            Some(Place::One(to)) => {
                out.insert(to, flat(tensor)?);
            }
            Some(Place::Three(to)) => {
                let tensor = flat(tensor)?;
                let heads = match name.starts_with("output_blocks.") {
                    true => c.num_heads_upsample.unwrap_or(c.num_heads),
                    false => c.num_heads,
                };
                // Each head has its queries, keys and values together: (heads, 3, width, ...).
                let rows = tensor.dim(0)? / 3;
                let rest = tensor.dims().get(1..).unwrap_or_default().to_vec();
                let shape = [&[heads, 3, rows / heads.max(1)], rest.as_slice()].concat();
                let apart = tensor.contiguous()?.reshape(shape)?;
                for (i, to) in to.into_iter().enumerate() {
                    let part = apart.narrow(1, i, 1)?.contiguous()?;
                    let shape = [&[rows], rest.as_slice()].concat();
                    out.insert(to, part.reshape(shape)?);
                }
            }
            None => {
                return Err(refuse(&format!("tensor {name} has no place in diffusers")));
            }
        }
    }
    Ok(out)
}
