//! Kernels for NVIDIA's GPUs behind the same functions and layers: this crate's own, compiled for the card at first use
//! (`kernels.cu`, NVRTC), and cuDNN's convolutions.
//!
//! All of this crate's `unsafe` for devices is in this module. A call names a kernel, its inputs, the shape of what
//! it writes and its constants; [`Call::run`] checks that inputs are contiguous and of a type the kernel exists for. What a
//! kernel reads and writes follows from the sizes it is given, which the operators take from the shapes.

mod batch_norm;
#[cfg(feature = "cudnn")]
pub(crate) mod conv;
mod device;
mod elementwise;
mod group_norm;
pub(crate) mod optimiser;

pub(crate) use batch_norm::{batch_norm, batch_statistics};
pub(crate) use device::prepare;
pub(crate) use elementwise::*;
pub(crate) use group_norm::{GroupNormGeometry, group_norm, group_norm_gradients};

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::driver::{
    CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda::{CudaDType, CudaDevice};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Error, Layout, Result, Shape, Storage, Tensor, bail,
};
use half::{bf16, f16};

/// A tensor as an operator meets it.
pub(crate) type Operand<'a> = (&'a CudaStorage, &'a Layout);

/// Threads of a block for elementwise kernels.
const ELEMENTWISE: u32 = 256;

/// Filter taps, passed by value; as `Taps` in kernels.cu.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Taps(pub(crate) [f32; 32]);

// SAFETY: plain floats, laid out as the kernel's parameter.
unsafe impl DeviceRepr for Taps {}

/// A constant of a call.
#[derive(Clone, Copy)]
pub(crate) enum Constant {
    Int(i64),
    Float(f32),
    Taps(Taps),
}

impl From<usize> for Constant {
    fn from(v: usize) -> Self {
        Self::Int(v as i64)
    }
}

impl From<f32> for Constant {
    fn from(v: f32) -> Self {
        Self::Float(v)
    }
}

/// One launch.
pub(crate) struct Call {
    /// Its name in kernels.cu without the type.
    pub(crate) kernel: &'static str,
    /// What it writes.
    pub(crate) shape: Shape,
    /// f32 for statistics; else the type of the first input.
    pub(crate) statistics: bool,
    /// How many blocks of how many threads.
    pub(crate) blocks: usize,
    pub(crate) threads: u32,
    pub(crate) constants: Vec<Constant>,
}

impl Call {
    /// A thread per element of the result; their number is the first constant.
    pub(crate) fn elementwise(
        kernel: &'static str,
        shape: &Shape,
        rest: impl IntoIterator<Item = Constant>,
    ) -> Self {
        let n = shape.elem_count();
        Self {
            kernel,
            shape: shape.clone(),
            statistics: false,
            blocks: n.div_ceil(ELEMENTWISE as usize),
            threads: ELEMENTWISE,
            constants: std::iter::once(n.into()).chain(rest).collect(),
        }
    }

    /// A block for each of `blocks` rows of `len` elements.
    pub(crate) fn rows(
        kernel: &'static str,
        shape: impl Into<Shape>,
        blocks: usize,
        len: usize,
        constants: Vec<Constant>,
    ) -> Self {
        Self {
            kernel,
            shape: shape.into(),
            statistics: false,
            blocks,
            // The kernels' sums halve the block: a power of two.
            threads: (len.div_ceil(4).next_power_of_two() as u32).clamp(32, 1024),
            constants,
        }
    }

    /// The same with a result in f32.
    pub(crate) fn statistics(mut self) -> Self {
        self.statistics = true;
        self
    }

    /// Launches it: pictures first, in the kernel's type, then parameters in f32.
    pub(crate) fn run(&self, inputs: &[Operand]) -> Result<(CudaStorage, Shape)> {
        let dtype = inputs[0].0.dtype();
        let storage = match (self.statistics, dtype) {
            (true, _) | (false, DType::F32) => self.launch::<f32>(inputs, dtype)?,
            (false, DType::BF16) => self.launch::<bf16>(inputs, dtype)?,
            (false, DType::F16) => self.launch::<f16>(inputs, dtype)?,
            (_, other) => bail!("{}: there is no kernel for {other:?}", self.kernel),
        };
        Ok((storage, self.shape.clone()))
    }

