//! Numbers of one picture each, on tensors (N, ...).

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};

/// The values of each picture of x (N, ...), in f64.
pub(crate) fn pictures(x: &Tensor) -> Result<Vec<Vec<f64>>> {
    let n = x.dims().first().copied().unwrap_or(1);
    let len = x.elem_count() / n.max(1);
    // Metal has no f64.
    let host = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    Ok(host.reshape((n, len))?.to_vec2()?)
}

/// One number per picture as a tensor (N, 1, ...) of x's rank, dtype and device, ready to broadcast.
pub(crate) fn per_picture(x: &Tensor, values: &[f64]) -> Result<Tensor> {
    let mut shape = vec![1; x.rank().max(1)];
    shape[0] = values.len();
    host_to(x, Tensor::new(values, &Device::Cpu)?.reshape(shape)?)
}

/// x times one factor per picture, a function of its time.
pub(crate) fn scale(x: &Tensor, t: &[f64], factor: impl Fn(f64) -> f64) -> Result<Tensor> {
    let values: Vec<f64> = t.iter().map(|&t| factor(t)).collect();
    Ok(x.broadcast_mul(&per_picture(x, &values)?)?)
}

/// The mean of each picture, (N, ...) to (N).
pub(crate) fn means(x: &Tensor) -> Result<Tensor> {
    Ok(x.flatten_from(1)?.mean(1)?)
}

/// Errs unless x is (N, ...), not empty, with as many pictures as there are times.
pub(crate) fn check_times(op: &'static str, x: &Tensor, t: &[f64]) -> Result<()> {
    if x.rank() > 0 && x.dims()[0] == t.len() && x.elem_count() > 0 {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        name: "x",
        got: x.dims().to_vec(),
        expected: format!("({}, ...), one picture per time", t.len()),
    })
}

/// States as a tensor of x's shape, dtype and device; of each the first values, as many as a picture has.
pub(crate) fn like(x: &Tensor, state: &[Vec<f64>]) -> Result<Tensor> {
    let len = x.elem_count() / state.len().max(1);
    let values = state.iter().flat_map(|s| s.iter().take(len).copied());
    host_to(
        x,
        Tensor::from_vec(values.collect::<Vec<f64>>(), x.shape(), &Device::Cpu)?,
    )
}

/// f64 numbers brought to x's dtype and device, of an integer x to f32.
fn host_to(x: &Tensor, host: Tensor) -> Result<Tensor> {
    let dtype = match x.dtype().is_float() {
        true => x.dtype(),
        false => DType::F32,
    };
    // Rounded before it moves: Metal has no f64.
    Ok(host.to_dtype(dtype)?.to_device(x.device())?)
}
