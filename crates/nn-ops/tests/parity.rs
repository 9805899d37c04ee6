//! Every operator on any device against the CPU's exact path, value and all gradients, and the optimisers.
//!
//! `WMGM_TEST_DEVICE=cuda` (or `cuda:1`, `metal`) names the device, the CPU unless given; where there is no such device the
//! tests say so and pass. Errors are relative to the largest value: [`TOLERANCES`].

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use nn_ops::path::{self, Path};
use nn_ops::{
    Activation, AdamW, AdamWConfig, Conv2dConfig, Ema, Precision, clip_grad_norm, precision,
};

mod common;
#[path = "common/device.rs"]
mod device;

use device::device;

/// In f32 sums of up to some thousands of terms in another order; TF32 rounds factors to 2^-11, bf16 to 2^-9, f16 to 2^-12,
/// and the halves round what an operator keeps between its parts, too.
const TOLERANCES: [(Precision, f64); 4] = [
    (Precision::F32, 3e-5),
    (Precision::Tf32, 4e-3),
    (Precision::Bf16, 3e-2),
    (Precision::F16, 5e-3),
];

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Value and gradients of the inputs on a device, as f32 on the CPU.
fn results(inputs: &[Tensor], device: &Device, dtype: DType, f: Function) -> Result<Vec<Tensor>> {
    let vars = (inputs.iter())
        .map(|t| Var::from_tensor(&t.to_dtype(dtype)?.to_device(device)?))
        .collect::<Result<Vec<_>>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?.to_dtype(DType::F32)?;
    let weights = common::wave32(y.dims(), 0.917).to_device(device)?;
    let grads = (&y * weights)?.sum_all()?.backward()?;
    let mut all = vec![y];
    for v in &vars {
        let grad = grads.get(v).expect("every input has a gradient");
        assert_eq!(grad.dtype(), dtype, "a gradient has its input's type");
        all.push(grad.to_dtype(DType::F32)?);
    }
    all.iter().map(|t| t.to_device(&Device::Cpu)).collect()
}

/// One operator in every type the device knows.
fn parity(what: &str, shapes: &[&[usize]], f: Function) {
    let Some(device) = device() else { return };
    let inputs: Vec<Tensor> = (shapes.iter().enumerate())
        .map(|(i, shape)| common::wave32(shape, 0.3 + i as f64))
        .collect();
    for (precision, tolerance) in TOLERANCES {
        let dtype = precision.dtype();
        if precision == Precision::Tf32 && !device.is_cuda()
            || dtype != DType::F32 && device.is_metal()
        {
            continue;
        }
        // Both see the same rounded inputs.
        let rounded: Vec<Tensor> = (inputs.iter())
            .map(|t| t.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap())
            .collect();
        let want = path::with(Path::Exact, || {
            results(&rounded, &Device::Cpu, DType::F32, f).unwrap()
        });
        let got = precision::with(precision, || {
            results(&rounded, &device, dtype, f)
                .unwrap_or_else(|e| panic!("{what} in {precision}: {e}"))
        });
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let part = match i {
                0 => "value".into(),
                i => format!("gradient {i}"),
            };
            common::close(
                &format!("{what} in {precision}, {part}"),
                got,
                want,
                tolerance,
            );
        }
    }
}

#[test]
fn convolutions() {
    for (x, w, cfg) in [
        ([2, 16, 8, 8], [24, 16, 3, 3], Conv2dConfig::same(3)),
        ([1, 3, 9, 7], [8, 3, 3, 3], Conv2dConfig::same(3)),
        ([3, 8, 5, 6], [4, 8, 1, 1], Conv2dConfig::default()),
        (
            [2, 8, 9, 8],
            [6, 8, 3, 3],
            Conv2dConfig {
                stride: 2,
                padding: 1,
                groups: 1,
            },
        ),
        (
            [2, 6, 8, 8],
            [9, 2, 3, 3],
            Conv2dConfig {
                stride: 1,
                padding: 1,
                groups: 3,
            },
        ),
        (
            [1, 4, 8, 8],
            [5, 4, 4, 4],
            Conv2dConfig {
                stride: 2,
                padding: 1,
                groups: 1,
            },
        ),
    ] {
        let (x, w, b) = (&x[..], &w[..], [w[0]]);
        let what = format!("conv2d {x:?} {w:?} {cfg:?}");
        parity(&what, &[x, w, &b], &|t| {
            nn_ops::conv2d(&t[0], &t[1], Some(&t[2]), cfg)
        });
        parity(&format!("{what}, no bias"), &[x, w], &|t| {
            nn_ops::conv2d(&t[0], &t[1], None, cfg)
        });
    }
    parity("linear", &[&[5, 7], &[9, 7], &[9]], &|t| {
        nn_ops::linear(&t[0], &t[1], Some(&t[2]))
    });
}

