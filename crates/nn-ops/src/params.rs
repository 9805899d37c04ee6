//! Trainable parameters by name, their first values a function of a seed and the name alone.
//!
//! candle's own `VarMap` draws from a generator that cannot be seeded on the CPU; a run that must be repeated to the
//! bit needs this one.

use crate::noise;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

/// Noise streams are addressed by a number; this one belongs to the initialisation.
const STREAM: u32 = 0x1417;

/// A growing set of named variables. Clones share it.
#[derive(Debug, Clone)]
pub struct Params {
    seed: u64,
    vars: Arc<Mutex<BTreeMap<String, Var>>>,
}

impl Params {
    /// An empty set whose future members are initialised from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            vars: Arc::default(),
        }
    }

    /// A builder that creates a variable the first time a layer asks for its name.
    pub fn builder(&self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device.clone())
    }

    /// All variables, sorted by name.
    pub fn named(&self) -> Vec<(String, Var)> {
        let vars = self.vars.lock().expect("no panic while locked");
        vars.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// The number of floats in all variables.
    pub fn count(&self) -> usize {
        self.named().iter().map(|(_, v)| v.elem_count()).sum()
    }

    /// Values by name, sharing memory with the variables.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        self.named()
            .into_iter()
            .map(|(n, v)| (n, v.as_tensor().clone()))
            .collect()
    }

    /// Overwrites every variable with the tensor of its name.
    ///
    /// # Errors
    /// A name that is missing or has another shape; nothing is changed then.
    pub fn load(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let vars = self.named();
        for (name, var) in &vars {
            match tensors.get(name) {
                None => bail!("parameter {name} is missing"),
                Some(t) if t.shape() != var.shape() => bail!(
                    "parameter {name} has shape {:?}, the network needs {:?}",
                    t.shape(),
                    var.shape()
                ),
                Some(_) => {}
            }
        }
        for (name, var) in &vars {
            var.set(
                &tensors[name]
                    .to_dtype(var.dtype())?
                    .to_device(var.device())?,
            )?;
        }
        Ok(())
    }

    fn initial(&self, shape: &Shape, name: &str, init: Init, device: &Device) -> Result<Tensor> {
        let index = fnv1a(name);
        let mut data = vec![0f32; shape.elem_count()];
        let mut uniform = |lo: f64, up: f64| {
            noise::fill_uniform(self.seed, index, STREAM, 0, &mut data);
            data.iter_mut()
                .for_each(|v| *v = (lo + (up - lo) * *v as f64) as f32);
        };
        match init {
            Init::Const(c) => data.fill(c as f32),
            Init::Uniform { lo, up } => uniform(lo, up),
            Init::Randn { mean, stdev } => self.gaussian(index, mean, stdev, &mut data),
            Init::Kaiming {
                dist,
                fan,
                non_linearity,
            } => {
                let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
                match dist {
                    NormalOrUniform::Uniform => uniform(-3f64.sqrt() * std, 3f64.sqrt() * std),
                    NormalOrUniform::Normal => self.gaussian(index, 0.0, std, &mut data),
                }
            }
        }
        Tensor::from_vec(data, shape, device)
    }

    fn gaussian(&self, index: u64, mean: f64, std: f64, data: &mut [f32]) {
        noise::fill_normal(self.seed, index, STREAM, 0, data);
        data.iter_mut()
            .for_each(|v| *v = (mean + std * *v as f64) as f32);
    }
}

/// A stable hash of a name (FNV-1a, 64 bit).
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ b as u64).wrapping_mul(0x0100_0000_01b3)
    })
}

impl SimpleBackend for Params {
    fn get(&self, s: Shape, name: &str, h: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        let mut vars = self.vars.lock().expect("no panic while locked");
        if let Some(var) = vars.get(name) {
            if var.shape() != &s {
                bail!(
                    "parameter {name} exists with shape {:?}, asked for {s:?}",
                    var.shape()
                )
            }
            return Ok(var.as_tensor().clone());
        }
        let var = Var::from_tensor(&self.initial(&s, name, h, dev)?.to_dtype(dtype)?)?;
        let tensor = var.as_tensor().clone();
        vars.insert(name.to_string(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        let vars = self.vars.lock().expect("no panic while locked");
        match vars.get(name) {
            Some(var) => var.as_tensor().to_dtype(dtype),
            None => bail!("parameter {name} does not exist yet"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.vars
            .lock()
            .expect("no panic while locked")
            .contains_key(name)
    }
}
