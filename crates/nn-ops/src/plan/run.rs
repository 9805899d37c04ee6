//! A plan at work.

use super::trace::{Function, Watched};
use crate::cpu::epilogue::{Act, Epilogue};
use crate::cpu::maps::{self, Norm};
use crate::cpu::planes::{Planes, View};
use crate::cpu::shared::{Aligned, SharedMut, aligned, scratch};
use crate::cpu::{taps, winograd};
use crate::storage::with_slice;
use crate::{Pool2x, Upsample2x};
use candle_core::{Device, Result, Tensor, bail};
use std::sync::{Mutex, PoisonError};

/// A picture-shaped value: c channels in blocks, `offset` floats per picture from the beginning of the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub offset: usize,
    /// The first block within its own buffer, and that buffer's blocks.
    pub block: usize,
    pub total: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
}

impl Map {
    pub(super) fn blocks(&self) -> usize {
        self.c.div_ceil(crate::cpu::blocked::BLOCK)
    }

    /// In the buffer of a batch of n.
    fn view<'a>(&self, n: usize, data: SharedMut<'a, f32>) -> View<'a> {
        let mut planes = Planes::bare(self.offset * n, self.total, self.h, self.w);
        planes.start += self.block * planes.plane();
        View { data, planes }
    }
}

/// How a convolution is done.
pub(super) enum Kernel {
    Kept(winograd::Kernels),
    Stream(winograd::Packed),
    Taps(taps::Packed),
}

/// A convolution with what follows it.
pub(super) struct Conv {
    pub kernel: Kernel,
    /// Filled up to whole blocks.
    pub bias: Vec<f32>,
    pub x: Map,
    pub y: Map,
    pub residual: Option<Map>,
    pub factor: f32,
    pub act: Act,
}

/// A group normalisation.
pub(super) struct GroupNorm {
    pub groups: usize,
    pub eps: f64,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    /// Values (N, C).
    pub modulation: Option<[usize; 2]>,
    pub act: Act,
    pub x: Map,
    pub y: Map,
}

pub(super) enum Step {
    /// From a tensor to its place, and back.
    Pack(usize, Map),
    Unpack(Map, usize),
    /// Plain operators on tensors.
    Plain(Function, Vec<usize>, usize),
    Conv(Box<Conv>),
    GroupNorm(Box<GroupNorm>),
    Act(Act, Map, Map),
    Add(Map, Map, f32, Map),
    Copy(Map, Map),
    Pool(Pool2x, Map, Map),
    Upsample(Upsample2x, Map, Map),
    Gate(Map, Map, Map),
    AddChannels(Map, usize, Map),
    /// A tensor nobody needs any more.
    Forget(usize),
}

/// A network for pictures of one size.
pub(crate) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Values of the network's inputs and outputs, and how many there are in all.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    pub(super) values: usize,
    /// Floats of the buffer per picture.
    pub(super) floats: usize,
    /// Running statistics that it was made with.
    pub(super) watched: Vec<Watched>,
    /// Buffers of calls that have ended.
    pub(super) buffers: Mutex<Vec<Aligned>>,
}

impl Plan {
    /// Whether all it was made of is as it was.
    pub(super) fn fresh(&self) -> bool {
        self.watched.iter().all(Watched::same)
    }

    fn buffer(&self, len: usize) -> Aligned {
        let free = self
            .buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match free {
            Some(buffer) if buffer.len() >= len => buffer,
            _ => aligned(len),
        }
    }

    /// What the network makes of a batch.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let n = inputs[0].dims()[0];
        let Some(len) = self.floats.checked_mul(n) else {
            bail!("plan: {n} pictures of {} floats are too many", self.floats)
        };
        let mut values: Vec<Option<Tensor>> = vec![None; self.values];
        for (at, t) in self.inputs.iter().zip(inputs) {
            values[*at] = Some(t.contiguous()?);
        }
        let mut buffer = self.buffer(len);
        let data = SharedMut::new(&mut buffer);
        for step in &self.steps {
            step.run(n, data, &mut values)?;
        }
        self.buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
        self.outputs.iter().map(|at| value(&values, *at)).collect()
    }
}

fn value(values: &[Option<Tensor>], at: usize) -> Result<Tensor> {
    match values.get(at) {
        Some(Some(t)) => Ok(t.clone()),
        _ => bail!("plan: value {at} is used before it is made"),
    }
}

