//! Transformed weights of convolutions that are not being trained, kept from call to call within a budget.

use crate::cpu::winograd::{Kernels, Sizes};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

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
