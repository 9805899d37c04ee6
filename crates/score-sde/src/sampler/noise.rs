//! Where samplers find fresh noise.

use candle_core::{Result, Tensor};

/// Standard normal noise for step i, of the shape, dtype and device of the tensor given.
pub type Noise<'a> = &'a mut dyn FnMut(usize, &Tensor) -> Result<Tensor>;

/// No noise at all: for samplers that are deterministic, or to see the mean of one that is not.
///
/// # Errors
/// Only those of the device.
pub fn no_noise(_: usize, x: &Tensor) -> Result<Tensor> {
    x.zeros_like()
}

/// Noise addressed by (seed, picture, stream, step): a picture of a seed is the same alone, in a batch or in a shard.
///
/// `indices` are the numbers of the pictures in the batch; see [`nn_ops::noise`].
pub fn addressed_noise(
    seed: u64,
    indices: &[u64],
    stream: u32,
) -> impl FnMut(usize, &Tensor) -> Result<Tensor> {
    move |step, x| {
        if x.dim(0)? != indices.len() {
            candle_core::bail!(
                "addressed_noise: {} pictures are numbered, the batch is {:?}",
                indices.len(),
                x.shape()
            )
        }
        nn_ops::noise::normal_tensor(
            seed,
            indices,
            stream,
            step as u32,
            &x.dims()[1..],
            x.device(),
        )?
        .to_dtype(x.dtype())
    }
}
