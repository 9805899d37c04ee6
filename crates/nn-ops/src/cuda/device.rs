//! Making a device ready, and the kernels compiled for it.

use candle_core::cuda::cudarc::{driver, nvrtc};
use candle_core::cuda::{CudaDevice, DeviceId};
use candle_core::{Error, Result, bail};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;

const SOURCE: &str = include_str!("kernels.cu");

/// PTX by compute capability.
static PTX: Mutex<Option<HashMap<(i32, i32), &'static str>>> = Mutex::new(None);

/// The kernels for cards of a compute capability, compiled once per process.
fn ptx(capability: (i32, i32)) -> Result<&'static str> {
    let mut known = PTX.lock().unwrap_or_else(|e| e.into_inner());
    let known = known.get_or_insert_default();
    if let Some(ptx) = known.get(&capability) {
        return Ok(ptx);
    }
    let options = nvrtc::CompileOptions {
        options: vec![format!(
            "--gpu-architecture=compute_{}{}",
            capability.0, capability.1
        )],
        name: Some("nn-ops.cu".into()),
        ..Default::default()
    };
    let ptx = match nvrtc::compile_ptx_with_opts(SOURCE, options) {
        Ok(ptx) => ptx.to_src(),
        Err(nvrtc::CompileError::CompileError { log, .. }) => {
            bail!(
                "the CUDA kernels do not compile for compute capability {capability:?}: {}",
                log.to_string_lossy()
            )
        }
        Err(e) => bail!("NVRTC cannot compile for compute capability {capability:?}: {e:?}"),
    };
    // Lives as long as the program: candle loads it once per device.
    let ptx: &'static str = Box::leak(ptx.into_boxed_str());
    known.insert(capability, ptx);
    Ok(ptx)
}

thread_local! {
    // Finding one anew costs as much as launching it.
    static FOUND: RefCell<HashMap<DeviceId, HashMap<String, driver::CudaFunction>>> =
        RefCell::default();
}

/// A kernel by its full name.
pub(super) fn function(device: &CudaDevice, name: &str) -> Result<driver::CudaFunction> {
    let known = FOUND.with_borrow(|found| found.get(&device.id())?.get(name).cloned());
    if let Some(function) = known {
        return Ok(function);
    }
    let capability = device
        .cuda_stream()
        .context()
        .compute_capability()
        .map_err(Error::wrap)?;
    let function = device.get_or_load_custom_func(name, "nn-ops", ptx(capability)?)?;
    let function = function.into_cuda_function();
    FOUND.with_borrow_mut(|found| {
        let of_device = found.entry(device.id()).or_default();
        of_device.insert(name.into(), function.clone());
    });
    Ok(function)
}

/// Compiles the kernels, opens cuDNN, and has freed memory kept for the next tensor.
///
/// By default the driver gives freed memory back at every synchronisation, and cudarc makes two events for every tensor,
/// which serve programs with several streams.
pub(crate) fn prepare(device: &CudaDevice) -> Result<()> {
    function(device, "add_scaled_f32")?;
    #[cfg(feature = "cudnn")]
    super::conv::open(device)?;
    let context = device.cuda_stream().context().clone();
    context.bind_to_thread().map_err(Error::wrap)?;
    // SAFETY: one stream per device, shared by all threads (`new_cuda_with_stream`), orders every use of a tensor.
    unsafe { device.disable_event_tracking() };
    let mut pool = std::mem::MaybeUninit::uninit();
    let mut keep = u64::MAX;
    // SAFETY: the pool is written before it is read; the attribute is a u64, as the driver's documentation says.
    unsafe {
        driver::sys::cuDeviceGetDefaultMemPool(pool.as_mut_ptr(), context.cu_device())
            .result()
            .map_err(Error::wrap)?;
        driver::sys::cuMemPoolSetAttribute(
            pool.assume_init(),
            driver::sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
            (&raw mut keep).cast(),
        )
        .result()
        .map_err(Error::wrap)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NVRTC needs no GPU; where the library is not installed either, there is nothing to compile with.
    #[test]
    fn the_kernels_compile_for_every_supported_card() {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let there = std::panic::catch_unwind(|| nvrtc::compile_ptx("")).is_ok();
        std::panic::set_hook(hook);
        if !there {
            eprintln!("skipped: no NVRTC (libnvrtc.so) here");
            return;
        }
        for capability in [(8, 0), (8, 9), (9, 0), (10, 0)] {
            let ptx = ptx(capability).expect("compiles");
            for name in ["group_norm_grad_bf16", "upfirdn_f16", "adamw"] {
                assert!(ptx.contains(name), "{name} is missing for {capability:?}");
            }
        }
    }
}
