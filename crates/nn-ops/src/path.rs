//! Which implementation of an operator runs: this crate's fast or exact kernels, or candle's own as the reference.

#[cfg(feature = "cudnn")]
use crate::precision::Precision;
use candle_core::{DType, Tensor};
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

/// The implementation that operators choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Path {
    /// This crate's kernels, where there is one for the device and type; 3 x 3 convolutions by Winograd's algorithm, whose
    /// rounding is a few times that of a plain sum (relative error below 2e-5).
    Fast,
    /// As [`Path::Fast`] without Winograd's algorithm and without TF32: for comparisons number by number with other
    /// programs.
    Exact,
    /// Compositions of candle's operators, for comparison and as a way round a kernel under suspicion.
    Reference,
}

static PROCESS: AtomicU8 = AtomicU8::new(Path::Fast as u8);

thread_local! {
    static THREAD: Cell<Option<Path>> = const { Cell::new(None) };
}

/// The path in force on this thread: that of the innermost [`with`], else the process's ([`set`]), else [`Path::Fast`].
pub fn current() -> Path {
    THREAD
        .get()
        .unwrap_or_else(|| match PROCESS.load(Ordering::Relaxed) {
            p if p == Path::Exact as u8 => Path::Exact,
            p if p == Path::Reference as u8 => Path::Reference,
            _ => Path::Fast,
        })
}

/// Whether this crate's kernels serve a tensor: those of [`cpu_kernels`] or [`cuda_kernels`].
pub(crate) fn kernels(x: &Tensor) -> bool {
    cpu_kernels(x) || cuda_kernels(x)
}

/// f32 on the CPU, and not on the reference path.
pub(crate) fn cpu_kernels(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32 && current() != Path::Reference
}

/// f32, bf16 or f16 on a CUDA device, in a build for one, and not on the reference path.
pub(crate) fn cuda_kernels(x: &Tensor) -> bool {
    cfg!(feature = "cuda")
        && x.device().is_cuda()
        && matches!(x.dtype(), DType::F32 | DType::BF16 | DType::F16)
        && current() != Path::Reference
}

/// Whether it is bf16 or f16. Where no kernel takes them, operators that sum go through f32: as on CUDA devices, only what
/// is stored is rounded.
pub(crate) fn is_half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::F16)
}

/// Whether convolutions on CUDA devices may use TF32 now: with [`Precision::Tf32`], and never on [`Path::Exact`].
#[cfg(feature = "cudnn")]
pub(crate) fn tf32() -> bool {
    crate::precision::current() == Precision::Tf32 && current() != Path::Exact
}

/// Chooses the path of every operator called from now on, in all threads that are not within [`with`].
pub fn set(path: Path) {
    PROCESS.store(path as u8, Ordering::Relaxed);
}

/// Runs `f` with every operator that this thread calls on `path`; a backward pass within `f` included.
pub fn with<R>(path: Path, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Path>);
    impl Drop for Restore {
        fn drop(&mut self) {
            THREAD.set(self.0);
        }
    }
    let _restore = Restore(THREAD.replace(Some(path)));
    f()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_choice_counts_and_ends_with_its_scope() {
        let outside = current();
        with(Path::Exact, || {
            with(Path::Reference, || assert_eq!(current(), Path::Reference));
            assert_eq!(current(), Path::Exact);
            let caught = std::panic::catch_unwind(|| with(Path::Fast, || panic!("on purpose")));
            assert!(caught.is_err());
            assert_eq!(current(), Path::Exact);
        });
        assert_eq!(current(), outside);
    }
}
