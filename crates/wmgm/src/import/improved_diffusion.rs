//! improved-diffusion's U-Net: its architecture from names and shapes.
//!
//! Tensors tell everything but the number of heads. Of the pictures and the process they tell nothing but whether
//! variances are learned.

use super::given::Given;
use super::{Imported, ImportedModel};
use crate::error::{Error, Result};
use crate::sgm::{NetworkConfig, ProcessConfig, SampleConfig, SgmConfig};
use checkpoints::Checkpoint;
use score_sde::diffusion::Schedule;
use score_sde::sampler::PredictorCorrector;
use score_sde::{DiffusionConfig, UNetConfig};
use serde_json::Value;

const WHOSE: &str = "improved-diffusion";
/// The most blocks on the way down; twelve levels of 64 and their halvings.
const MAX_BLOCKS: usize = 1000;

/// A level on the way down.
#[derive(Default)]
struct Level {
    widths: Vec<usize>,
    attended: usize,
}

pub(super) fn read(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let unet = architecture(&state, &mut given)?;
    let (process, size) = process(&unet, &mut given)?;
    given.finish(WHOSE)?;
    let network = NetworkConfig::ImprovedDiffusion(unet);
    state.accounts_for("improved-diffusion's U-Net", &network.tensors()?)?;
    let sample = SampleConfig {
        sampler: "ddpm".into(),
        steps: process.build()?.steps(),
        predictor_corrector: PredictorCorrector::default(),
    };
    let process = ProcessConfig::ImprovedDiffusion(process);
    let config = SgmConfig::new([size; 2], network, process, sample);
    Ok(Imported {
        model: ImportedModel::Sgm(Box::new(config)),
        state,
        notes: Vec::new(),
    })
}

