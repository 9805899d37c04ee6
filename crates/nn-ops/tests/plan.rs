//! Inference plans beside the plain network.
#![allow(missing_docs)]

use candle_core::{DType, Device, Module, ModuleT, Result, Tensor, Var};
use candle_nn::VarBuilder;
use nn_ops::plan::{Plans, opaque, without};
use nn_ops::{
    Activation, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, GroupNorm, Linear, Params,
    Pool2x, Upsample2x, add, add_channels, add_scaled, cat_channels, gate, leaky_relu, noise,
    pixel_attention, sigmoid, silu, tanh,
};

fn values(shape: &[usize], seed: u64) -> Tensor {
    let items: Vec<u64> = (0..shape[0] as u64).collect();
    noise::normal_tensor(seed, &items, 0, 0, &shape[1..], &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    flat(t).into_iter().map(f32::to_bits).collect()
}

/// Relative to the largest value.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let scale = b.iter().fold(1e-20f32, |m, v| m.max(v.abs()));
    let far = |m: f32, (a, b): (&f32, &f32)| {
        assert!(a.is_finite() && b.is_finite());
        m.max((a - b).abs())
    };
    a.iter().zip(&b).fold(0.0, far) / scale
}

/// Parameters that nobody trains, none of them zero.
fn constants(make: impl Fn(VarBuilder) -> Result<()>, seed: u64) -> VarBuilder<'static> {
    let params = Params::new(seed);
    make(params.builder(&Device::Cpu)).unwrap();
    let mut tensors = params.tensors();
    let mut names: Vec<String> = tensors.keys().cloned().collect();
    names.sort();
    for (i, name) in names.iter().enumerate() {
        let t = tensors.get_mut(name).unwrap();
        let shape = [&[1], t.dims()].concat();
        let wave = values(&shape, seed + i as u64).squeeze(0).unwrap();
        *t = (t.detach() + (wave * 0.02).unwrap()).unwrap();
    }
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// Every operator that a plan knows, and one it does not.
struct Everything {
    convs: Vec<Conv2d>,
    groups: Conv2d,
    batch: BatchNorm,
    norms: [GroupNorm; 2],
    linear: Linear,
    plans: Plans,
}

impl Everything {
    fn new(vb: VarBuilder) -> Result<Self> {
        let conv = |i: usize, ci, co, kernel, stride, padding| {
            let cfg = Conv2dConfig {
                stride,
                padding,
                groups: 1,
            };
            Conv2d::new(ci, co, kernel, cfg, vb.pp(format!("conv.{i}")))
        };
        let grouped = Conv2dConfig {
            groups: 3,
            ..Conv2dConfig::same(3)
        };
        Ok(Self {
            convs: vec![
                conv(0, 5, 48, 3, 1, 1)?,
                conv(1, 48, 48, 3, 1, 1)?,
                conv(2, 48, 96, 3, 2, 1)?,
                conv(3, 96, 96, 5, 1, 2)?,
                conv(4, 96, 3 * 96, 1, 1, 0)?,
                conv(5, 96, 48, 1, 1, 0)?,
                conv(6, 192, 80, 3, 1, 1)?,
                conv(7, 80, 1, 1, 1, 0)?,
                conv(8, 80, 7, 3, 1, 1)?,
                conv(9, 240, 200, 3, 1, 1)?,
                conv(10, 200, 48, 1, 1, 0)?,
            ],
            groups: Conv2d::new(96, 96, 3, grouped, vb.pp("grouped"))?,
            batch: BatchNorm::new(48, BatchNormConfig::default(), vb.pp("batch"))?,
            norms: [
                GroupNorm::new(12, 48, 1e-5, vb.pp("norm.0"))?,
                GroupNorm::new(3, 96, 1e-5, vb.pp("norm.1"))?,
            ],
            linear: Linear::new(6, 192, vb.pp("linear"))?,
            plans: Plans::default(),
        })
    }

    fn network(&self, x: &Tensor, e: &Tensor) -> Result<Vec<Tensor>> {
        let c = &self.convs;
        let first = leaky_relu(&c[0].forward(x)?, 0.1)?;
        let h = self.batch.forward_t(
            &c[1].forward(&self.norms[0].forward_act(&first, Activation::Silu)?)?,
            false,
        )?;
        // Its convolution is followed by a norm, a sum and an activation.
        let one = silu(&add_scaled(&first, &h, 0.7)?)?;
        let down = c[2].forward(&one)?;
        let down = add(&Pool2x::Max.forward(&cat_channels(&one, &h)?)?, &down)?;
        let e = silu(&self.linear.forward(e)?)?;
        let half = |i: usize| opaque(&[&e], move |e| Ok(e[0].chunk(2, 1)?[i].clone()));
        let down =
            self.norms[1].forward_modulated(&down, &half(0)?, &half(1)?, Activation::Silu)?;
        let down = add_channels(&c[3].forward(&down)?, &half(0)?)?;
        let down = add(&self.groups.forward(&down)?, &down)?;
        let down = add(&down, &pixel_attention(&c[4].forward(&down)?, 4)?)?;
        let up = Upsample2x::Bilinear.forward(&c[5].forward(&down)?)?;
        let wide = cat_channels(
            &Upsample2x::Nearest.forward(&down)?,
            &cat_channels(&up, &one)?,
        )?;
        let more = c[10].forward(&c[9].forward(&cat_channels(&wide, &up)?)?)?;
        let out = tanh(&c[6].forward(&wide)?)?;
        let weight = sigmoid(&c[7].forward(&out)?)?;
        let out = gate(&out, &weight)?;
        let small = Pool2x::Mean.forward(&c[8].forward(&out)?)?;
        Ok(vec![small, more])
    }

