//! Dropout (Srivastava et al. 2014, JMLR 15) whose mask is a function of an address, not of a hidden generator.

use crate::noise;
use candle_core::{ModuleT, Result, Tensor, bail};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Zeroes each element of x (N, ...) with probability `p` and multiplies the others by 1 / (1 - p).
///
/// Row i has the mask of the address (seed, indices\[i\], stream, step), see [`crate::noise`], in whatever batch it comes.
///
/// # Errors
/// `p` outside [0, 1], or not one index per row.
pub fn dropout(
    x: &Tensor,
    p: f64,
    seed: u64,
    indices: &[u64],
    stream: u32,
    step: u32,
) -> Result<Tensor> {
    check(p)?;
    let n = x.dims().first().copied().unwrap_or(0);
    if x.rank() == 0 || n != indices.len() {
        bail!(
            "dropout: x {:?} needs one index per row, got {}",
            x.shape(),
            indices.len()
        )
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let keep = if p < 1.0 {
        (1.0 / (1.0 - p)) as f32
    } else {
        0.0
    };
    let mut mask = vec![0f32; x.elem_count()];
    let len = (x.elem_count() / n.max(1)).max(1);
    mask.par_chunks_mut(len)
        .zip(indices)
        .for_each(|(row, &index)| {
            noise::fill_uniform(seed, index, stream, step, row);
            // Uniform in [0, 1): p = 1 leaves nothing.
            row.iter_mut()
                .for_each(|u| *u = if (*u as f64) < p { 0.0 } else { keep });
        });
    let mask = Tensor::from_vec(mask, x.shape(), x.device())?;
    x * mask.to_dtype(x.dtype())?
}

fn check(p: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&p) {
        bail!("dropout: probability {p} is not between 0 and 1")
    }
    Ok(())
}

/// [`dropout`] as a layer: every pass in training takes the next step's masks, other passes change nothing.
///
/// Clones share the count of steps. To repeat or resume a run to the bit, save [`Dropout::step`] and restore it.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
    seed: u64,
    stream: u32,
    step: Arc<AtomicU32>,
}

impl Dropout {
    /// A layer that drops with probability `p`; layers of one network need distinct `stream` numbers.
    ///
    /// # Errors
    /// `p` outside [0, 1].
    pub fn new(p: f64, seed: u64, stream: u32) -> Result<Self> {
        check(p)?;
        Ok(Self {
            p,
            seed,
            stream,
            step: Arc::default(),
        })
    }

    /// The step whose masks the next pass in training takes.
    pub fn step(&self) -> u32 {
        self.step.load(Ordering::Relaxed)
    }

    /// Continues from `step`.
    pub fn set_step(&self, step: u32) {
        self.step.store(step, Ordering::Relaxed);
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if !train || self.p == 0.0 {
            return Ok(x.clone());
        }
        let rows: Vec<u64> = (0..x.dims().first().copied().unwrap_or(0) as u64).collect();
        let step = self.step.fetch_add(1, Ordering::Relaxed);
        dropout(x, self.p, self.seed, &rows, self.stream, step)
    }
}