#[test]
fn normalisations() {
    for act in [Activation::None, Activation::Silu] {
        for (x, groups) in [
            ([2, 12, 5, 7], 3),
            ([1, 32, 16, 16], 8),
            ([3, 8, 1, 1], 2),
            ([2, 6, 4, 4], 6),
        ] {
            let (n, c) = (x[0], x[1]);
            for params in [vec![c], vec![n, c]] {
                let what = format!("group_norm {x:?} {groups} {params:?} {act:?}");
                parity(&what, &[&x, &params, &params], &|t| {
                    nn_ops::group_norm(&t[0], &t[1], &t[2], groups, 1e-5, act)
                });
            }
        }
    }
    for x in [[4, 6, 5, 7], [2, 3, 16, 16]] {
        let c = [x[1]];
        parity(&format!("batch_norm_train {x:?}"), &[&x, &c, &c], &|t| {
            let (y, statistics) = nn_ops::batch_norm_train(&t[0], &t[1], &t[2], 1e-5)?;
            assert_eq!(statistics.mean.dims(), c);
            Ok(y)
        });
        parity(&format!("batch_norm_eval {x:?}"), &[&x, &c, &c], &|t| {
            let constant = |seed| {
                let v = common::wave32(&c, seed).abs()?;
                (v + 0.5)?.to_device(t[0].device())
            };
            let (mean, var) = (constant(0.1)?, constant(0.2)?);
            nn_ops::batch_norm_eval(&t[0], &mean, &var, &t[1], &t[2], 1e-5)
        });
    }
}

#[test]
fn elementwise() {
    let x: &[&[usize]] = &[&[2, 5, 6, 8]];
    parity("silu", x, &|t| nn_ops::silu(&t[0]));
    parity("leaky_relu", x, &|t| nn_ops::leaky_relu(&t[0], 0.2));
    let pair: &[&[usize]] = &[&[2, 5, 6, 8], &[2, 5, 6, 8]];
    parity("add", pair, &|t| nn_ops::add(&t[0], &t[1]));
    parity("add_scaled", pair, &|t| {
        nn_ops::add_scaled(&t[0], &t[1], 0.5f64.sqrt())
    });
    parity("cat_channels", &[&[2, 3, 4, 4], &[2, 5, 4, 4]], &|t| {
        nn_ops::cat_channels(&t[0], &t[1])
    });
    parity("mask", x, &|t| {
        // As training gives it: f32, made on the CPU.
        nn_ops::mask(&t[0], &common::wave32(t[0].dims(), 0.7))
    });
    // A view, which kernels cannot read where it lies.
    parity("silu of a transposed tensor", x, &|t| {
        nn_ops::silu(&t[0].transpose(1, 3)?)
    });
}

#[test]
fn resampling() {
    let x: &[&[usize]] = &[&[2, 3, 6, 8]];
    parity("upsample_nearest2x", x, &|t| {
        nn_ops::upsample_nearest2x(&t[0])
    });
    parity("upsample_bilinear2x", x, &|t| {
        nn_ops::upsample_bilinear2x(&t[0])
    });
    parity("upsample_bilinear2x of a pixel", &[&[1, 2, 1, 1]], &|t| {
        nn_ops::upsample_bilinear2x(&t[0])
    });
    parity("avg_pool2x", x, &|t| nn_ops::avg_pool2x(&t[0]));
    parity("max_pool2x", x, &|t| nn_ops::max_pool2x(&t[0]));
    parity("max_pool2x of odd sizes", &[&[2, 3, 5, 7]], &|t| {
        nn_ops::max_pool2x(&t[0])
    });
    for taps in [&[1.0, 3.0, 3.0, 1.0][..], &[1.0, 1.0], &[1.0, 2.0, 0.5]] {
        parity(&format!("upsample_fir2x {taps:?}"), x, &|t| {
            nn_ops::upsample_fir2x(&t[0], taps)
        });
        parity(&format!("downsample_fir2x {taps:?}"), x, &|t| {
            nn_ops::downsample_fir2x(&t[0], taps)
        });
    }
}

#[test]
fn attention() {
    parity("softmax", &[&[3, 4, 37]], &|t| nn_ops::softmax(&t[0]));
    for heads in [1, 2] {
        parity(
            &format!("self_attention, {heads} heads"),
            &[&[2, 48, 25]],
            &|t| nn_ops::self_attention(&t[0], heads),
        );
    }
    // More positions than one block of queries has.
    parity("self_attention, 300 positions", &[&[2, 24, 300]], &|t| {
        nn_ops::self_attention(&t[0], 2)
    });
}

