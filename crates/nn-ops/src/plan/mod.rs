//! Inference plans: a network's operators, written down once, put together and run without allocating.
//!
//! The first call for a size runs the plain network on one picture and notes what every operator of this crate does to
//! what. From that a plan is made: batch normalisations go into the convolutions before them; bias, the sum with a
//! residual path and the activation are done while a convolution's results are in the first cache; channels lie in blocks
//! of 16 from the first layer to the last, joined channels are written where they are joined, and all intermediate values
//! have their places in one buffer that is kept. Networks are written once, as plain functions of tensors.
//!
//! A plan agrees with the plain network within rounding (1e-4 of the largest value), and gives the same bits for a
//! picture in any batch and with any number of threads. Networks that are being trained, inputs that are part of a
//! gradient, other devices and types than the CPU's f32, and the paths [`Exact`](crate::path::Path::Exact) and
//! [`Reference`](crate::path::Path::Reference) run plainly.

mod build;
mod layout;
mod run;
pub(crate) mod trace;

use crate::path::{self, Path};
use candle_core::{DType, Result, Tensor};
use run::Plan;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use trace::Op;

/// Sizes whose plans a network keeps.
const KEPT: usize = 8;

type Made = HashMap<Vec<Vec<usize>>, Option<Arc<Plan>>>;

/// The plans of one network, a size each; clones share them.
#[derive(Clone, Default)]
pub struct Plans(Arc<Mutex<Made>>);

thread_local! {
    static PLAIN: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with all networks that this thread calls as they are, without plans: for comparisons.
pub fn without<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLAIN.set(self.0);
        }
    }
    let _restore = Restore(PLAIN.replace(true));
    f()
}

/// An operator that plans leave as it is: `f` of `inputs`, the pictures of a batch along the first dimension of all of
/// them and of the result.
///
/// Within [`Plans::run`] everything that happens between its inputs and its outputs must be operators of this crate or go
/// through here; otherwise there is no plan, and the network runs plainly.
///
/// # Errors
/// Those of `f`.
pub fn opaque(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !trace::tracing() {
        let inputs: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
        return f(&inputs);
    }
    let f: trace::Function = Arc::new(f);
    let owned: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
    let op = f.clone();
    trace::step(inputs, || Some(Op::Plain(op)), || f(&owned))
}

impl Plans {
    /// What `network` makes of `inputs`, by a plan where there can be one.
    ///
    /// The first dimension of all inputs and outputs is that of the pictures, and `network` must treat each alike and
    /// by itself: it is called with one picture to see what it does, and depends on nothing but its inputs and constants.
    ///
    /// # Errors
    /// Those of `network`.
    pub fn run(
        &self,
        inputs: &[&Tensor],
        network: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        let owned: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
        match self.plan(&owned, &network) {
            Some(plan) => plan.run(&owned),
            None => network(&owned),
        }
    }

    /// As [`Plans::run`] for a network with one output.
    ///
    /// # Errors
    /// Those of `network`.
    pub fn one(
        &self,
        inputs: &[&Tensor],
        network: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut outputs = self.run(inputs, |inputs| Ok(vec![network(inputs)?]))?;
        Ok(outputs.swap_remove(0))
    }

    fn plan(
        &self,
        inputs: &[Tensor],
        network: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Option<Arc<Plan>> {
        let n = inputs.first()?.dims().first().copied()?;
        let fits = |t: &Tensor| {
            t.device().is_cpu()
                && t.dtype() == DType::F32
                && !t.track_op()
                && t.dims().first() == Some(&n)
        };
        let wanted = path::current() == Path::Fast && !PLAIN.get() && !trace::tracing();
        if n == 0 || !wanted || !inputs.iter().all(fits) {
            return None;
        }
        let key: Vec<Vec<usize>> = inputs.iter().map(|t| t.dims()[1..].to_vec()).collect();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = lock().get(&key)
            && made.as_ref().is_none_or(|plan| plan.fresh())
        {
            return made.clone();
        }
        // Outside of the lock: the network runs on the thread pool, whose threads may come here meanwhile.
        let made = build::plan(inputs, network).map(Arc::new);
        let mut plans = lock();
        if plans.len() >= KEPT {
            plans.clear();
        }
        plans.insert(key, made.clone());
        made
    }

    /// Whether there is a plan for some size.
    pub fn any(&self) -> bool {
        let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.values().any(Option::is_some)
    }
}

impl std::fmt::Debug for Plans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Plans({} sizes)", plans.len())
    }
}
