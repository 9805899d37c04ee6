//! An exponential moving average of parameters: the weights that sample, while others train.
//!
//! [`Ema`] follows parameters with the decays of an [`EmaDecay`]. Averages of the power-function kind can be mixed after
//! training into one of any other length: [`reconstruct`] says how, [`mix`] does it.

mod decay;
mod power;

pub use decay::{EmaDecay, InverseGamma};
pub use power::{Profile, mix, power_gamma, power_sigma_rel, reconstruct};

#[cfg(feature = "cuda")]
use crate::cuda::optimiser::{self, Flat};
use crate::simd::multiversion;
use crate::storage::with_slice;
use candle_core::{Device, Result, Tensor, Var, bail};
use std::collections::HashMap;

multiversion! {
    fn blend(shadow: &mut [f32], value: &[f32], keep: f32) {
        for (s, v) in shadow.iter_mut().zip(value) {
            *s = v + (*s - v) * keep;
        }
    }
}

/// Shadow values of named variables.
#[derive(Debug)]
pub struct Ema {
    decay: EmaDecay,
    steps: u64,
    vars: Vec<(String, Var)>,
    shadow: Vec<Vec<f32>>,
    /// All of them where the variables are on a CUDA device; those in `shadow` are empty then.
    #[cfg(feature = "cuda")]
    flat: Option<Flat>,
}

impl Ema {
    /// Starts at the variables' present values. The decay of step t (from 0) is min(decay, (1 + t) / (10 + t)), so
    /// that early values are forgotten soon: [`EmaDecay::Warmup`].
    ///
    /// # Errors
    /// A variable that is not f32, a decay outside [0, 1].
    pub fn new(vars: Vec<(String, Var)>, decay: f64) -> Result<Self> {
        Self::with_decay(vars, EmaDecay::Warmup(decay))
    }

    /// Starts at the variables' present values, with the decays given.
    ///
    /// # Errors
    /// A variable that is not f32, decays out of their range.
    pub fn with_decay(vars: Vec<(String, Var)>, decay: EmaDecay) -> Result<Self> {
        decay.check()?;
        Self::start(vars, decay)
    }

    fn start(vars: Vec<(String, Var)>, decay: EmaDecay) -> Result<Self> {
        let shadow = vars
            .iter()
            .map(|(_, v)| v.flatten_all()?.to_vec1::<f32>())
            .collect::<Result<_>>()?;
        let mut new = Self {
            decay,
            steps: 0,
            vars,
            shadow,
            #[cfg(feature = "cuda")]
            flat: None,
        };
        new.settle()?;
        Ok(new)
    }

    /// Moves the averages to where the variables are, if that is one CUDA device.
    #[cfg(feature = "cuda")]
    fn settle(&mut self) -> Result<()> {
        let Some(like) = optimiser::together(&self.vars) else {
            return Ok(());
        };
        let all: Vec<f32> = self.shadow.iter_mut().flat_map(std::mem::take).collect();
        self.flat = Some(Flat::new(like, &all)?);
        Ok(())
    }

    #[cfg(not(feature = "cuda"))]
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Moves every shadow towards its variable.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn update(&mut self) -> Result<()> {
        let keep = self.decay.at(self.steps) as f32;
        self.steps += 1;
        #[cfg(feature = "cuda")]
        if let Some(flat) = &mut self.flat {
            let mut at = 0;
            let mut entries = Vec::with_capacity(self.vars.len());
            for (name, var) in &self.vars {
                entries.push(optimiser::Entry {
                    name,
                    var: var.as_tensor(),
                    grad: None,
                    at,
                    a: 0.0,
                    b: 0.0,
                });
                at += var.elem_count();
            }
            return optimiser::ema(&entries, flat, keep);
        }
        for ((_, var), shadow) in self.vars.iter().zip(&mut self.shadow) {
            let host = var.to_device(&Device::Cpu)?;
            with_slice(&host, |value| {
                blend(shadow, value, keep);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The averaged values by name.
    ///
    /// # Errors
    /// Only those of allocation.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        #[cfg(feature = "cuda")]
        if let Some(flat) = &self.flat {
            let all = flat.values()?;
            let mut at = 0;
            let part = |(name, var): &(String, Var)| {
                let values = &all[at..at + var.elem_count()];
                at += var.elem_count();
                let tensor = Tensor::from_slice(values, var.shape(), &Device::Cpu)?;
                Ok((name.clone(), tensor))
            };
            return self.vars.iter().map(part).collect();
        }
        let named = self.vars.iter().zip(&self.shadow);
        named
            .map(|((name, var), s)| {
                Ok((
                    name.clone(),
                    Tensor::from_slice(s, var.shape(), &Device::Cpu)?,
                ))
            })
            .collect()
    }

    /// Forgets everything: begins anew at the variables' present values.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn restart(&mut self) -> Result<()> {
        *self = Self::start(self.vars.clone(), self.decay)?;
        Ok(())
    }

    /// The averages and `ema.steps`.
    ///
    /// # Errors
    /// Only those of allocation.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = self.tensors()?;
        state.insert(
            "ema.steps".into(),
            Tensor::new(&[self.steps as i64], &Device::Cpu)?,
        );
        Ok(state)
    }

    /// Restores what [`Ema::state`] gave, to the bit.
    ///
    /// # Errors
    /// A missing name or a wrong shape; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut loaded = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            match state.get(name) {
                Some(t) if t.shape() == var.shape() => loaded.push(t.flatten_all()?.to_vec1()?),
                Some(t) => bail!(
                    "EMA state: {name} has shape {:?}, not {:?}",
                    t.shape(),
                    var.shape()
                ),
                None => bail!("EMA state: {name} is missing"),
            }
        }
        let Some(steps) = state.get("ema.steps") else {
            bail!("EMA state: ema.steps is missing")
        };
        self.steps = steps.reshape(1)?.to_vec1::<i64>()?[0].max(0) as u64;
        self.shadow = loaded;
        self.settle()
    }
}