/// The network. Fields of `given` must agree with it, whether they are the program's flags or its constructor's.
fn architecture(state: &Checkpoint, given: &mut Given) -> Result<UNetConfig> {
    let odd = |what: String| {
        Error::Weights(checkpoints::Error::File {
            path: state.path().into(),
            reason: format!("as improved-diffusion's U-Net it is irregular: {what}"),
        })
    };
    let shape = |name: &str| state.get(name).map(|t| t.shape());
    let dim = |name: &str, at: usize| {
        let found = shape(name).and_then(|s| s.get(at).copied());
        found.ok_or_else(|| odd(format!("tensor {name} is missing or of too few dimensions")))
    };
    let base = dim("input_blocks.0.0.weight", 0)?;
    let in_channels = dim("input_blocks.0.0.weight", 1)?;
    let out_channels = dim("out.2.weight", 0)?;
    let index = |name: &str| -> Option<usize> {
        name.strip_prefix("input_blocks.")?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let last = state.names().filter_map(index).max().unwrap_or(0);
    if last > MAX_BLOCKS || base == 0 {
        return Err(odd(format!("{last} input_blocks, {base} channels")));
    }
    let mut levels = vec![Level::default()];
    let mut convolved = None;
    let mut scale_shift = false;
    for i in 1..=last {
        let Some(level) = levels.last_mut() else {
            break;
        };
        if let Some(&[width, ..]) = shape(&format!("input_blocks.{i}.0.in_layers.2.weight")) {
            level.widths.push(width);
            let attends = shape(&format!("input_blocks.{i}.1.qkv.weight")).is_some();
            level.attended += usize::from(attends);
            let emb = dim(&format!("input_blocks.{i}.0.emb_layers.1.weight"), 0)?;
            scale_shift = emb == 2 * width;
        } else {
            // A block without tensors halves by means of pixels.
            let op = shape(&format!("input_blocks.{i}.0.op.weight")).is_some();
            if convolved.replace(op).is_some_and(|before| before != op) {
                return Err(odd("it halves with convolutions and without".into()));
            }
            levels.push(Level::default());
        }
    }
    let blocks = levels[0].widths.len();
    let mut channel_mult = Vec::new();
    let mut attention_resolutions = Vec::new();
    for (i, level) in levels.iter().enumerate() {
        let width = level.widths.first().copied().unwrap_or(0);
        let even = level.widths.iter().all(|w| *w == width) && width.is_multiple_of(base);
        let attends = level.attended == blocks;
        if level.widths.len() != blocks || !even || !(attends || level.attended == 0) || i > 16 {
            return Err(odd(format!(
                "level {i} has blocks of widths {:?}, {} with attention; the first level has {blocks} blocks",
                level.widths, level.attended
            )));
        }
        channel_mult.push(width / base);
        if attends {
            attention_resolutions.push(1 << i);
        }
    }
    let num_classes = shape("label_emb.weight").and_then(|s| s.first().copied());

    given.agree("in_channels", &in_channels)?;
    given.agree("out_channels", &out_channels)?;
    given.agree("model_channels", &base)?;
    given.agree("num_channels", &base)?;
    given.agree("num_res_blocks", &blocks)?;
    given.agree("channel_mult", &channel_mult)?;
    given.agree("num_classes", &num_classes)?;
    given.agree("class_cond", &num_classes.is_some())?;
    given.agree("use_scale_shift_norm", &scale_shift)?;
    given.agree("learn_sigma", &(out_channels == 2 * in_channels))?;
    if let Some(convolved) = convolved {
        given.agree("conv_resample", &convolved)?;
    }
    // The flag is a text of sizes, the constructor takes factors.
    if let Some(Value::Array(_)) = given.get::<Value>("attention_resolutions")? {
        given.agree("attention_resolutions", &attention_resolutions)?;
    }
    for ignored in ["use_checkpoint", "dims"] {
        given.get::<Value>(ignored)?;
    }
    let heads_up: Option<i64> = given.get("num_heads_upsample")?;
    let config = UNetConfig {
        in_channels,
        model_channels: base,
        out_channels,
        num_res_blocks: blocks,
        attention_resolutions,
        channel_mult,
        num_heads: given.need("num_heads", "heads of every attention")?,
        num_heads_upsample: heads_up.and_then(|n| usize::try_from(n).ok()),
        use_scale_shift_norm: scale_shift,
        conv_resample: convolved.unwrap_or(true),
        num_classes,
        dropout: given.get("dropout")?.unwrap_or(0.0),
    };
    Ok(config)
}

/// The process and the size of pictures, by the program's flags.
fn process(unet: &UNetConfig, given: &mut Given) -> Result<(DiffusionConfig, usize)> {
    let default = DiffusionConfig::default();
    let size = given.need("image_size", "height and width of the pictures")?;
    let steps = given.need("diffusion_steps", "steps it was trained with")?;
    let schedule: Option<Schedule> = given.get("noise_schedule")?;
    if schedule.is_none() {
        given.miss("noise_schedule", "linear or cosine");
    }
    let mut flag = |name: &str, default| Ok::<_, Error>(given.get(name)?.unwrap_or(default));
    let config = DiffusionConfig {
        diffusion_steps: steps,
        noise_schedule: schedule.unwrap_or_default(),
        learn_sigma: unet.out_channels == 2 * unet.in_channels,
        sigma_small: flag("sigma_small", default.sigma_small)?,
        use_kl: flag("use_kl", default.use_kl)?,
        predict_xstart: flag("predict_xstart", default.predict_xstart)?,
        rescale_timesteps: flag("rescale_timesteps", default.rescale_timesteps)?,
        rescale_learned_sigmas: flag("rescale_learned_sigmas", default.rescale_learned_sigmas)?,
        timestep_respacing: given.get("timestep_respacing")?.unwrap_or_default(),
    };
    // Before a flag that is missing is told, one that is there must not hide it.
    if steps > 0 && config.diffusion_steps > 1 << 16 {
        return Err(given.bad(format!(
            "diffusion_steps is {steps}, at most 65536 are taken"
        )));
    }
    Ok((config, size))
}