/// f32 weights under a network that computes in another type: their gradients are f32.
#[test]
fn mixed_precision() {
    let Some(device) = device() else { return };
    if device.is_metal() {
        return;
    }
    let x = common::wave32(&[2, 8, 8, 8], 0.1);
    let run = |device: &Device, precision| -> Result<Vec<Tensor>> {
        let params = nn_ops::Params::new(3);
        let vb = params.builder(device);
        let conv = nn_ops::Conv2d::new(8, 8, 3, Conv2dConfig::same(3), vb.pp("conv"))?;
        let norm = nn_ops::GroupNorm::new(4, 8, 1e-5, vb.pp("norm"))?;
        let linear = nn_ops::Linear::new(8, 8, vb.pp("linear"))?;
        let x = x.to_device(device)?;
        let loss = precision::with(precision, || {
            let y = precision::computed(&x, |x| {
                let h = norm.forward_act(&conv.forward(x)?, Activation::Silu)?;
                linear.forward(&h.mean((2, 3))?)
            })?;
            y.sqr()?.sum_all()?.backward()
        })?;
        let grads = params.named();
        let grads = grads.iter().map(|(name, v)| {
            let grad = loss
                .get(v)
                .unwrap_or_else(|| panic!("{name} has a gradient"));
            assert_eq!(grad.dtype(), DType::F32, "{name}");
            grad.to_device(&Device::Cpu)
        });
        grads.collect()
    };
    let want = path::with(Path::Exact, || run(&Device::Cpu, Precision::F32).unwrap());
    for (precision, tolerance) in TOLERANCES {
        if precision == Precision::Tf32 && !device.is_cuda() {
            continue;
        }
        let got = run(&device, precision).unwrap();
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            let scale = common::values(want)
                .iter()
                .fold(1e-6f64, |m, v| m.max(v.abs()));
            let (got, want) = ((got / scale).unwrap(), (want / scale).unwrap());
            common::close(
                &format!("{precision}, parameter {i}"),
                &got,
                &want,
                4.0 * tolerance,
            );
        }
    }
}

/// Variables of several sizes and their gradients, of a step.
fn variables(device: &Device) -> Vec<(String, Var)> {
    let shapes: [&[usize]; 4] = [&[3, 5], &[1], &[100, 101], &[7]];
    let var = |(i, shape): (usize, &&[usize])| {
        let t = common::wave32(shape, i as f64).to_device(device).unwrap();
        (format!("v{i}"), Var::from_tensor(&t).unwrap())
    };
    shapes.iter().enumerate().map(var).collect()
}

/// Gradients of all but, in odd steps, the second variable.
fn gradients(vars: &[(String, Var)], step: usize) -> GradStore {
    let parts = vars
        .iter()
        .enumerate()
        .filter(|(i, _)| step.is_multiple_of(2) || *i != 1);
    let parts = parts.map(|(i, (_, v))| {
        let weights = common::wave32(v.dims(), (10 * step + i) as f64);
        let weights = weights.to_device(v.device()).unwrap();
        (v.as_tensor() * weights).unwrap().sum_all().unwrap()
    });
    let loss = parts.reduce(|a, b| (a + b).unwrap()).unwrap();
    loss.backward().unwrap()
}

#[test]
fn optimisers() {
    let Some(device) = device() else { return };
    let run = |device: &Device| {
        let vars = variables(device);
        let config = AdamWConfig {
            lr: 0.01,
            ..Default::default()
        };
        let mut adam = AdamW::new(vars.clone(), config).unwrap();
        let mut ema = Ema::new(vars.clone(), 0.9).unwrap();
        let mut norms = vec![];
        for step in 0..6 {
            let mut grads = gradients(&vars, step);
            norms.push(clip_grad_norm(&mut grads, &vars, 5.0).unwrap());
            adam.step(&grads).unwrap();
            ema.update().unwrap();
            if step == 3 {
                // Saved and restored in the middle, as a resumed run does.
                let (a, e) = (adam.state().unwrap(), ema.state().unwrap());
                adam = AdamW::new(vars.clone(), config).unwrap();
                adam.load_state(&a).unwrap();
                ema.load_state(&e).unwrap();
            }
        }
        let mut all = adam.state().unwrap();
        all.extend(
            ema.state()
                .unwrap()
                .into_iter()
                .map(|(n, t)| (format!("ema/{n}"), t)),
        );
        all.extend(vars.iter().map(|(n, v)| {
            let host = v.as_tensor().to_device(&Device::Cpu).unwrap();
            (n.clone(), host)
        }));
        let norms = Tensor::new(&norms[..], &Device::Cpu).unwrap();
        all.insert("norms".into(), norms);
        all
    };
    let (got, want) = (run(&device), run(&Device::Cpu));
    assert_eq!(got.len(), want.len());
    for (name, want) in &want {
        common::close(name, &got[name], want, 1e-6);
    }
}
