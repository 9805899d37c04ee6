//! Checkpoints: every variable and optimiser state of a stage in one safetensors file, replaced atomically.

use crate::error::{Error, Result};
use crate::files::map_bounded;
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use nn_ops::{AdamW, Ema, Params};
use rayon::prelude::*;
use safetensors::SafeTensors;
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

/// Writes all parts of a stage and the number of steps done.
///
/// # Errors
/// A value that is not finite: the checkpoint that is there, from before, is then kept.
pub(super) fn save(path: &Path, stage: &'static str, step: u64, parts: &[Part<'_>]) -> Result<()> {
    let mut all: HashMap<String, Tensor> = HashMap::new();
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
    for tensor in all.values().filter(|t| t.dtype() == DType::F32) {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        if !values.par_iter().all(|v| v.is_finite()) {
            return Err(Error::Diverged {
                stage,
                step,
                what: "a weight",
            });
        }
    }
    all.insert("step".into(), Tensor::new(&[step as i64], &Device::Cpu)?);
    let bytes = safetensors::serialize(&all, None).map_err(|e| bad(path, e.to_string()))?;
    crate::files::write_atomic(path, |w| w.write_all(&bytes))?;
    Ok(())
}

/// Restores all parts; returns the number of steps done.
pub(super) fn load(path: &Path, parts: &mut [Part<'_>]) -> Result<u64> {
    let all = read(path)?;
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
        .map_err(|e| bad(path, format!("{prefix}: {e}")))?;
    }
    steps_of(all.get("step"), path)
}

/// The number of steps done, without reading the rest.
pub(super) fn steps(path: &Path) -> Result<u64> {
    let bytes = map_bounded(path, u64::MAX)?;
    let all = SafeTensors::deserialize(&bytes).map_err(|e| bad(path, e.to_string()))?;
    let step = all.tensor("step").ok();
    steps_of(
        step.map(|s| s.load(&Device::Cpu)).transpose()?.as_ref(),
        path,
    )
}

fn read(path: &Path) -> Result<HashMap<String, Tensor>> {
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|e| bad(path, e.to_string()))
}

fn steps_of(step: Option<&Tensor>, path: &Path) -> Result<u64> {
    let step = step.ok_or_else(|| bad(path, "the tensor step is missing".into()))?;
    let step = step.reshape(1).and_then(|s| s.to_vec1::<i64>());
    let step = step.map_err(|e| bad(path, format!("the tensor step: {e}")))?;
    Ok(step[0].max(0) as u64)
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Bundle {
        path: path.into(),
        reason,
    }
}

/// The averaged weights in a stage's checkpoint, and the steps that made them.
pub(super) fn averages(path: &Path) -> Result<(HashMap<String, Tensor>, u64)> {
    let all = read(path)?;
    let step = steps_of(all.get("step"), path)?;
    let averages: HashMap<String, Tensor> = all
        .into_iter()
        .filter_map(|(n, t)| Some((n.strip_prefix("ema/")?.to_string(), t)))
        .filter(|(n, _)| n != "ema.steps")
        .collect();
    if averages.is_empty() {
        return Err(bad(path, "it holds no averaged weights".into()));
    }
    Ok((averages, step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::Init;

    #[test]
    fn weights_that_are_not_finite_replace_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("low.checkpoint.safetensors");
        let params = Params::new(0);
        let vb = params.builder(&Device::Cpu);
        vb.get_with_hints(3, "weight", Init::Const(1.0)).unwrap();
        let save = |step| save(&path, "low", step, &[Part::Params("params", &params)]);
        save(7).unwrap();
        let before = std::fs::read(&path).unwrap();
        let (_, weight) = params.named().remove(0);
        weight
            .set(&Tensor::new(&[1f32, f32::NAN, 1.0], &Device::Cpu).unwrap())
            .unwrap();
        let error = save(8).unwrap_err().to_string();
        assert!(error.contains("low training at step 8"), "{error}");
        assert!(std::fs::read(&path).unwrap() == before);
        assert_eq!(steps(&path).unwrap(), 7);
        assert!(averages(&path).is_err());
    }
}
