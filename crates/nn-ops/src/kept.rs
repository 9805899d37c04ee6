//! What layers that are not being trained keep from call to call: transformed weights, within a budget, and weights
//! rounded to the type that the network computes in.

use crate::cpu::winograd::{Kernels, Sizes};
use candle_core::{DType, Result, Tensor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Bytes that all layers of the process keep together.
static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(256 << 20);

/// Bytes in use, and the most there may be.
pub(crate) fn budget() -> (&'static AtomicUsize, &'static AtomicUsize) {
    (&HELD, &LIMIT)
}

/// One layer's; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<OnceLock<Held>>);

struct Held {
    kernels: Arc<Kernels>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Kept {
    /// The transforms of `w`, which must be the same at every call; made anew each time where the budget is spent.
    pub(crate) fn kernels(&self, w: &[f32], s: &Sizes) -> Arc<Kernels> {
        if let Some(held) = self.0.get() {
            return held.kernels.clone();
        }
        // Outside of the lock: the transform runs on the thread pool, whose threads may come here meanwhile.
        let kernels = Arc::new(Kernels::new(w, s, false));
        let bytes = kernels.bytes();
        let grow = |held: usize| {
            held.checked_add(bytes)
                .filter(|all| *all <= LIMIT.load(Ordering::Relaxed))
        };
        let reserved = HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        if reserved.is_ok() {
            // Where another thread was first, dropping this one gives its bytes back.
            let _ = self.0.set(Held {
                kernels: kernels.clone(),
                bytes,
            });
        }
        kernels
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.0.get().map_or(0, |held| held.bytes);
        write!(f, "Kept({bytes} bytes)")
    }
}

/// A layer's weight and bias in another type than they have, the last one asked for; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounded(Arc<Mutex<Option<Pair>>>);

/// Their type, and weights and bias in it.
type Pair = (DType, [Option<Tensor>; 2]);

impl Rounded {
    /// Weight and bias, which must be the same at every call, as `dtype`.
    pub(crate) fn get(
        &self,
        dtype: DType,
        tensors: [Option<&Tensor>; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let mut held = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((of, rounded)) = &*held
            && *of == dtype
        {
            return Ok(rounded.clone());
        }
        let [w, b] = tensors.map(|t| t.map(|t| t.to_dtype(dtype)).transpose());
        let rounded = [w?, b?];
        *held = Some((dtype, rounded.clone()));
        Ok(rounded)
    }
}
