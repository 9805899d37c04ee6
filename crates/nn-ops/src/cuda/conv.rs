//! Convolutions by cuDNN, forwards and both ways back: f32 (TF32 where it is switched on), bf16 and f16, all summed in f32.

use super::{Call, Constant, Operand};
use crate::cpu::im2col::Geometry;
use crate::path;
use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t, cudnnMathType_t,
    cudnnTensorFormat_t,
};
use candle_core::cuda::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvForward, Cudnn, CudnnDataType,
};
use candle_core::cuda::cudarc::driver::{CudaView, DeviceRepr, ValidAsZeroBits};
use candle_core::cuda::{CudaDType, CudaDevice, DeviceId};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, bail,
};
use half::{bf16, f16};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Algorithms that want more room than this give way to one that needs little.
const ROOM: usize = 1 << 30;

/// What is computed, from which two tensors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Pass {
    /// y from x and w.
    Forward,
    /// dx from w and dy.
    Input,
    /// dw from x and dy.
    Weights,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Forward(ForwardAlgorithm),
    Input(DataAlgorithm),
    Weights(FilterAlgorithm),
}

/// What an algorithm is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: DeviceId,
    pass: Pass,
    geometry: Geometry,
    dtype: DType,
    tf32: bool,
}

thread_local! {
    // Handles may not be shared between threads.
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    static CHOSEN: RefCell<HashMap<Key, (Algorithm, usize)>> = RefCell::default();
}

fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(handle.clone());
        }
        let handle = Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?;
        handles.insert(device.id(), handle.clone());
        Ok(handle)
    })
}

/// Opens cuDNN for a device.
pub(super) fn open(device: &CudaDevice) -> Result<()> {
    handle(device).map(|_| ())
}

/// The element types.
trait Element: CudaDType + DeviceRepr + ValidAsZeroBits + CudnnDataType + Copy {
    const ZERO: Self;
    const ONE: Self;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;
    const ONE: Self = bf16::ONE;
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;
    const ONE: Self = f16::ONE;
}

/// One pass of a convolution as an operator without a gradient of its own.
struct Convolution {
    pass: Pass,
    geometry: Geometry,
}

impl Convolution {
    fn run(&self, a: Operand, b: Operand) -> Result<(CudaStorage, Shape)> {
        match (a.0.dtype(), b.0.dtype()) {
            (DType::F32, DType::F32) => self.typed::<f32>(a, b),
            (DType::BF16, DType::BF16) => self.typed::<bf16>(a, b),
            (DType::F16, DType::F16) => self.typed::<f16>(a, b),
            (a, b) => bail!("conv2d: there is no cuDNN convolution of {a:?} with {b:?}"),
        }
    }

    fn typed<T: Element>(&self, a: Operand, b: Operand) -> Result<(CudaStorage, Shape)> {
        let g = &self.geometry;
        let device = a.0.device().clone();
        let handle = handle(&device)?;
        let int = |v: usize| match i32::try_from(v) {
            Ok(v) => Ok(v),
            Err(_) => bail!("conv2d: a size of {v} is beyond cuDNN"),
        };
        let dims = |d: [usize; 4]| -> Result<[i32; 4]> {
            Ok([int(d[0])?, int(d[1])?, int(d[2])?, int(d[3])?])
        };
        let (x, w, y) = (
            [g.n, g.ci, g.h, g.w],
            [g.co, g.ci / g.groups, g.kh, g.kw],
            [g.n, g.co, g.oh, g.ow],
        );
        let result = match self.pass {
            Pass::Forward => y,
            Pass::Input => x,
            Pass::Weights => w,
        };
        let len = result.iter().product();
        if x.contains(&0) || y.contains(&0) || w.contains(&0) {
            let out = device.alloc_zeros::<T>(len)?;
            return Ok((
                CudaStorage::wrap_cuda_slice(out, device),
                result.to_vec().into(),
            ));
        }
        // SAFETY: cuDNN writes all of it, with beta = 0.
        let mut out = unsafe { device.alloc::<T>(len)? };
        let format = cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let mut conv = handle
            .create_conv2d::<f32>(
                [int(g.padding)?; 2],
                [int(g.stride)?; 2],
                [1; 2],
                cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
            )
            .map_err(Error::wrap)?;
        conv.set_group_count(int(g.groups)?).map_err(Error::wrap)?;
        let tf32 = path::tf32();
        conv.set_math_type(match (a.0.dtype(), tf32) {
            (DType::F32, false) => cudnnMathType_t::CUDNN_FMA_MATH,
            (DType::F32, true) => cudnnMathType_t::CUDNN_DEFAULT_MATH,
            _ => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        })
        .map_err(Error::wrap)?;
        let tensor = |d| handle.create_4d_tensor::<T>(format, d).map_err(Error::wrap);
        let (x, y) = (tensor(dims(x)?)?, tensor(dims(y)?)?);
        let w = handle
            .create_4d_filter::<T>(format, dims(w)?)
            .map_err(Error::wrap)?;
        let passes = Passes {
            forward: ConvForward {
                conv: &conv,
                x: &x,
                w: &w,
                y: &y,
            },
            input: ConvBackwardData {
                conv: &conv,
                dx: &x,
                w: &w,
                dy: &y,
            },
            weights: ConvBackwardFilter {
                conv: &conv,
                x: &x,
                dw: &w,
                dy: &y,
            },
        };
        let key = Key {
            device: device.id(),
            pass: self.pass,
            geometry: self.geometry,
            dtype: a.0.dtype(),
            tf32,
        };
        let known = CHOSEN.with_borrow(|chosen| chosen.get(&key).copied());
        let (algorithm, room) = match known {
            Some(known) => known,
            None => {
                let new = passes.choose(self.pass)?;
                CHOSEN.with_borrow_mut(|chosen| chosen.insert(key, new));
                new
            }
        };
        let (a, b) = (slice::<T>(a)?, slice::<T>(b)?);
        // SAFETY: scratch memory, which cuDNN does not read before it writes.
        let mut work = unsafe { device.alloc::<u8>(room.max(1))? };
        let (work, factors) = (Some(&mut work), (T::ONE, T::ZERO));
        // SAFETY: the operands are contiguous and as large as the descriptors say, by `geometry` of the operator.
        unsafe {
            match algorithm {
                Algorithm::Forward(algorithm) => passes
                    .forward
                    .launch(algorithm, work, factors, &a, &b, &mut out),
                Algorithm::Input(algorithm) => passes
                    .input
                    .launch(algorithm, work, factors, &mut out, &a, &b),
                Algorithm::Weights(algorithm) => passes
                    .weights
                    .launch(algorithm, work, factors, &a, &mut out, &b),
            }
        }
        .map_err(Error::wrap)?;
        Ok((
            CudaStorage::wrap_cuda_slice(out, device),
            result.to_vec().into(),
        ))
    }
}

