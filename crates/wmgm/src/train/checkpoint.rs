//! Checkpoints: every variable and optimiser state of a stage in one safetensors file, replaced atomically.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use nn_ops::{AdamW, Ema, Params};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// What one network needs to go on as if nothing had happened.
pub(super) enum Part<'a> {
    Params(&'static str, &'a Params),
    Adam(&'static str, &'a mut AdamW),
    Ema(&'static str, &'a mut Ema),
}

impl Part<'_> {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Params(p, _) | Self::Adam(p, _) | Self::Ema(p, _) => p,
        }
    }
}

/// Writes all parts and the number of steps done.
pub(super) fn save(path: &Path, step: u64, parts: &[Part<'_>]) -> Result<()> {
    let mut all = HashMap::new();
    for part in parts {
        let tensors = match part {
            Part::Params(_, p) => p.tensors(),
            Part::Adam(_, a) => a.state()?,
            Part::Ema(_, e) => e.state()?,
        };
        all.extend(
            tensors
                .into_iter()
                .map(|(n, t)| (format!("{}/{n}", part.prefix()), t)),
        );
    }
    all.insert("step".into(), Tensor::new(&[step as i64], &Device::Cpu)?);
    let bytes = safetensors::serialize(&all, None).map_err(|e| Error::Bundle {
        path: path.into(),
        reason: e.to_string(),
    })?;
    crate::files::write_atomic(path, |w| w.write_all(&bytes))?;
    Ok(())
}

/// Restores all parts; returns the number of steps done.
pub(super) fn load(path: &Path, parts: &mut [Part<'_>]) -> Result<u64> {
    let bad = |reason: String| Error::Bundle {
        path: path.into(),
        reason,
    };
    let all = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| bad(e.to_string()))?;
    for part in parts {
        let prefix = format!("{}/", part.prefix());
        let mine: HashMap<String, Tensor> = all
            .iter()
            .filter_map(|(n, t)| Some((n.strip_prefix(&prefix)?.to_string(), t.clone())))
            .collect();
        match part {
            Part::Params(_, p) => p.load(&mine),
            Part::Adam(_, a) => a.load_state(&mine),
            Part::Ema(_, e) => e.load_state(&mine),
        }
        .map_err(|e| bad(format!("{prefix}: {e}")))?;
    }
    let step = all
        .get("step")
        .ok_or_else(|| bad("the tensor step is missing".into()))?;
    Ok(step.reshape(1)?.to_vec1::<i64>()?[0].max(0) as u64)
}

/// The averaged weights in a stage's checkpoint, and the steps that made them.
pub(super) fn averages(path: &Path) -> Result<(HashMap<String, Tensor>, u64)> {
    let bad = |reason: String| Error::Bundle {
        path: path.into(),
        reason,
    };
    let all = candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| bad(e.to_string()))?;
    let step = all
        .get("step")
        .ok_or_else(|| bad("the tensor step is missing".into()))?;
    let step = step.reshape(1)?.to_vec1::<i64>()?[0].max(0) as u64;
    let averages = all
        .into_iter()
        .filter_map(|(n, t)| Some((n.strip_prefix("ema/")?.to_string(), t)))
        .filter(|(n, _)| n != "ema.steps")
        .collect();
    Ok((averages, step))
}
