//! The official program's networks: their shapes from their tensors.

use super::given::Given;
use super::{Imported, ImportedModel};
use crate::bundle::{Single, SingleConfig};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Shape};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use checkpoints::Checkpoint;
use msal_gan::official::{Discriminator, DiscriminatorConfig, Generator, GeneratorConfig};
use std::sync::{Arc, Mutex, PoisonError};

const WHOSE: &str = "the official program";

/// A dimension of a tensor.
fn dim(state: &Checkpoint, name: &str, at: usize) -> Result<usize> {
    let found = state.get(name).and_then(|t| t.shape().get(at).copied());
    found.ok_or_else(|| {
        Error::Weights(checkpoints::Error::Tensor {
            path: state.path().into(),
            name: name.into(),
            reason: " is missing or of too few dimensions".into(),
        })
    })
}

pub(super) fn generator(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let default = GeneratorConfig::default();
    let mut notes = Vec::new();
    let mut told = |name: &str, there: bool, value: String| {
        if !there {
            notes.push(format!(
                "{name} is not told by the tensors: {value}, as the official program has it unless told otherwise; \
                 --config can say another"
            ));
        }
    };
    let pooling: Option<_> = given.get("pooling")?;
    told("pooling", pooling.is_some(), "maxima (max)".into());
    let slope: Option<f64> = given.get("leaky_relu_slope")?;
    let known = default.leaky_relu_slope;
    told("leaky_relu_slope", slope.is_some(), known.to_string());
    let config = GeneratorConfig {
        n_channels: dim(&state, "Conv1.block.3.weight", 0)?,
        in_channels: dim(&state, "Conv1.block.0.weight", 1)?,
        out_channels: dim(&state, "last_conv2.weight", 0)?,
        pooling: pooling.unwrap_or(default.pooling),
        leaky_relu_slope: slope.unwrap_or(known),
    };
    given.agree("n_channels", &config.n_channels)?;
    given.agree("in_channels", &config.in_channels)?;
    given.agree("out_channels", &config.out_channels)?;
    given.finish(WHOSE)?;
    let wanted = shapes(config.n_channels, 4, |vb| {
        Ok(Generator::new(config.clone(), vb).map(|_| ())?)
    })?;
    state.accounts_for("the official generator", &wanted)?;
    Ok(single(Single::OfficialGenerator(config), state, notes))
}

pub(super) fn discriminator(state: Checkpoint, mut given: Given) -> Result<Imported> {
    let default = DiscriminatorConfig::default();
    let block = |i: &usize| {
        state
            .get(&format!("conv_path.{i}.block.0.weight"))
            .is_some()
    };
    let config = DiscriminatorConfig {
        n_channels: dim(&state, "initial_block.0.weight", 0)?,
        n_blocks: (0..16).take_while(block).count(),
        in_channels: dim(&state, "initial_block.0.weight", 1)?,
        leaky_relu_slope: given
            .get("leaky_relu_slope")?
            .unwrap_or(default.leaky_relu_slope),
        dropout: given.get("dropout")?.unwrap_or(default.dropout),
        seed: 0,
    };
    given.agree("n_channels", &config.n_channels)?;
    given.agree("n_blocks", &config.n_blocks)?;
    given.agree("in_channels", &config.in_channels)?;
    given.finish(WHOSE)?;
    let wanted = shapes(config.n_channels, config.n_blocks, |vb| {
        Ok(Discriminator::new(config.clone(), vb).map(|_| ())?)
    })?;
    state.accounts_for("the official discriminator", &wanted)?;
    Ok(single(
        Single::OfficialDiscriminator(config),
        state,
        Vec::new(),
    ))
}

fn single(network: Single, state: Checkpoint, notes: Vec<String>) -> Imported {
    Imported {
        model: ImportedModel::Single(Box::new(SingleConfig::new(network))),
        state,
        notes,
    }
}

/// Names and shapes that a network asks for, found by building it of views of a single number.
fn shapes(
    width: usize,
    doublings: usize,
    build: impl FnOnce(VarBuilder<'static>) -> Result<()>,
) -> Result<Vec<(String, Vec<usize>)>> {
    if width == 0 || width << doublings > 1 << 15 {
        return Err(Error::Argument(format!(
            "a width of {width} doubled {doublings} times is no network's"
        )));
    }
    let asked = Asked::default();
    build(VarBuilder::from_backend(
        Box::new(asked.clone()),
        DType::F32,
        Device::Cpu,
    ))?;
    let mut list = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *list))
}

/// Notes what is asked for.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<Mutex<Vec<Named>>>);

/// Name and shape.
type Named = (String, Vec<usize>);

impl SimpleBackend for Asked {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<candle_core::Tensor> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((name.to_owned(), shape.dims().to_vec()));
        candle_core::Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(
        &self,
        name: &str,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<candle_core::Tensor> {
        candle_core::bail!("parameter {name} has no shape to be asked for by")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        false
    }
}