impl Step {
    fn run(&self, n: usize, data: SharedMut<'_, f32>, values: &mut [Option<Tensor>]) -> Result<()> {
        let view = |map: &Map| map.view(n, data);
        // SAFETY (of all kernels below): the steps of a call run one after another and own the buffer; within a step, what
        // is read does not overlap what is written, for both are in use at this step (`layout::offsets`).
        match self {
            Self::Pack(from, to) => {
                let x = value(values, *from)?.contiguous()?;
                with_slice(&x, |x| {
                    // SAFETY: see above.
                    unsafe { maps::pack(x, n, to.c, view(to)) };
                    Ok(())
                })?;
            }
            Self::Unpack(from, to) => {
                let mut y = scratch(n * from.c * from.h * from.w);
                // SAFETY: see above.
                unsafe { maps::unpack(view(from), n, from.c, &mut y) };
                let shape = (n, from.c, from.h, from.w);
                values[*to] = Some(Tensor::from_vec(y, shape, &Device::Cpu)?);
            }
            Self::Plain(f, inputs, output) => {
                let inputs: Result<Vec<Tensor>> =
                    inputs.iter().map(|i| value(values, *i)).collect();
                values[*output] = Some(f(&inputs?)?.contiguous()?);
            }
            Self::Conv(conv) => conv.run(n, data),
            Self::GroupNorm(norm) => norm.run(n, data, values)?,
            // SAFETY: see above.
            Self::Act(act, x, y) => unsafe { maps::act(*act, n, x.blocks(), view(x), view(y)) },
            Self::Add(a, b, factor, y) => {
                // SAFETY: see above.
                unsafe { maps::add(n, a.blocks(), view(a), view(b), *factor, view(y)) }
            }
            // SAFETY: see above.
            Self::Copy(x, y) => unsafe { maps::copy(n, x.blocks(), view(x), view(y)) },
            Self::Pool(pool, x, y) => {
                let max = *pool == Pool2x::Max;
                // SAFETY: see above.
                unsafe { maps::pool(max, n, x.blocks(), view(x), view(y)) }
            }
            Self::Upsample(Upsample2x::Nearest, x, y) => {
                // SAFETY: see above.
                unsafe { maps::repeat(n, x.blocks(), view(x), view(y)) }
            }
            Self::Upsample(Upsample2x::Bilinear, x, y) => {
                // SAFETY: see above.
                unsafe { maps::bilinear(n, x.blocks(), view(x), view(y)) }
            }
            Self::Gate(x, gate, y) => {
                // SAFETY: see above.
                unsafe { maps::gate(n, x.blocks(), view(x), view(gate), view(y)) }
            }
            Self::AddChannels(x, v, y) => {
                let v = value(values, *v)?.contiguous()?;
                with_slice(&v, |v| {
                    // SAFETY: see above.
                    unsafe { maps::add_channels(n, x.c, view(x), v, view(y)) };
                    Ok(())
                })?;
            }
            Self::Forget(at) => values[*at] = None,
        }
        Ok(())
    }
}

impl Conv {
    fn run(&self, n: usize, data: SharedMut<'_, f32>) {
        let view = |map: &Map| map.view(n, data);
        let epilogue = Epilogue {
            bias: Some(&self.bias),
            residual: self.residual.as_ref().map(view),
            factor: self.factor,
            act: self.act,
        };
        let (x, y) = (view(&self.x), view(&self.y));
        let sizes = winograd::Sizes {
            n,
            ci: self.x.c,
            co: self.y.c,
            h: self.x.h,
            w: self.x.w,
        };
        use winograd::{Source, Weights};
        // SAFETY: see `Step::run`.
        unsafe {
            match &self.kernel {
                Kernel::Taps(weights) => taps::forward(weights, n, x, y, &epilogue),
                Kernel::Kept(kernels) => {
                    winograd::forward(&sizes, x, Weights::Kept(kernels), y, &epilogue);
                }
                Kernel::Stream(weights) => {
                    let weights = Weights::Plain(Source::Packed(weights));
                    winograd::forward(&sizes, x, weights, y, &epilogue);
                }
            }
        }
    }
}

impl GroupNorm {
    fn run(&self, n: usize, data: SharedMut<'_, f32>, values: &[Option<Tensor>]) -> Result<()> {
        let run = |modulation: Option<[&[f32]; 2]>| -> Result<()> {
            let norm = Norm {
                c: self.x.c,
                groups: self.groups,
                eps: self.eps,
                weight: &self.weight,
                bias: &self.bias,
                modulation,
                act: self.act,
            };
            // SAFETY: see `Step::run`.
            unsafe { maps::group_norm(n, self.x.view(n, data), &norm, self.y.view(n, data)) };
            Ok(())
        };
        let Some([scale, shift]) = self.modulation else {
            return run(None);
        };
        let (scale, shift) = (
            value(values, scale)?.contiguous()?,
            value(values, shift)?.contiguous()?,
        );
        with_slice(&scale, |scale| {
            with_slice(&shift, |shift| run(Some([scale, shift])))
        })
    }
}
