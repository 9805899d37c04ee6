//! Which implementation of an operator runs: ours, or candle's own as the reference.

use std::sync::atomic::{AtomicBool, Ordering};

/// The implementation that operators choose on the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// This crate's kernels, where there is one for the device and type.
    Fast,
    /// Compositions of candle's operators, for comparison and as a way round a kernel under suspicion.
    Reference,
}

static REFERENCE: AtomicBool = AtomicBool::new(false);

/// The path in force, process-wide; [`Path::Fast`] unless set otherwise.
pub fn current() -> Path {
    if REFERENCE.load(Ordering::Relaxed) {
        Path::Reference
    } else {
        Path::Fast
    }
}

/// Chooses the path of every operator called from now on, in all threads.
pub fn set(path: Path) {
    REFERENCE.store(path == Path::Reference, Ordering::Relaxed);
}
