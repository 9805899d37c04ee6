//! From what a network did to one picture to a plan.

use super::layout::{Buffer, Place, offsets};
use super::run::{self, Kernel, Map, Plan, Step};
use super::trace::{self, Function, Node, Op, Watched};
use crate::conv::{Conv2dConfig, conv2d};
use crate::cpu::blocked::BLOCK;
use crate::cpu::epilogue::Act;
use crate::cpu::{taps, winograd};
use crate::storage::with_slice;
use candle_core::{Result, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The plan of `network` for pictures of the inputs' size; `None` where it does something that cannot be planned.
pub(super) fn plan(
    inputs: &[Tensor],
    network: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Option<Plan> {
    let one = inputs.iter().map(|t| t.narrow(0, 0, 1)?.contiguous());
    let one: Vec<Tensor> = one.collect::<Result<_>>().ok()?;
    let (trace, outputs) = trace::trace(&one, || network(&one)).ok()?;
    if trace.failed.is_some() {
        return None;
    }
    let inputs: Vec<usize> = one.iter().map(|t| trace.known(t)).collect::<Option<_>>()?;
    let outputs: Vec<usize> = outputs
        .iter()
        .map(|t| trace.known(t))
        .collect::<Option<_>>()?;
    let mut uses = vec![0; trace.shapes.len()];
    for value in trace.nodes.iter().flat_map(|n| &n.inputs).chain(&outputs) {
        uses[*value] += 1;
    }
    let watched = trace.nodes.iter().filter_map(|n| match &n.op {
        Op::Affine { watched, .. } => Some(watched.clone()),
        _ => None,
    });
    let watched = watched.collect();
    let fused = fuse(trace.nodes, &trace.shapes, &uses).ok()?;
    if !fused.iter().any(|f| matches!(f.work, Work::Conv(_))) {
        return None;
    }
    Builder::new(trace.shapes, &fused)
        .build(fused, inputs, outputs, watched)
        .ok()
}

/// A convolution and what has been put into it.
struct Conv {
    w: Tensor,
    bias: Option<Tensor>,
    cfg: Conv2dConfig,
    /// Per output channel, from a batch normalisation after it.
    affine: Option<(Vec<f32>, Vec<f32>)>,
    residual: Option<usize>,
    factor: f32,
    act: Act,
}

enum Work {
    Conv(Box<Conv>),
    /// Any other operator on blocks.
    Map(Op),
    Plain(Function),
}

struct Fused {
    work: Work,
    inputs: Vec<usize>,
    output: usize,
}

/// Whether a shape is that of a picture.
fn picture(shape: &[usize]) -> bool {
    shape.len() == 3 && shape.iter().all(|d| *d > 0)
}

/// Where a value is made, if by a convolution that only one operator reads; nobody is told again.
fn single(open: &mut HashMap<usize, usize>, uses: &[usize], value: usize) -> Option<usize> {
    match uses[value] {
        1 => open.remove(&value),
        _ => None,
    }
}

/// Puts what follows a convolution into it.
fn fuse(nodes: Vec<Node>, shapes: &[Vec<usize>], uses: &[usize]) -> Result<Vec<Fused>> {
    let mut all: Vec<Option<Fused>> = Vec::new();
    // Where the value is made, if by a convolution that only one other reads.
    let mut open: HashMap<usize, usize> = HashMap::new();
    for node in nodes {
        let Node { op, inputs, output } = node;
        let pictures = inputs.iter().all(|i| picture(&shapes[*i]));
        let fused = match op {
            Op::Conv { w, b, cfg } if pictures && cfg.groups == 1 => {
                open.insert(output, all.len());
                Fused {
                    work: Work::Conv(Box::new(Conv {
                        w,
                        bias: b,
                        cfg,
                        affine: None,
                        residual: None,
                        factor: 1.0,
                        act: Act::None,
                    })),
                    inputs,
                    output,
                }
            }
            Op::Affine { scale, shift, .. } if pictures => {
                if let Some(at) = single(&mut open, uses, inputs[0])
                    && let Some(Fused {
                        work: Work::Conv(conv),
                        output: out,
                        ..
                    }) = &mut all[at]
                    && conv.residual.is_none()
                    && conv.act == Act::None
                    && conv.affine.is_none()
                {
                    conv.affine = Some((scale, shift));
                    *out = output;
                    open.insert(output, at);
                    continue;
                }
                Fused {
                    work: Work::Plain(affine(scale, shift)),
                    inputs,
                    output,
                }
            }
            Op::Act(act) if pictures => {
                if let Some(at) = single(&mut open, uses, inputs[0])
                    && let Some(Fused {
                        work: Work::Conv(conv),
                        output: out,
                        ..
                    }) = &mut all[at]
                {
                    conv.act = act;
                    *out = output;
                    continue;
                }
                Fused {
                    work: Work::Map(Op::Act(act)),
                    inputs,
                    output,
                }
            }
            Op::Add { factor } if pictures && inputs[0] != inputs[1] => {
                // Into the later of the two, and where the sum stood: there both are known.
                let places = [0, 1].map(|i| {
                    let at = open.get(&inputs[i]).filter(|_| uses[inputs[i]] == 1)?;
                    match &all[*at].as_ref()?.work {
                        Work::Conv(conv) if conv.residual.is_none() => Some(*at),
                        _ => None,
                    }
                });
                let chosen = if places[0] > places[1] { 0 } else { 1 };
                match places[chosen] {
                    Some(at) => {
                        open.remove(&inputs[chosen]);
                        let mut conv = all[at].take();
                        if let Some(Fused {
                            work: Work::Conv(conv),
                            output: out,
                            ..
                        }) = &mut conv
                        {
                            conv.residual = Some(inputs[1 - chosen]);
                            conv.factor = factor;
                            *out = output;
                        }
                        open.insert(output, all.len());
                        all.push(conv);
                        continue;
                    }
                    None => Fused {
                        work: Work::Map(Op::Add { factor }),
                        inputs,
                        output,
                    },
                }
            }
            Op::Cat if pictures && shapes[inputs[0]][0].is_multiple_of(BLOCK) => Fused {
                work: Work::Map(Op::Cat),
                inputs,
                output,
            },
            Op::GroupNorm { modulated, .. } if picture(&shapes[inputs[0]]) => {
                debug_assert!(inputs.len() == if modulated { 3 } else { 1 });
                Fused {
                    work: Work::Map(op),
                    inputs,
                    output,
                }
            }
            Op::AddChannels if picture(&shapes[inputs[0]]) => Fused {
                work: Work::Map(op),
                inputs,
                output,
            },
            Op::Pool(_) | Op::Upsample(_) | Op::Gate if pictures => Fused {
                work: Work::Map(op),
                inputs,
                output,
            },
            op => Fused {
                work: Work::Plain(plain(op)?),
                inputs,
                output,
            },
        };
        all.push(Some(fused));
    }
    Ok(all.into_iter().flatten().collect())
}

/// An operator as it runs without a plan.
fn plain(op: Op) -> Result<Function> {
    Ok(match op {
        Op::Plain(f) => f,
        Op::Conv { w, b, cfg } => Arc::new(move |x| conv2d(&x[0], &w, b.as_ref(), cfg)),
        Op::Affine { scale, shift, .. } => affine(scale, shift),
        Op::Act(act) => Arc::new(move |x| match act {
            Act::None => Ok(x[0].clone()),
            Act::Silu => crate::silu(&x[0]),
            Act::Leaky(slope) => crate::leaky_relu(&x[0], f64::from(slope)),
            Act::Sigmoid => candle_nn::ops::sigmoid(&x[0]),
            Act::Tanh => x[0].tanh(),
        }),
        Op::Add { factor } => Arc::new(move |x| crate::add_scaled(&x[0], &x[1], f64::from(factor))),
        Op::Cat => Arc::new(|x| crate::cat_channels(&x[0], &x[1])),
        Op::GroupNorm { .. } | Op::AddChannels | Op::Pool(_) | Op::Upsample(_) | Op::Gate => {
            candle_core::bail!("plan: an operator on pictures met something else")
        }
    })
}

fn affine(scale: Vec<f32>, shift: Vec<f32>) -> Function {
    Arc::new(move |x| {
        let mut dims = vec![1; x[0].rank()];
        dims[1] = scale.len();
        let row = |v: &[f32]| Tensor::from_slice(v, &dims[..], x[0].device());
        x[0].broadcast_mul(&row(&scale)?)?
            .broadcast_add(&row(&shift)?)
    })
}

/// Where everything lies, and the steps so far.
struct Builder {
    shapes: Vec<Vec<usize>>,
    /// Of values that exist in blocks.
    places: Vec<Option<Place>>,
    buffers: Vec<Buffer>,
    /// Values that exist as tensors.
    tensors: Vec<bool>,
    steps: Vec<Made>,
}

/// A step whose places have no offsets yet.
enum Made {
    Pack(usize),
    Unpack(usize),
    Fused(Fused),
    /// The part of a joined value that could not be written where it belongs.
    Copy(usize, Place),
}

impl Builder {
    fn new(shapes: Vec<Vec<usize>>, fused: &[Fused]) -> Self {
        let values = shapes.len();
        let mut builder = Self {
            shapes,
            places: vec![None; values],
            buffers: Vec::new(),
            tensors: vec![false; values],
            steps: Vec::new(),
        };
        // The widest first: what is joined later lies within.
        for f in fused.iter().rev() {
            if let Work::Map(Op::Cat) = f.work {
                let whole = builder.place(f.output);
                let mut block = whole.block;
                for &part in &f.inputs {
                    if builder.places[part].is_none() && f.inputs[0] != f.inputs[1] {
                        let buffer = whole.buffer;
                        builder.places[part] = Some(Place { buffer, block });
                    }
                    block += builder.blocks(part);
                }
            }
        }
        builder
    }

    fn blocks(&self, value: usize) -> usize {
        self.shapes[value][0].div_ceil(BLOCK)
    }

    /// A value's place; one of its own if it has none.
    fn place(&mut self, value: usize) -> Place {
        if let Some(place) = self.places[value] {
            return place;
        }
        let shape = &self.shapes[value];
        let buffer = Buffer::new(shape[0].div_ceil(BLOCK), shape[1], shape[2]);
        let place = Place {
            buffer: self.buffers.len(),
            block: 0,
        };
        self.buffers.push(buffer);
        self.places[value] = Some(place);
        place
    }

    /// In blocks, at a step that follows.
    fn blocked(&mut self, value: usize, packed: &mut [bool]) {
        if !packed[value] {
            packed[value] = true;
            let place = self.place(value);
            self.buffers[place.buffer].used(self.steps.len());
            self.steps.push(Made::Pack(value));
        }
    }

    /// As a tensor, at a step that follows.
    fn tensor(&mut self, value: usize) {
        if !self.tensors[value] {
            self.tensors[value] = true;
            let place = self.place(value);
            self.buffers[place.buffer].used(self.steps.len());
            self.steps.push(Made::Unpack(value));
        }
    }

    fn build(
        mut self,
        fused: Vec<Fused>,
        inputs: Vec<usize>,
        outputs: Vec<usize>,
        watched: Vec<Watched>,
    ) -> Result<Plan> {
        let values = self.shapes.len();
        for &input in &inputs {
            self.tensors[input] = true;
        }
        // Which values exist in blocks by now.
        let mut packed = vec![false; values];
        for f in fused {
            match &f.work {
                Work::Plain(_) => {
                    for &i in &f.inputs {
                        self.tensor(i);
                    }
                    self.tensors[f.output] = true;
                    self.steps.push(Made::Fused(f));
                }
                Work::Map(Op::Cat) => {
                    let whole = self.place(f.output);
                    let mut block = whole.block;
                    for &part in &f.inputs {
                        self.blocked(part, &mut packed);
                        let own = self.place(part);
                        let place = Place {
                            buffer: whole.buffer,
                            block,
                        };
                        let step = self.steps.len();
                        self.buffers[whole.buffer].used(step);
                        if own != place {
                            self.buffers[own.buffer].used(step);
                            self.steps.push(Made::Copy(part, place));
                        }
                        block += self.blocks(part);
                    }
                    packed[f.output] = true;
                }
                work => {
                    let others: Vec<usize> = match work {
                        Work::Conv(conv) => conv.residual.into_iter().collect(),
                        _ => Vec::new(),
                    };
                    // Numbers per channel stay tensors.
                    let maps = match work {
                        Work::Map(Op::GroupNorm { .. } | Op::AddChannels) => 1,
                        _ => f.inputs.len(),
                    };
                    for &i in &f.inputs[maps..] {
                        self.tensor(i);
                    }
                    let read: Vec<usize> = f.inputs[..maps].iter().copied().chain(others).collect();
                    for &i in &read {
                        self.blocked(i, &mut packed);
                    }
                    let step = self.steps.len();
                    for &i in read.iter().chain([&f.output]) {
                        let place = self.place(i);
                        self.buffers[place.buffer].used(step);
                    }
                    packed[f.output] = true;
                    self.steps.push(Made::Fused(f));
                }
            }
        }
        for &output in &outputs {
            self.tensor(output);
        }
        let (offsets, floats) = offsets(&self.buffers);
        let mut steps = Vec::new();
        for made in std::mem::take(&mut self.steps) {
            steps.push(self.step(made, &offsets)?);
        }
        Ok(Plan {
            steps: forget(steps, &outputs, values),
            inputs,
            outputs,
            values,
            floats,
            watched,
            buffers: Mutex::default(),
        })
    }

    fn map(&self, value: usize, offsets: &[usize]) -> Result<Map> {
        match self.places[value] {
            Some(place) => Ok(self.at(value, place, offsets)),
            None => candle_core::bail!("plan: value {value} has no place"),
        }
    }

    fn at(&self, value: usize, place: Place, offsets: &[usize]) -> Map {
        let shape = &self.shapes[value];
        Map {
            offset: offsets[place.buffer],
            block: place.block,
            total: self.buffers[place.buffer].blocks,
            c: shape[0],
            h: shape[1],
            w: shape[2],
        }
    }

    fn step(&self, made: Made, offsets: &[usize]) -> Result<Step> {
        let map = |value: usize| self.map(value, offsets);
        let f = match made {
            Made::Pack(value) => return Ok(Step::Pack(value, map(value)?)),
            Made::Unpack(value) => return Ok(Step::Unpack(map(value)?, value)),
            Made::Copy(part, place) => {
                return Ok(Step::Copy(map(part)?, self.at(part, place, offsets)));
            }
            Made::Fused(f) => f,
        };
        let (first, second) = (f.inputs[0], f.inputs.get(1).copied().unwrap_or_default());
        Ok(match f.work {
            Work::Plain(function) => Step::Plain(function, f.inputs, f.output),
            Work::Conv(conv) => {
                let (x, y) = (map(first)?, map(f.output)?);
                let residual = conv.residual.map(map).transpose()?;
                Step::Conv(Box::new(convolution(&conv, x, y, residual)?))
            }
            Work::Map(op) => match op {
                Op::GroupNorm {
                    weight,
                    bias,
                    groups,
                    eps,
                    silu,
                    modulated,
                } => Step::GroupNorm(Box::new(run::GroupNorm {
                    groups,
                    eps,
                    weight: weight.to_vec1()?,
                    bias: bias.to_vec1()?,
                    modulation: modulated.then(|| [f.inputs[1], f.inputs[2]]),
                    act: if silu { Act::Silu } else { Act::None },
                    x: map(first)?,
                    y: map(f.output)?,
                })),
                Op::Act(act) => Step::Act(act, map(first)?, map(f.output)?),
                Op::Add { factor } => Step::Add(map(first)?, map(second)?, factor, map(f.output)?),
                Op::Pool(pool) => Step::Pool(pool, map(first)?, map(f.output)?),
                Op::Upsample(up) => Step::Upsample(up, map(first)?, map(f.output)?),
                Op::Gate => Step::Gate(map(first)?, map(second)?, map(f.output)?),
                Op::AddChannels => Step::AddChannels(map(first)?, second, map(f.output)?),
                Op::Conv { .. } | Op::Affine { .. } | Op::Cat | Op::Plain(_) => {
                    candle_core::bail!("plan: an operator that has been put elsewhere")
                }
            },
        })
    }
}

/// Chooses the kernel, by the size of one picture alone, and prepares the weights.
fn convolution(conv: &Conv, x: Map, y: Map, residual: Option<Map>) -> Result<run::Conv> {
    let (co, ci, kh, kw) = conv.w.dims4()?;
    let mut weights: Vec<f32> = with_slice(&conv.w.contiguous()?, |w| Ok(w.to_vec()))?;
    let mut bias = match &conv.bias {
        Some(b) => b.to_vec1::<f32>()?,
        None => vec![0.0; co],
    };
    if let Some((scale, shift)) = &conv.affine {
        for (w, s) in weights.chunks_exact_mut(ci * kh * kw).zip(scale) {
            w.iter_mut().for_each(|v| *v *= s);
        }
        for ((b, s), t) in bias.iter_mut().zip(scale).zip(shift) {
            *b = *b * s + t;
        }
    }
    bias.resize(co.next_multiple_of(BLOCK), 0.0);
    let sizes = winograd::Sizes {
        n: 1,
        ci,
        co,
        h: x.h,
        w: x.w,
    };
    let cfg = conv.cfg;
    let kernel = if kh == 3 && kw == 3 && cfg.stride == 1 && cfg.padding == 1 && ci.min(co) >= 8 {
        match sizes.keep() {
            true => Kernel::Kept(winograd::Kernels::new(&weights, &sizes, false)),
            false => Kernel::Stream(winograd::Packed::new(&weights, &sizes)),
        }
    } else {
        let shape = taps::Shape {
            ci,
            co,
            kh,
            kw,
            stride: cfg.stride,
            padding: cfg.padding,
        };
        Kernel::Taps(taps::Packed::new(&weights, shape, (x.h, x.w), (y.h, y.w)))
    };
    Ok(run::Conv {
        kernel,
        bias,
        x,
        y,
        residual,
        factor: conv.factor,
        act: conv.act,
    })
}

/// Tensors are dropped after the last step that reads them.
fn forget(steps: Vec<Step>, outputs: &[usize], values: usize) -> Vec<Step> {
    let mut last: Vec<Option<usize>> = vec![None; values];
    for (i, step) in steps.iter().enumerate() {
        let read: Vec<usize> = match step {
            Step::Pack(v, _) | Step::AddChannels(_, v, _) => vec![*v],
            Step::Plain(_, inputs, _) => inputs.clone(),
            Step::GroupNorm(norm) => norm.modulation.iter().flatten().copied().collect(),
            _ => Vec::new(),
        };
        for v in read {
            last[v] = Some(i);
        }
    }
    let mut all = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        all.push(step);
        let done = (0..values).filter(|v| last[*v] == Some(i) && !outputs.contains(v));
        all.extend(done.map(Step::Forget));
    }
    all
}
