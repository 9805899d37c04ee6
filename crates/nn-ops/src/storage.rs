//! The floats of contiguous CPU tensors, without copying.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The elements of a contiguous f32 storage.
pub(crate) fn cpu_slice<'a>(op: &str, s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = s else {
        bail!("{op}: the CPU kernel needs f32, got {:?}", dtype(s))
    };
    match l.contiguous_offsets() {
        Some((from, to)) => Ok(&data[from..to]),
        None => bail!("{op}: needs a contiguous tensor, got {l:?}; call contiguous() first"),
    }
}

fn dtype(s: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    s.dtype()
}

/// Runs `f` on the elements of a contiguous f32 CPU tensor.
pub(crate) fn with_slice<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(cpu_slice("tensor", s, layout)?),
        _ => bail!(
            "needs a tensor on the CPU, got one on {:?}",
            t.device().location()
        ),
    }
}
