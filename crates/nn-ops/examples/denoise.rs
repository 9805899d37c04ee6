//! Trains a small network to remove noise from waves along x, stops half way, resumes from the saved state and compares the bits.
//!
//! cargo run --release -p nn-ops --example denoise

use candle_core::{Device, Module, ModuleT, Result, Tensor};
use nn_ops::{
    AdamW, AdamWConfig, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, Ema, Params, Pool2x,
    Upsample2x, clip_grad_norm, leaky_relu, noise,
};

const SEED: u64 = 3;
const STEPS: u32 = 200;

/// Down to half the size and back: what the fine grid alone can show is noise.
struct Net {
    convs: [Conv2d; 3],
    norm: BatchNorm,
}

impl Net {
    fn new(params: &Params) -> Result<Self> {
        let vb = params.builder(&Device::Cpu);
        let conv = |ci, co, name| Conv2d::new(ci, co, 3, Conv2dConfig::same(3), vb.pp(name));
        Ok(Self {
            convs: [
                conv(1, 8, "first")?,
                conv(8, 8, "middle")?,
                conv(8, 1, "last")?,
            ],
            norm: BatchNorm::new(8, BatchNormConfig::default(), vb.pp("norm"))?,
        })
    }
}

impl ModuleT for Net {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let h = leaky_relu(
            &self.norm.forward_t(&self.convs[0].forward(x)?, train)?,
            0.1,
        )?;
        let h = leaky_relu(&self.convs[1].forward(&Pool2x::Max.forward(&h)?)?, 0.1)?;
        self.convs[2].forward(&Upsample2x::Bilinear.forward(&h)?)
    }
}

/// Parameters and everything that moves them.
struct Run {
    params: Params,
    net: Net,
    adam: AdamW,
    ema: Ema,
}

impl Run {
    fn new() -> Result<Self> {
        let params = Params::new(SEED);
        let net = Net::new(&params)?;
        let config = AdamWConfig {
            lr: 1e-2,
            ..Default::default()
        };
        Ok(Self {
            adam: AdamW::new(params.named(), config)?,
            ema: Ema::new(params.named(), 0.99)?,
            net,
            params,
        })
    }

    fn step(&mut self, step: u32) -> Result<f32> {
        let batch = [0, 1, 2, 3, 4, 5, 6, 7];
        let fresh = |stream, item: &[usize]| {
            noise::normal_tensor(SEED, &batch, stream, step, item, &Device::Cpu)
        };
        let ramp = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 1, 1, 16))?;
        let clean = fresh(0, &[1, 1, 1])?
            .broadcast_mul(&(ramp * 0.6)?)?
            .sin()?
            .broadcast_as((8, 1, 16, 16))?;
        let noisy = (&clean + (fresh(1, &[1, 16, 16])? * 0.5)?)?;
        let loss = (self.net.forward_t(&noisy, true)? - clean)?
            .sqr()?
            .mean_all()?;
        let mut grads = loss.backward()?;
        clip_grad_norm(&mut grads, &self.params.named(), 1.0)?;
        self.adam.step(&grads)?;
        self.ema.update()?;
        loss.to_scalar()
    }

    fn bits(&self) -> Result<Vec<u32>> {
        let averages = self.ema.tensors()?;
        let mut bits = Vec::new();
        for (name, _) in self.params.named() {
            bits.extend(
                averages[&name]
                    .flatten_all()?
                    .to_vec1::<f32>()?
                    .iter()
                    .map(|v| v.to_bits()),
            );
        }
        Ok(bits)
    }
}

fn main() -> Result<()> {
    let mut whole = Run::new()?;
    let mut resumed = Run::new()?;
    for step in 0..STEPS {
        let loss = whole.step(step)?;
        if step % 40 == 39 {
            println!(
                "step {:3}: mean squared error {loss:.4}, the noise alone 0.25",
                step + 1
            );
        }
        if step + 1 == STEPS / 2 {
            let copy = |(name, t): (String, Tensor)| Ok((name, t.copy()?));
            resumed.params.load(
                &whole
                    .params
                    .tensors()
                    .into_iter()
                    .map(copy)
                    .collect::<Result<_>>()?,
            )?;
            resumed.adam.load_state(&whole.adam.state()?)?;
            resumed.ema.load_state(&whole.ema.state()?)?;
        }
    }
    for step in STEPS / 2..STEPS {
        resumed.step(step)?;
    }
    println!(
        "resumed half way: same bits: {}",
        whole.bits()? == resumed.bits()?
    );
    Ok(())
}
