//! Whole networks on any device against the CPU's exact path: `WMGM_TEST_DEVICE` as in nn-ops' suite of operators.

use candle_core::{DType, Device, ModuleT, Result, Tensor};
use msal_gan::detail::DetailGeneratorConfig;
use msal_gan::official::{Generator, GeneratorConfig};
use msal_gan::{DetailDiscriminator, DetailGenerator, detail::Pass};
use nn_ops::path::{self, Path};
use nn_ops::{Params, Precision, noise, precision};
use score_sde::{UNet, UNetConfig};

#[path = "../../nn-ops/tests/common/device.rs"]
mod device;

use device::device;

/// Largest error of outputs and gradients, relative to the largest value: rounding of a type through some dozens of layers.
const TOLERANCES: [(Precision, f64); 4] = [
    (Precision::F32, 2e-4),
    (Precision::Tf32, 3e-2),
    // Eight times the rounding of f16, and a quarter more: the largest of thousands of errors is judged.
    (Precision::Bf16, 3e-1),
    (Precision::F16, 3e-2),
];

/// Noise (n, shape...).
fn normal(device: &Device, stream: u32, n: u64, shape: &[usize]) -> Result<Tensor> {
    let items: Vec<u64> = (0..n).collect();
    noise::normal_tensor(5, &items, stream, 0, shape, device)
}

/// Layers that start silent would make the comparison empty.
fn stir(params: &Params) -> Result<()> {
    for (i, (name, var)) in params.named().iter().enumerate() {
        if name.contains("running") {
            continue;
        }
        let scale = 0.5 / (var.dims()[1..].iter().product::<usize>() as f64).sqrt();
        let wave = normal(var.device(), 1000 + i as u32, 1, var.dims())?.squeeze(0)?;
        var.set(&(var.as_tensor() + (wave * scale)?)?)?;
    }
    Ok(())
}

type Network<'a> = &'a dyn Fn(&Device, &Params) -> Result<Tensor>;

/// The output and the gradients of all parameters, on the CPU.
fn results(device: &Device, network: Network) -> Result<Vec<(String, Tensor)>> {
    let params = Params::new(1);
    // Once to make the parameters, once with all of them stirred.
    network(device, &params)?;
    stir(&params)?;
    let y = network(device, &params)?;
    assert_eq!(y.dtype(), DType::F32);
    let grads = y.sqr()?.mean_all()?.backward()?;
    let mut all = vec![("output".to_string(), y.detach())];
    for (name, var) in params.named() {
        if let Some(grad) = grads.get(&var) {
            assert_eq!(grad.dtype(), DType::F32, "{name}");
            all.push((name, grad.clone()));
        }
    }
    let host = |(name, t): (String, Tensor)| Ok((name, t.to_device(&Device::Cpu)?));
    all.into_iter().map(host).collect()
}

fn parity(what: &str, network: Network) {
    let Some(device) = device() else { return };
    let want = path::with(Path::Exact, || results(&Device::Cpu, network).unwrap());
    assert!(want.len() > 10, "{what}: only {} gradients", want.len());
    for (precision, tolerance) in TOLERANCES {
        let skipped = precision == Precision::Tf32 && !device.is_cuda()
            || precision.dtype() != DType::F32 && device.is_metal();
        if skipped {
            continue;
        }
        let got = precision::with(precision, || results(&device, network))
            .unwrap_or_else(|e| panic!("{what} in {precision}: {e}"));
        assert_eq!(got.len(), want.len());
        // Of all gradients together: those that should be zero are rounding alone.
        let largest =
            |part: &[(String, Tensor)]| part.iter().map(|(_, t)| max_abs(t)).fold(0.0, f64::max);
        for (scale, part) in [
            (largest(&want[..1]), 0..1),
            (largest(&want[1..]), 1..want.len()),
        ] {
            for ((name, got), (_, want)) in got[part.clone()].iter().zip(&want[part]) {
                let error = max_abs(&(got - want).unwrap()) / scale;
                assert!(
                    error <= tolerance,
                    "{what} in {precision}, {name}: off by {error:e}, {tolerance:e} is allowed"
                );
            }
        }
    }
}

/// The largest absolute value; infinite if one is not a number.
fn max_abs(t: &Tensor) -> f64 {
    let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.iter().fold(0f64, |m, v| match v.is_nan() {
        true => f64::INFINITY,
        false => m.max(f64::from(v.abs())),
    })
}

#[test]
fn score_network() {
    let config = UNetConfig {
        in_channels: 12,
        model_channels: 32,
        out_channels: 12,
        num_res_blocks: 1,
        attention_resolutions: vec![2],
        channel_mult: vec![1, 2],
        num_heads: 2,
        num_heads_upsample: None,
        use_scale_shift_norm: true,
        conv_resample: true,
        num_classes: None,
        dropout: 0.0,
    };
    parity("U-Net", &|device, params| {
        let net = UNet::new(config.clone(), params.builder(device))?;
        let x = normal(device, 1, 2, &[12, 16, 16])?;
        let t = Tensor::new(&[3f32, 700.0], device)?;
        precision::computed(&x, |x| net.forward(x, &t, None, None))
    });
}

#[test]
fn detail_networks() {
    let config: DetailGeneratorConfig = shipped().high.generator;
    parity("detail generator", &|device, params| {
        let net = DetailGenerator::new(config.clone(), params.builder(device))?;
        let low = normal(device, 1, 3, &[3, 16, 16])?;
        let z = normal(device, 2, 3, &[config.noise_channels, 16, 16])?;
        precision::computed(&low, |low| {
            net.forward_mixed(low, &z.to_dtype(low.dtype())?, &[1, 2, 1])
        })
    });
    let config = shipped().high.discriminator;
    parity("detail discriminator", &|device, params| {
        // The power iteration's vectors are not parameters.
        let buffers = Params::new(2);
        let net = DetailDiscriminator::new(config.clone(), params.builder(device), &buffers)?;
        let (low, high) = (
            normal(device, 1, 3, &[3, 32, 32])?,
            normal(device, 2, 3, &[9, 32, 32])?,
        );
        precision::computed(&low, |low| {
            let high = high.to_dtype(low.dtype())?;
            net.forward_mixed(low, &high, &[1, 2, 1], Pass::Train)
        })
    });
}

#[test]
fn official_generator() {
    let config = GeneratorConfig {
        n_channels: 8,
        ..GeneratorConfig::default()
    };
    parity("official generator", &|device, params| {
        let net = Generator::new(config.clone(), params.builder(device))?;
        let x = normal(device, 1, 3, &[config.in_channels, 32, 32])?;
        precision::computed(&x, |x| net.forward_t(x, true))
    });
}

/// The configuration of the shipped model.
fn shipped() -> wmgm::config::TrainConfig {
    let text = include_bytes!("../../../assets/configs/afhq-cat-128.toml");
    wmgm::config::TrainConfig::from_bytes(text, "shipped".as_ref()).unwrap()
}
