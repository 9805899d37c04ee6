//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), step for step as `torch.optim.AdamW`, with a state that can
//! be saved. On a CUDA device all variables are one launch, and the moments stay there.

#[cfg(feature = "cuda")]
use crate::cuda::optimiser::{self, Flat};
use crate::simd::multiversion;
use crate::storage::cpu_slice;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use std::collections::HashMap;
use std::sync::Mutex;

/// The optimiser's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, as a multiple of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// torch's defaults: 1e-3, (0.9, 0.999), 1e-8, 0.01.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }
}

/// The constants of one step, as the loop needs them.
#[derive(Clone, Copy)]
struct Step {
    decay: f32,
    beta2: f32,
    /// 1 - beta1 and 1 - beta2, subtracted in f64: 1 - 0.999 in f32 is off by 1e-5 of itself.
    rest1: f32,
    rest2: f32,
    step_size: f32,
    root_correction: f32,
    eps: f32,
}

impl Step {
    /// The constants of a variable's step `t`, from 1.
    fn new(c: &AdamWConfig, t: u64) -> Self {
        let t = t as i32;
        Self {
            decay: (1.0 - c.lr * c.weight_decay) as f32,
            beta2: c.beta2 as f32,
            rest1: (1.0 - c.beta1) as f32,
            rest2: (1.0 - c.beta2) as f32,
            step_size: (c.lr / (1.0 - c.beta1.powi(t))) as f32,
            root_correction: (1.0 / (1.0 - c.beta2.powi(t)).sqrt()) as f32,
            eps: c.eps as f32,
        }
    }
}

/// A variable's gradient, contiguous and of its shape.
fn gradient(grads: &GradStore, name: &str, var: &Var) -> Result<Option<Tensor>> {
    let Some(grad) = grads.get(var) else {
        return Ok(None);
    };
    if grad.shape() != var.shape() {
        bail!(
            "AdamW: gradient of {name} has shape {:?}, not {:?}",
            grad.shape(),
            var.shape()
        )
    }
    grad.contiguous().map(Some)
}

multiversion! {
    fn update(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], s: Step) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
            *m += (g - *m) * s.rest1;
            *v = *v * s.beta2 + g * g * s.rest2;
            *p = *p * s.decay - s.step_size * *m / (v.sqrt() * s.root_correction + s.eps);
        }
    }
}

/// First and second moment of one variable, and how many steps they have seen.
#[derive(Debug)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
}

/// The in-place update of one variable by its gradient.
struct Update<'a> {
    moments: Mutex<&'a mut Moments>,
    step: Step,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn cpu_fwd(&self, p: &mut CpuStorage, lp: &Layout, g: &CpuStorage, lg: &Layout) -> Result<()> {
        let g = cpu_slice("adamw", g, lg)?;
        let (CpuStorage::F32(p), Some((from, to))) = (p, lp.contiguous_offsets()) else {
            bail!("adamw: the variable must be contiguous f32")
        };
        let mut moments = self.moments.lock().expect("no panic while locked");
        let Moments { first, second, .. } = &mut **moments;
        update(&mut p[from..to], g, first, second, self.step);
        Ok(())
    }
}

/// AdamW over named variables.
#[derive(Debug)]
pub struct AdamW {
    /// The constants; change `lr` between steps for a schedule.
    pub config: AdamWConfig,
    vars: Vec<(String, Var)>,
    moments: Vec<Moments>,
    /// First and second moments of all variables where they are on a CUDA device; those in `moments` are empty then.
    #[cfg(feature = "cuda")]
    flat: Option<[Flat; 2]>,
}

impl AdamW {
    /// An optimiser for f32 variables with unique names (see [`crate::Params::named`]).
    ///
    /// # Errors
    /// A variable of another type.
    pub fn new(vars: Vec<(String, Var)>, config: AdamWConfig) -> Result<Self> {
        let mut moments = Vec::with_capacity(vars.len());
        for (name, var) in &vars {
            if var.dtype() != DType::F32 {
                bail!(
                    "AdamW: variable {name} is {:?}, only f32 is trained",
                    var.dtype()
                )
            }
            moments.push(Moments {
                first: vec![0.0; var.elem_count()],
                second: vec![0.0; var.elem_count()],
                steps: 0,
            });
        }
        let mut new = Self {
            config,
            vars,
            moments,
            #[cfg(feature = "cuda")]
            flat: None,
        };
        new.settle()?;
        Ok(new)
    }

    /// Moves the moments to where the variables are, if that is one CUDA device.
    #[cfg(feature = "cuda")]
    fn settle(&mut self) -> Result<()> {
        let Some(like) = optimiser::together(&self.vars) else {
            return Ok(());
        };
        let mut flat = [vec![], vec![]];
        for m in &mut self.moments {
            flat[0].append(&mut m.first);
            flat[1].append(&mut m.second);
        }
        let [first, second] = flat.map(|values| Flat::new(like, &values));
        self.flat = Some([first?, second?]);
        Ok(())
    }

