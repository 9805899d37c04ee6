//! AdamW, the moving average and the norm of all gradients, one launch each for all variables together.
//!
//! Moments and averages are flat buffers on the device. Variables and gradients stay where candle has them; a table, sent
//! with each launch (48 bytes per variable), says where.

use super::{device, device_of, place, with_storage};
use candle_core::cuda::cudarc::driver::{CudaSlice, LaunchArgs, LaunchConfig, PushKernelArg};
use candle_core::cuda::{CudaDevice, CudaStorage};
use candle_core::{DType, Error, Result, Tensor, Var, bail};

/// Elements per block.
const SPAN: usize = 1 << 13;
const THREADS: u32 = 256;

/// One of the variables, if all are on one CUDA device: only then a launch can serve them together.
pub(crate) fn together(vars: &[(String, Var)]) -> Option<&Tensor> {
    let first = vars.first()?.1.as_tensor();
    let one = |v: &Var| v.device().same_device(first.device());
    (first.device().is_cuda() && vars.iter().all(|(_, v)| one(v))).then_some(first)
}

/// A variable in a launch; with its gradient, if there is one to read.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) var: &'a Tensor,
    pub(crate) grad: Option<&'a Tensor>,
    /// Where it begins in flat buffers.
    pub(crate) at: usize,
    /// Its own constants.
    pub(crate) a: f32,
    pub(crate) b: f32,
}

/// The table of a launch on the device, as `Row` in kernels.cu: six words each.
struct Table {
    device: CudaDevice,
    rows: CudaSlice<u64>,
    count: i64,
    blocks: u32,
}

impl Table {
    fn new(entries: &[Entry]) -> Result<Option<Self>> {
        let Some(first) = entries.first() else {
            return Ok(None);
        };
        let device = device_of(first.var)?;
        let mut words = Vec::with_capacity(6 * entries.len());
        let mut blocks = 0;
        for e in entries.iter().filter(|e| e.var.elem_count() > 0) {
            let p = address(e.name, e.var, &device)?;
            let g = match e.grad {
                Some(g) if g.elem_count() == e.var.elem_count() => address(e.name, g, &device)?,
                Some(g) => bail!(
                    "{}: its gradient has shape {:?}, not {:?}",
                    e.name,
                    g.shape(),
                    e.var.shape()
                ),
                None => 0,
            };
            let constants = u64::from(e.a.to_bits()) | u64::from(e.b.to_bits()) << 32;
            let len = e.var.elem_count();
            words.extend([p, g, e.at as u64, len as u64, blocks as u64, constants]);
            blocks += len.div_ceil(SPAN);
        }
        if blocks == 0 {
            return Ok(None);
        }
        Ok(Some(Self {
            rows: device.clone_htod(&words)?,
            count: (words.len() / 6) as i64,
            blocks: blocks as u32,
            device,
        }))
    }

    /// Launches a kernel whose arguments are the table, those of `buffers`, the table's size, those of `constants`.
    fn launch(
        &self,
        kernel: &str,
        buffers: &mut [&mut CudaSlice<f32>],
        constants: &[f32],
    ) -> Result<()> {
        let function = device::function(&self.device, kernel)?;
        let stream = self.device.cuda_stream();
        let span = SPAN as i64;
        let mut launch: LaunchArgs = stream.launch_builder(&function);
        launch.arg(&self.rows);
        for buffer in buffers {
            launch.arg(&mut **buffer);
        }
        launch.arg(&self.count).arg(&span);
        for constant in constants {
            launch.arg(constant);
        }
        let config = LaunchConfig {
            grid_dim: (self.blocks, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: arguments are in the order of kernels.cu. The table's addresses are of contiguous f32 tensors of the
        // lengths it says, which the caller holds; buffers reach to the end of the last variable in them. Nothing else
        // uses a variable meanwhile: the stream runs one kernel after the other.
        unsafe { launch.launch(config) }.map_err(Error::wrap)?;
        Ok(())
    }
}

/// The address of a contiguous f32 tensor on `device`.
fn address(name: &str, t: &Tensor, device: &CudaDevice) -> Result<u64> {
    if t.dtype() != DType::F32 {
        bail!("{name}: is {:?}, only f32 is trained", t.dtype())
    }
    with_storage(t, |operand: (&CudaStorage, _)| {
        if operand.0.device.id() != device.id() {
            bail!("{name}: lies on another device than the others")
        }
        Ok(place(name, operand, &device.cuda_stream())?.0)
    })
}

/// The sum of squares of all gradients, in f64 over the blocks' sums in f32.
pub(crate) fn sum_of_squares(entries: &[Entry]) -> Result<f64> {
    let Some(table) = Table::new(entries)? else {
        return Ok(0.0);
    };
    let mut sums = table.device.alloc_zeros::<f32>(table.blocks as usize)?;
    table.launch("sum_of_squares", &mut [&mut sums], &[])?;
    let sums = table.device.clone_dtoh(&sums)?;
    Ok(sums.into_iter().map(f64::from).sum())
}

/// Flat f32 buffers for variables of known lengths.
#[derive(Debug)]
pub(crate) struct Flat {
    device: CudaDevice,
    buffer: CudaSlice<f32>,
}

impl Flat {
    /// Holds `values`.
    pub(crate) fn new(like: &Tensor, values: &[f32]) -> Result<Self> {
        let device = device_of(like)?;
        let buffer = device.clone_htod(values)?;
        Ok(Self { device, buffer })
    }

    /// Its values.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        self.device.clone_dtoh(&self.buffer)
    }
}

/// The constants of a step that all variables share, as the kernel takes them.
pub(crate) struct Shared {
    pub(crate) rest1: f32,
    pub(crate) beta2: f32,
    pub(crate) rest2: f32,
    pub(crate) decay: f32,
    pub(crate) eps: f32,
}

/// One step for all variables; `a` and `b` of an entry are lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t).
pub(crate) fn adamw(
    entries: &[Entry],
    first: &mut Flat,
    second: &mut Flat,
    c: &Shared,
) -> Result<()> {
    let Some(table) = Table::new(entries)? else {
        return Ok(());
    };
    table.launch(
        "adamw",
        &mut [&mut first.buffer, &mut second.buffer],
        &[c.rest1, c.beta2, c.rest2, c.decay, c.eps],
    )
}

/// Moves every average towards its variable.
pub(crate) fn ema(entries: &[Entry], shadow: &mut Flat, keep: f32) -> Result<()> {
    let Some(table) = Table::new(entries)? else {
        return Ok(());
    };
    table.launch("ema", &mut [&mut shadow.buffer], &[keep])
}
