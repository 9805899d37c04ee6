//! Beginning from the weights of a finished model.

use crate::bundle::{self, ByBand, Init};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// The weights of every stage, and what a run remembers of where they came from.
pub(super) struct Start {
    pub weights: ByBand,
    pub init: Init,
}

/// What a stage starts from.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// Weights of the network that is trained.
    pub weights: &'a HashMap<String, Tensor>,
    /// Weights of the worse one that guides its teacher.
    pub guide: Option<&'a HashMap<String, Tensor>>,
}

/// The bundle to start from, whose bands must mean what this run's do; the tensors' shapes are checked later.
pub(super) fn read(config: &RunConfig, folder: &Path, device: &Device) -> Result<Start> {
    match config {
        RunConfig::Wmgm(ours) => {
            let start = bundle::read_start(folder, device)?;
            let theirs = start.config;
            same(
                folder,
                [
                    ("wavelet", theirs.wavelet, ours.wavelet.clone()),
                    ("levels", theirs.levels.to_string(), ours.levels.to_string()),
                    ("fold", theirs.fold.to_string(), ours.low.fold.to_string()),
                ],
            )?;
            Ok(Start {
                weights: HashMap::from([("low", start.score), ("high", start.generator)]),
                init: Init {
                    name: theirs.name,
                    low_steps: theirs.provenance.low_steps,
                    high_steps: theirs.provenance.high_steps,
                    data_fingerprint: theirs.provenance.data_fingerprint,
                },
            })
        }
        RunConfig::Diffused(ours) => {
            let (theirs, weights) = bundle::read_diffused_tensors(folder, device)?;
            let folds = |folds: Vec<usize>| format!("{folds:?}");
            let our_folds = ours.bands().map(|(_, c)| c.fold).collect();
            same(
                folder,
                [
                    ("wavelet", theirs.wavelet.clone(), ours.wavelet.clone()),
                    ("levels", theirs.levels.to_string(), ours.levels.to_string()),
                    (
                        "fold",
                        folds(theirs.networks().map(|(_, n)| n.fold).collect()),
                        folds(our_folds),
                    ),
                    (
                        "by_channel",
                        (!theirs.low.channels.is_empty()).to_string(),
                        ours.low.by_channel.to_string(),
                    ),
                ],
            )?;
            Ok(Start {
                weights,
                init: Init {
                    low_steps: theirs.low.steps,
                    high_steps: theirs.details.iter().map(|n| n.steps).sum(),
                    name: theirs.name,
                    data_fingerprint: theirs.data_fingerprint,
                },
            })
        }
    }
}

fn same<const N: usize>(folder: &Path, fields: [(&str, String, String); N]) -> Result<()> {
    match fields.iter().find(|(_, theirs, ours)| theirs != ours) {
        None => Ok(()),
        Some((field, theirs, ours)) => Err(Error::Argument(format!(
            "the bundle {} has {field} {theirs}, the configuration {ours}: its weights are for other bands; change the configuration or start without it",
            folder.display()
        ))),
    }
}