    #[cfg(not(feature = "cuda"))]
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// One update of every variable that has a gradient; the others keep value and state, as in torch.
    ///
    /// # Errors
    /// A gradient whose shape is not its variable's.
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        let c = self.config;
        #[cfg(feature = "cuda")]
        if self.flat.is_some() {
            return self.step_flat(grads);
        }
        for ((name, var), moments) in self.vars.iter().zip(&mut self.moments) {
            let Some(grad) = gradient(grads, name, var)? else {
                continue;
            };
            moments.steps += 1;
            let step = Step::new(&c, moments.steps);
            if var.device().is_cpu() {
                let moments = Mutex::new(moments);
                var.inplace_op2(&grad, &Update { moments, step })?;
            } else {
                update_elsewhere(var, &grad, moments, step)?;
            }
        }
        Ok(())
    }

    /// The same in one launch.
    #[cfg(feature = "cuda")]
    fn step_flat(&mut self, grads: &GradStore) -> Result<()> {
        let Some([first, second]) = &mut self.flat else {
            return Ok(());
        };
        let common = Step::new(&self.config, 1);
        let (mut at, mut chosen) = (0, Vec::with_capacity(self.vars.len()));
        for ((name, var), moments) in self.vars.iter().zip(&mut self.moments) {
            if let Some(grad) = gradient(grads, name, var)? {
                moments.steps += 1;
                chosen.push((name, var, grad, at, Step::new(&self.config, moments.steps)));
            }
            at += var.elem_count();
        }
        let entries: Vec<_> = (chosen.iter())
            .map(|(name, var, grad, at, step)| optimiser::Entry {
                name,
                var: var.as_tensor(),
                grad: Some(grad),
                at: *at,
                a: step.step_size,
                b: step.root_correction,
            })
            .collect();
        let shared = optimiser::Shared {
            rest1: common.rest1,
            beta2: common.beta2,
            rest2: common.rest2,
            decay: common.decay,
            eps: common.eps,
        };
        optimiser::adamw(&entries, first, second, &shared)
    }

    /// All first and all second moments, variable by variable, in the order of the variables.
    fn values(&self) -> Result<Vec<[Vec<f32>; 2]>> {
        #[cfg(feature = "cuda")]
        if let Some([first, second]) = &self.flat {
            let (first, second) = (first.values()?, second.values()?);
            let mut at = 0;
            let part = |(_, var): &(String, Var)| {
                let range = at..at + var.elem_count();
                at = range.end;
                [first[range.clone()].to_vec(), second[range].to_vec()]
            };
            return Ok(self.vars.iter().map(part).collect());
        }
        Ok((self.moments.iter())
            .map(|m| [m.first.clone(), m.second.clone()])
            .collect())
    }

    /// The whole state: `exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME` for every variable.
    ///
    /// # Errors
    /// Only those of allocation.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut out = HashMap::new();
        let cpu = candle_core::Device::Cpu;
        let values = self.values()?;
        for (((name, var), m), [first, second]) in self.vars.iter().zip(&self.moments).zip(values) {
            let tensor = |v: Vec<f32>| Tensor::from_vec(v, var.shape(), &cpu);
            out.insert(format!("exp_avg.{name}"), tensor(first)?);
            out.insert(format!("exp_avg_sq.{name}"), tensor(second)?);
            out.insert(
                format!("step.{name}"),
                Tensor::new(&[m.steps as i64], &cpu)?,
            );
        }
        Ok(out)
    }

    /// Restores what [`AdamW::state`] gave, to the bit.
    ///
    /// # Errors
    /// A missing name or a wrong shape; nothing is changed then.
    pub fn load_state(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let mut loaded = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            let get = |kind: &str| match state.get(&format!("{kind}.{name}")) {
                Some(t) => Ok(t),
                None => bail!("AdamW state: {kind}.{name} is missing"),
            };
            let values = |kind: &str| {
                let t = get(kind)?;
                if t.shape() != var.shape() {
                    bail!(
                        "AdamW state: {kind}.{name} has shape {:?}, not {:?}",
                        t.shape(),
                        var.shape()
                    )
                }
                t.flatten_all()?.to_vec1::<f32>()
            };
            loaded.push(Moments {
                first: values("exp_avg")?,
                second: values("exp_avg_sq")?,
                steps: get("step")?.reshape(1)?.to_vec1::<i64>()?[0].max(0) as u64,
            });
        }
        self.moments = loaded;
        self.settle()
    }
}

/// The same update on a device without the fused loop; the moments stay on the host.
fn update_elsewhere(var: &Var, grad: &Tensor, m: &mut Moments, step: Step) -> Result<()> {
    let mut p = var.flatten_all()?.to_vec1::<f32>()?;
    let g = grad.flatten_all()?.to_vec1::<f32>()?;
    update(&mut p, &g, &mut m.first, &mut m.second, step);
    var.set(&Tensor::from_vec(p, var.shape(), var.device())?)
}