struct Passes<'a, T: Element> {
    forward: ConvForward<'a, T, f32, T>,
    input: ConvBackwardData<'a, T, f32, T>,
    weights: ConvBackwardFilter<'a, T, f32, T>,
}

impl<T: Element> Passes<'_, T> {
    /// The fastest by cuDNN's heuristics, among those that sum in a fixed order (the others use atomic additions) and fit
    /// into [`ROOM`]; and the room it needs.
    fn choose(&self, pass: Pass) -> Result<(Algorithm, usize)> {
        use {DataAlgorithm as D, FilterAlgorithm as F, ForwardAlgorithm as A};
        Ok(match pass {
            Pass::Forward => {
                let p = &self.forward;
                let mut algorithm = p.pick_algorithm().map_err(Error::wrap)?;
                let mut room = p.get_workspace_size(algorithm).map_err(Error::wrap)?;
                if room > ROOM {
                    algorithm = A::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
                    room = p.get_workspace_size(algorithm).map_err(Error::wrap)?;
                }
                (Algorithm::Forward(algorithm), room)
            }
            Pass::Input => {
                let p = &self.input;
                let mut algorithm = p.pick_algorithm().map_err(Error::wrap)?;
                if algorithm == D::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0
                    || p.get_workspace_size(algorithm).map_err(Error::wrap)? > ROOM
                {
                    algorithm = D::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1;
                }
                let room = p.get_workspace_size(algorithm).map_err(Error::wrap)?;
                (Algorithm::Input(algorithm), room)
            }
            Pass::Weights => {
                let p = &self.weights;
                let mut algorithm = p.pick_algorithm().map_err(Error::wrap)?;
                if matches!(
                    algorithm,
                    F::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0 | F::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3
                ) || p.get_workspace_size(algorithm).map_err(Error::wrap)? > ROOM
                {
                    algorithm = F::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1;
                }
                let room = p.get_workspace_size(algorithm).map_err(Error::wrap)?;
                (Algorithm::Weights(algorithm), room)
            }
        })
    }
}

/// The elements of a contiguous operand.
fn slice<'a, T: Element>((storage, layout): Operand<'a>) -> Result<CudaView<'a, T>> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("conv2d: needs contiguous tensors, got {layout:?}; call contiguous() first")
    };
    Ok(storage.as_cuda_slice::<T>()?.slice(from..to))
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        bail!("conv2d: cuDNN runs on CUDA devices alone")
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        la: &Layout,
        b: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.run((a, la), (b, lb))
    }
}

/// Pictures, channels and pixels of y, the constants of the bias's kernels.
fn bias_constants(g: &Geometry) -> [Constant; 3] {
    [g.n, g.co, g.oh * g.ow].map(Constant::from)
}

pub(crate) fn forward(
    g: &Geometry,
    x: Operand,
    w: Operand,
    b: Option<Operand>,
) -> Result<(CudaStorage, Shape)> {
    let (y, shape) = Convolution {
        pass: Pass::Forward,
        geometry: *g,
    }
    .run(x, w)?;
    let Some(b) = b else { return Ok((y, shape)) };
    let layout = Layout::contiguous(&shape);
    let [_, channels, pixels] = bias_constants(g);
    Call::elementwise("add_bias", &shape, [channels, pixels]).run(&[(&y, &layout), b])
}

pub(crate) fn input_gradient(g: &Geometry, w: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let pass = Pass::Input;
    w.apply_op2_no_bwd(dy, &Convolution { pass, geometry: *g })
}

pub(crate) fn weight_gradient(g: &Geometry, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let pass = Pass::Weights;
    x.apply_op2_no_bwd(dy, &Convolution { pass, geometry: *g })
}

pub(crate) fn bias_gradient(g: &Geometry, dy: &Tensor) -> Result<Tensor> {
    let len = g.n * g.oh * g.ow;
    Call::rows("channel_sum", g.co, g.co, len, bias_constants(g).to_vec()).of(&[dy])
}
