//! What a network did to one picture: its operators are written down as they run.

use crate::cpu::epilogue::Act;
use crate::{Conv2dConfig, Pool2x, Upsample2x};
use candle_core::{Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An operator on whole tensors, the pictures first.
pub(crate) type Function = Arc<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

/// A count that goes up when what a plan has been made of changes, and what it was then.
#[derive(Clone)]
pub(crate) struct Watched {
    pub count: Arc<AtomicU64>,
    pub seen: u64,
}

impl Watched {
    pub(crate) fn new(count: &Arc<AtomicU64>) -> Self {
        Self {
            count: count.clone(),
            seen: count.load(Ordering::Acquire),
        }
    }

    pub(crate) fn same(&self) -> bool {
        self.count.load(Ordering::Acquire) == self.seen
    }
}

/// What a layer did. Parameters are part of it; the rest are its inputs.
#[derive(Clone)]
pub(crate) enum Op {
    Conv {
        w: Tensor,
        b: Option<Tensor>,
        cfg: Conv2dConfig,
    },
    GroupNorm {
        weight: Tensor,
        bias: Tensor,
        groups: usize,
        eps: f64,
        silu: bool,
        /// Two more inputs (N, C): `scale` and `shift`, as (1 + scale) y + shift.
        modulated: bool,
    },
    /// y = x scale + shift, per channel.
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
        watched: Watched,
    },
    Act(Act),
    /// (a + b) factor.
    Add {
        factor: f32,
    },
    /// Channels side by side.
    Cat,
    Pool(Pool2x),
    Upsample(Upsample2x),
    /// Each pixel of the first input times that of the second, which has one channel.
    Gate,
    /// A picture (N, C, H, W) and numbers (N, C) added to its channels.
    AddChannels,
    /// Anything else, by the plain operators.
    Plain(Function),
}

pub(crate) struct Node {
    pub op: Op,
    pub inputs: Vec<usize>,
    pub output: usize,
}

/// The operators so far, and the shape (of one picture: dimensions without the first) of every value.
#[derive(Default)]
pub(crate) struct Trace {
    ids: HashMap<TensorId, usize>,
    /// All tensors stay alive: an id is never given twice.
    alive: Vec<Tensor>,
    pub shapes: Vec<Vec<usize>>,
    pub nodes: Vec<Node>,
    /// Something that cannot be planned has happened.
    pub failed: Option<&'static str>,
}

impl Trace {
    /// The number of a new value, or of a known one.
    pub(crate) fn value(&mut self, t: &Tensor) -> usize {
        if let Some(at) = self.ids.get(&t.id()) {
            return *at;
        }
        let at = self.shapes.len();
        self.shapes
            .push(t.dims().get(1..).unwrap_or_default().to_vec());
        self.ids.insert(t.id(), at);
        self.alive.push(t.clone());
        at
    }

    pub(crate) fn known(&self, t: &Tensor) -> Option<usize> {
        self.ids.get(&t.id()).copied()
    }

    fn push(&mut self, inputs: &[&Tensor], op: Option<Op>, y: &Tensor) {
        let known: Option<Vec<usize>> = inputs.iter().map(|t| self.known(t)).collect();
        match (known, op) {
            (Some(inputs), Some(op)) => {
                // What gave back its input has done nothing.
                if self.known(y).is_none() {
                    let output = self.value(y);
                    self.nodes.push(Node { op, inputs, output });
                }
            }
            (None, _) => self.failed = Some("an input comes from elsewhere"),
            (_, None) => self.failed = Some("parameters are being trained"),
        }
    }
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Whether this thread writes down what its operators do.
pub(crate) fn tracing() -> bool {
    TRACE.with_borrow(Option::is_some)
}

/// Runs `f`, an operator, and writes it down as `op` if this thread is tracing; `None` says that it cannot be planned.
/// Operators within `f` are not written down.
pub(crate) fn step(
    inputs: &[&Tensor],
    op: impl FnOnce() -> Option<Op>,
    f: impl FnOnce() -> Result<Tensor>,
) -> Result<Tensor> {
    let Some(mut trace) = TRACE.take() else {
        return f();
    };
    let y = f();
    if let Ok(y) = &y {
        trace.push(inputs, op(), y);
    }
    TRACE.set(Some(trace));
    y
}

/// What `f` does, written down, and what it returns.
pub(crate) fn trace(
    inputs: &[Tensor],
    f: impl FnOnce() -> Result<Vec<Tensor>>,
) -> Result<(Trace, Vec<Tensor>)> {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            TRACE.set(None);
        }
    }
    let mut trace = Trace::default();
    for t in inputs {
        trace.value(t);
    }
    TRACE.set(Some(trace));
    let _reset = Reset;
    let outputs = f()?;
    Ok((TRACE.take().unwrap_or_default(), outputs))
}
