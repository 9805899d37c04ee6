//! The tensors that a configuration asks for, found by building it without memory, and the bounds of what is built.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor, bail};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use std::sync::{Arc, Mutex};

/// The widest layer that is built.
pub(crate) const MAX_WIDTH: usize = 1 << 15;
/// The most parameters of a network, 16 GiB of f32.
const MAX_PARAMETERS: usize = 1 << 32;

/// Errs unless a field of a configuration lies in its range.
pub(crate) fn within(
    network: &'static str,
    field: &'static str,
    value: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::Config {
        network,
        field,
        value: value.to_string(),
        need: format!("from {} to {}", range.start(), range.end()),
    })
}

/// Errs if a network of these tensors would be too large to be meant.
pub(crate) fn check_count(network: &'static str, tensors: &[(String, Vec<usize>)]) -> Result<()> {
    let total = tensors.iter().try_fold(0usize, |sum, (_, shape)| {
        let count = (shape.iter()).try_fold(1usize, |n, d| n.checked_mul(*d));
        sum.checked_add(count?)
    });
    if total.is_some_and(|n| n <= MAX_PARAMETERS) {
        return Ok(());
    }
    Err(Error::Config {
        network,
        field: "number of parameters",
        value: total.map_or("beyond counting".into(), |n| n.to_string()),
        need: format!("at most {MAX_PARAMETERS}"),
    })
}

/// A source of parameters that notes what is asked for and answers with views of a single zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes(Arc<Mutex<Vec<Asked>>>);

/// Name and shape.
type Asked = (String, Vec<usize>);

impl Shapes {
    pub(crate) fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, Device::Cpu)
    }

    /// Names and shapes in the order of asking.
    pub(crate) fn take(self) -> Vec<(String, Vec<usize>)> {
        let mut list = (self.0.lock()).unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *list)
    }
}

impl SimpleBackend for Shapes {
    fn get(
        &self,
        s: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        dev: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut list = (self.0.lock()).unwrap_or_else(std::sync::PoisonError::into_inner);
        list.push((name.to_string(), s.dims().to_vec()));
        Tensor::zeros((), dtype, dev)?.broadcast_as(s)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        bail!("parameter {name} has no shape to be asked for by")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        false
    }
}
