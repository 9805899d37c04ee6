//! The model in a checkpoint: which of its tensors are the network's, and by what names.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::pickle::{Dict, Value};
use crate::tensor::StoredTensor;
use std::collections::HashMap;

/// How a checkpoint holds its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// The names are the network's own: safetensors, a bare `state_dict`, improved-diffusion's `.pt`.
    Plain,
    /// `torch.optim.swa_utils.AveragedModel`: `n_averaged` and names that begin with `module.`.
    Averaged,
    /// score_sde: `model`, whose names begin with `module.`, and mostly `ema` with the averages of its trainable
    /// parameters.
    ScoreSde,
    /// `model_state_dict`, and perhaps `ema_state_dict` as an averaged model.
    Pair,
}

/// Which parameters of a checkpoint that has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parameters {
    /// The moving averages, which samples are made with; the trained ones where there are no averages.
    #[default]
    Averaged,
    /// Those that training goes on from.
    Trained,
}

impl Checkpoint {
    /// How the model lies in it.
    ///
    /// # Errors
    /// Parts that are none of [`Layout`]; their names are in the message, for [`Checkpoint::part`].
    pub fn layout(&self) -> Result<Layout> {
        let Some(root) = self.value() else {
            return Ok(Layout::Plain);
        };
        let Some(root) = root.as_dict() else {
            return Err(Error::file(
                self.path(),
                format!("it holds {}, no dictionary of tensors", root.kind()),
            ));
        };
        let dict = |key: &str| root.get(key).and_then(Value::as_dict);
        let parallel = |model: &Dict| {
            model
                .iter()
                .all(|(name, _)| name.to_string().starts_with("module."))
        };
        if dict("model").is_some_and(|model| shadow(root).is_some() || parallel(model)) {
            Ok(Layout::ScoreSde)
        } else if dict("model_state_dict").is_some() {
            Ok(Layout::Pair)
        } else if self.get("n_averaged").is_some() {
            Ok(Layout::Averaged)
        } else if root.iter().all(|(_, v)| v.as_tensor().is_some()) {
            Ok(Layout::Plain)
        } else {
            Err(Error::file(
                self.path(),
                format!(
                    "its tensors are not a network's alone, they lie in {}; say which part is the network",
                    self.beginnings()
                ),
            ))
        }
    }

    /// The network's tensors by its own names, in its own order.
    ///
    /// # Errors
    /// An unknown layout, or averages that do not fit the parameters they are of.
    pub fn state_dict(&self, which: Parameters) -> Result<Self> {
        match (self.layout()?, which) {
            (Layout::Plain, _) => Ok(self.clone()),
            (Layout::Averaged, _) => self.part("module."),
            (Layout::Pair, Parameters::Averaged) if self.has("ema_state_dict.") => {
                self.part("ema_state_dict.")?.unwrapped()
            }
            (Layout::Pair, _) => self.part("model_state_dict.")?.unwrapped(),
            (Layout::ScoreSde, Parameters::Averaged) if self.has("ema.shadow_params.") => {
                let averages = self.part("ema.shadow_params.")?;
                let model = self.part("model.")?.unwrapped()?;
                let averages = averages.iter().map(|(_, t)| t.clone()).collect();
                model.with_averages(averages, &|name, t| !is_trained(name, t))
            }
            (Layout::ScoreSde, _) => self.part("model.")?.unwrapped(),
        }
    }

    fn has(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix))
    }

    /// Without the `module.` that wrappers of a model put before every name, and their counter.
    fn unwrapped(self) -> Result<Self> {
        let wrapped = |name: &str| name.starts_with("module.") || name == "n_averaged";
        if self.names().all(wrapped) {
            self.part("module.")
        } else {
            Ok(self)
        }
    }

    /// This network with `averages` in place of its trained parameters: a list in the network's own order, without
    /// buffers and frozen parameters, which `untrained` tells.
    ///
    /// # Errors
    /// Another number of averages than of trained parameters, or one of another shape; the first is named.
    pub fn with_averages(
        &self,
        averages: Vec<StoredTensor>,
        untrained: &dyn Fn(&str, &StoredTensor) -> bool,
    ) -> Result<Self> {
        let count = averages.len();
        let mut averages = averages.into_iter();
        let mut tensors = Vec::with_capacity(self.len());
        let mut trained = 0;
        for (name, tensor) in self.iter() {
            if untrained(name, tensor) {
                tensors.push((name.to_owned(), tensor.clone()));
                continue;
            }
            let Some(average) = averages.next() else {
                return Err(Error::tensor(
                    self.path(),
                    name,
                    format!(
                        " has no average: there are {count}, for {trained} parameters before it"
                    ),
                ));
            };
            if average.shape() != tensor.shape() {
                return Err(Error::tensor(
                    self.path(),
                    name,
                    format!(
                        " has shape {:?}, and average {trained}, which should be its, {:?}",
                        tensor.shape(),
                        average.shape()
                    ),
                ));
            }
            trained += 1;
            tensors.push((name.to_owned(), average));
        }
        if trained != count {
            return Err(Error::file(
                self.path(),
                format!("it has {count} averages for {trained} trained parameters"),
            ));
        }
        self.with(tensors)
    }
}

/// score_sde's list of averages.
fn shadow(root: &Dict) -> Option<&[Value]> {
    root.get("ema")?.as_dict()?.get("shadow_params")?.as_list()
}

/// Whether score_sde trains this tensor of its networks: not the noise levels, and not the frequencies of a Fourier
/// embedding, the only `W` that is a vector.
fn is_trained(name: &str, tensor: &StoredTensor) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    name != "sigmas" && !(last == "W" && tensor.shape().len() == 1)
}

/// Tensors of `state` that `wanted` does not name, and names of `wanted` that `state` lacks.
pub fn difference<'a>(
    state: &'a Checkpoint,
    wanted: impl IntoIterator<Item = &'a str>,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut extra: HashMap<&str, usize> = state.names().enumerate().map(|(i, n)| (n, i)).collect();
    let missing = wanted
        .into_iter()
        .filter(|name| extra.remove(name).is_none())
        .collect();
    let mut extra: Vec<(usize, &str)> = extra.into_iter().map(|(n, i)| (i, n)).collect();
    extra.sort_unstable();
    (extra.into_iter().map(|(_, n)| n).collect(), missing)
}