    fn forward(&self, x: &Tensor, e: &Tensor) -> Result<Vec<Tensor>> {
        self.plans.run(&[x, e], |t| self.network(&t[0], &t[1]))
    }
}

fn everything() -> Everything {
    Everything::new(constants(|vb| Everything::new(vb).map(drop), 3)).unwrap()
}

#[test]
fn a_plan_agrees_with_the_plain_network() {
    let net = everything();
    for (n, h, w) in [(1, 8, 8), (3, 12, 20), (2, 2, 2), (5, 6, 4), (1, 34, 30)] {
        let (x, e) = (values(&[n, 5, h, w], 1), values(&[n, 6], 2));
        let planned = net.forward(&x, &e).unwrap();
        assert!(net.plans.any());
        let plain = without(|| net.forward(&x, &e)).unwrap();
        for (a, b) in planned.iter().zip(&plain) {
            let off = difference(a, b);
            assert!(off < 5e-5, "{n} {h}x{w}: {off:e}");
        }
        // Again, in buffers that have been used.
        let again = net.forward(&x, &e).unwrap();
        assert_eq!(bits(&again[0]), bits(&planned[0]));
    }
}

#[test]
fn a_picture_is_the_same_in_any_batch_and_on_any_number_of_threads() {
    let net = everything();
    let (x, e) = (values(&[7, 5, 16, 12], 4), values(&[7, 6], 5));
    let all = net.forward(&x, &e).unwrap();
    for i in 0..7 {
        let one = net
            .forward(&x.narrow(0, i, 1).unwrap(), &e.narrow(0, i, 1).unwrap())
            .unwrap();
        for (one, all) in one.iter().zip(&all) {
            assert_eq!(
                bits(one),
                bits(&all.narrow(0, i, 1).unwrap()),
                "picture {i}"
            );
        }
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let again = pool
            .build()
            .unwrap()
            .install(|| net.forward(&x, &e))
            .unwrap();
        assert_eq!(bits(&again[1]), bits(&all[1]), "{threads} threads");
    }
    // Many callers at once.
    let fresh = everything();
    let same = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| bits(&fresh.forward(&x, &e).unwrap()[1])))
            .collect();
        calls
            .into_iter()
            .all(|c| c.join().unwrap() == bits(&all[1]))
    });
    assert!(same);
}

#[test]
fn what_is_trained_or_comes_from_elsewhere_runs_plainly() {
    let (x, e) = (values(&[2, 5, 8, 8], 1), values(&[2, 6], 2));
    let params = Params::new(1);
    let trained = Everything::new(params.builder(&Device::Cpu)).unwrap();
    trained.forward(&x, &e).unwrap();
    assert!(!trained.plans.any(), "weights in training");

    let net = everything();
    let var = Var::from_tensor(&x).unwrap();
    let y = net.forward(var.as_tensor(), &e).unwrap();
    assert!(!net.plans.any(), "an input with a gradient");
    let grads = y[0].sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&var).is_some());

    // An operator that is not written down: no plan, and the right result.
    let plans = Plans::default();
    let conv = &net.convs[0];
    let hidden = |t: &[Tensor]| conv.forward(&(&t[0] * 2.0)?);
    let y = plans.one(&[&x], hidden).unwrap();
    assert!(!plans.any());
    assert_eq!(bits(&y), bits(&conv.forward(&(&x * 2.0).unwrap()).unwrap()));

    // Errors are the network's own.
    let wrong = values(&[2, 4, 8, 8], 1);
    let message = net.forward(&wrong, &e).unwrap_err().to_string();
    assert!(
        message.contains("conv2d") && message.contains("[2, 4, 8, 8]"),
        "{message}"
    );
}

#[test]
fn running_statistics_that_move_make_a_new_plan() {
    let net = everything();
    let (x, e) = (values(&[2, 5, 8, 8], 1), values(&[2, 6], 2));
    let before = net.forward(&x, &e).unwrap();
    net.batch
        .forward_t(&(values(&[4, 48, 3, 3], 9) * 9.0).unwrap(), true)
        .unwrap();
    let after = net.forward(&x, &e).unwrap();
    let plain = without(|| net.forward(&x, &e)).unwrap();
    assert!(difference(&after[1], &plain[1]) < 5e-5);
    assert!(difference(&before[1], &plain[1]) > 1e-3);
}

/// The same tests with the instruction sets that this processor has beside its best.
#[test]
fn every_instruction_set() {
    if std::env::var_os("NN_OPS_ISA").is_some() {
        return;
    }
    for isa in ["portable", "avx2"] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_plan_agrees_with_the_plain_network"])
            .arg("a_picture_is_the_same_in_any_batch_and_on_any_number_of_threads")
            .env("NN_OPS_ISA", isa)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(
            status.status.success() && text.contains("2 passed"),
            "{isa}: {text}"
        );
    }
}