    /// The same for tensors, without gradients.
    pub(crate) fn of(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        inputs[0].apply_op1_no_bwd(&OfTensors(self, &inputs[1..]))
    }

    fn launch<O: CudaDType + DeviceRepr>(
        &self,
        inputs: &[Operand],
        dtype: DType,
    ) -> Result<CudaStorage> {
        let device = inputs[0].0.device().clone();
        let suffix = match dtype {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            other => bail!("{}: there is no kernel for {other:?}", self.kernel),
        };
        // SAFETY: every kernel writes all elements of its result before anything reads them.
        let mut out = unsafe { device.alloc::<O>(self.shape.elem_count())? };
        if self.shape.elem_count() == 0 || self.blocks == 0 {
            return Ok(CudaStorage::wrap_cuda_slice(out, device));
        }
        let function = device::function(&device, &format!("{}_{suffix}", self.kernel))?;
        let stream = device.cuda_stream();
        let mut places = Vec::with_capacity(inputs.len() + 1);
        // They record, when dropped, that the stream has used the memory.
        let mut uses = Vec::with_capacity(inputs.len() + 1);
        for input in inputs {
            let (place, using) = place(self.kernel, *input, &stream)?;
            places.push(place);
            uses.push(using);
        }
        let (place, using) = out.device_ptr_mut(&stream);
        places.push(place);
        let mut launch = stream.launch_builder(&function);
        for place in &places {
            launch.arg(place);
        }
        for constant in &self.constants {
            match constant {
                Constant::Int(v) => launch.arg(v),
                Constant::Float(v) => launch.arg(v),
                Constant::Taps(v) => launch.arg(v),
            };
        }
        let config = LaunchConfig {
            grid_dim: (self.blocks as u32, 1, 1),
            block_dim: (self.threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: arguments are in the order of kernels.cu; the places are those of contiguous tensors that live until the
        // launch is in the stream, after which the stream's order protects them.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        drop((uses, using));
        Ok(CudaStorage::wrap_cuda_slice(out, device))
    }
}

/// Where a contiguous tensor begins in the device's memory.
fn place<'a>(
    kernel: &str,
    (storage, layout): Operand<'a>,
    stream: &'a CudaStream,
) -> Result<(u64, SyncOnDrop<'a>)> {
    fn of<'a, T: CudaDType + 'a>(
        s: &'a CudaStorage,
        at: usize,
        stream: &'a CudaStream,
    ) -> Result<(u64, SyncOnDrop<'a>)> {
        let (start, using) = s.as_cuda_slice::<T>()?.device_ptr(stream);
        Ok((start + (at * size_of::<T>()) as u64, using))
    }
    let Some((at, _)) = layout.contiguous_offsets() else {
        bail!("{kernel}: needs contiguous tensors, got {layout:?}; call contiguous() first")
    };
    match storage.dtype() {
        DType::F32 => of::<f32>(storage, at, stream),
        DType::BF16 => of::<bf16>(storage, at, stream),
        DType::F16 => of::<f16>(storage, at, stream),
        other => bail!("{kernel}: there is no kernel for {other:?}"),
    }
}

/// The CUDA storage of a tensor, while `f` runs.
fn with_storage<R>(t: &Tensor, f: impl FnOnce(Operand) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cuda(s) => f((s, layout)),
        _ => bail!(
            "needs a tensor on a CUDA device, got one on {:?}",
            t.device().location()
        ),
    }
}

/// The device of a tensor.
fn device_of(t: &Tensor) -> Result<CudaDevice> {
    t.device().as_cuda_device().cloned()
}

/// A call whose first input is the operator's, the others at hand.
struct OfTensors<'a>(&'a Call, &'a [&'a Tensor]);

impl OfTensors<'_> {
    /// Collects the storages one by one, then launches.
    fn with(&self, rest: &[&Tensor], inputs: &[Operand]) -> Result<(CudaStorage, Shape)> {
        let Some((first, rest)) = rest.split_first() else {
            return self.0.run(inputs);
        };
        with_storage(first, |operand| {
            let mut inputs = inputs.to_vec();
            inputs.push(operand);
            self.with(rest, &inputs)
        })
    }
}

impl CustomOp1 for OfTensors<'_> {
    fn name(&self) -> &'static str {
        self.0.kernel
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("{}: runs on CUDA devices alone", self.0.kernel)
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.with(self.1, &[(storage, layout)])
    }
}
