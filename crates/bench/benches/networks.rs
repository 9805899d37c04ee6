//! Whole networks, inference and training steps, beside the same networks in PyTorch: eager, channels last, compiled.
//!
//! `cargo bench -p bench --bench networks [FILTER]`
//!
//! WMGM_PEER_MODES=eager,channels_last,compile chooses among PyTorch's. WMGM_BENCH_DEVICE=cuda runs both sides on that GPU,
//! in TF32 and bf16, at batches of 64 and 256; WMGM_BENCH_SECONDS is how long it may begin new comparisons. FILTER is a part
//! of the labels in the table's first column.

use anyhow::{Context, Result};
use bench::{Mode, Peer, TURNS, peak_memory, ratios, spread, turns_on};
use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::VarBuilder;
use msal_gan::official::{Generator, GeneratorConfig};
use nn_ops::{AdamW, AdamWConfig, Params, Precision, noise, precision};
use score_sde::{UNet, UNetConfig};
use serde_json::{Value, json};
use std::time::Instant;

/// A network on its input.
type Forward = Box<dyn Fn() -> candle_core::Result<Tensor>>;

struct Case {
    label: String,
    spec: Value,
    params: Params,
    inputs: Vec<(&'static str, Tensor)>,
    /// The network in training, and with weights that nobody trains, as pipelines have it.
    trained: Forward,
    forward: Forward,
    train: bool,
}

fn unets() -> Result<[(&'static str, UNetConfig); 2]> {
    let text = std::fs::read_to_string(bench::root().join("assets/model/config.json"))?;
    let shipped: Value = serde_json::from_str(&text)?;
    let mut shipped: UNetConfig = serde_json::from_value(shipped["score"].clone())?;
    shipped.dropout = 0.0;
    let improved = UNetConfig {
        in_channels: 3,
        model_channels: 128,
        out_channels: 6,
        num_res_blocks: 3,
        attention_resolutions: vec![2, 4],
        channel_mult: vec![1, 2, 2, 2],
        num_heads: 4,
        num_heads_upsample: None,
        use_scale_shift_norm: true,
        conv_resample: true,
        num_classes: None,
        dropout: 0.0,
    };
    Ok([
        ("shipped U-Net", shipped),
        ("improved-diffusion U-Net", improved),
    ])
}

/// Layers that start silent would make the comparison empty.
fn stir(params: &Params) -> Result<()> {
    for (i, (name, var)) in params.named().iter().enumerate() {
        if name.contains("running") {
            continue;
        }
        let dims = var.dims().to_vec();
        let scale = 0.5 / (dims[1..].iter().product::<usize>() as f64).sqrt();
        let wave = noise::normal_tensor(7, &[i as u64], 1, 0, &dims, &Device::Cpu)?.squeeze(0)?;
        let wave = (wave * scale)?.to_device(var.device())?;
        var.set(&(var.as_tensor() + wave)?)?;
    }
    Ok(())
}

/// Copies of all parameters.
fn constants(params: &Params, device: &Device) -> candle_core::Result<VarBuilder<'static>> {
    let mut tensors = params.tensors();
    for t in tensors.values_mut() {
        *t = t.copy()?.detach();
    }
    Ok(VarBuilder::from_tensors(tensors, DType::F32, device))
}

fn unet(
    device: &Device,
    name: &str,
    config: &UNetConfig,
    batch: usize,
    side: usize,
    train: bool,
) -> Result<Case> {
    let params = Params::new(1);
    let net = UNet::new(config.clone(), params.builder(device))?;
    stir(&params)?;
    let fixed = UNet::new(config.clone(), constants(&params, device)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, device)?;
    let t = Tensor::arange(0f32, batch as f32, device)?.affine(7.5, 1.0)?;
    Ok(Case {
        label: format!("{name}, batch {batch} at {side}"),
        spec: json!({"network": "unet", "config": config}),
        params,
        inputs: vec![("x", x.clone()), ("t", t.clone())],
        trained: Box::new({
            let (x, t) = (x.clone(), t.clone());
            move || precision::computed(&x, |x| net.forward(x, &t, None, None))
        }),
        forward: Box::new(move || precision::computed(&x, |x| fixed.forward(x, &t, None, None))),
        train,
    })
}

fn generator(device: &Device, batch: usize, side: usize, train: bool) -> Result<Case> {
    let config = GeneratorConfig::default();
    let params = Params::new(1);
    let net = Generator::new(config.clone(), params.builder(device))?;
    let fixed = Generator::new(config.clone(), constants(&params, device)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, device)?;
    Ok(Case {
        label: format!("official generator, batch {batch} at {side}"),
        spec: json!({"network": "generator", "config": config}),
        params,
        inputs: vec![("x", x.clone())],
        trained: Box::new({
            let x = x.clone();
            move || precision::computed(&x, |x| net.forward_t(x, true))
        }),
        forward: Box::new(move || precision::computed(&x, |x| fixed.forward_t(x, false))),
        train,
    })
}

fn cases(device: &Device) -> Result<Vec<Case>> {
    let [(shipped_name, shipped), (improved_name, improved)] = unets()?;
    let generator = |batch, side, train| generator(device, batch, side, train);
    let improved = |batch, train| unet(device, improved_name, &improved, batch, 32, train);
    let shipped = |batch, train| unet(device, shipped_name, &shipped, batch, 16, train);
    if !device.is_cpu() {
        return Ok(vec![
            shipped(64, true)?,
            generator(64, 64, true)?,
            improved(64, true)?,
            shipped(256, true)?,
            generator(256, 64, true)?,
            improved(256, true)?,
        ]);
    }
    Ok(vec![
        generator(8, 64, true)?,
        generator(8, 32, false)?,
        generator(1, 64, false)?,
        generator(1, 32, false)?,
        improved(8, true)?,
        improved(1, false)?,
        shipped(32, true)?,
        shipped(16, false)?,
    ])
}

/// Where and how both sides compute.
struct Place {
    device: Device,
    /// PyTorch's name for it.
    name: String,
    precision: Precision,
    modes: &'static [Mode],
}

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    nn_ops::memory::keep_freed_memory();
    let name = std::env::var("WMGM_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: nn_ops::device::Choice = name.parse().map_err(anyhow::Error::msg)?;
    let device = nn_ops::device::open(choice)?.device;
    let seconds = std::env::var("WMGM_BENCH_SECONDS").ok();
    let seconds: f64 = seconds.map_or(Ok(f64::INFINITY), |s| s.parse())?;
    let (precisions, modes): (&[Precision], &'static [Mode]) = match device.is_cpu() {
        true => (
            &[Precision::F32],
            &[Mode::Eager, Mode::ChannelsLast, Mode::Compile],
        ),
        false => (
            &[Precision::Tf32, Precision::Bf16],
            &[Mode::Eager, Mode::Compile],
        ),
    };
    println!(
        "{name}, {} threads, {:?}. Milliseconds are min / median / max of {TURNS} turns; ratios are PyTorch's time over ours, turn by turn.\n",
        rayon::current_num_threads(),
        nn_ops::simd::isa()
    );
    println!("| network | precision | pass | ours ms | against | its ms | times faster |");
    println!("|---|---|---|---|---|---|---|");
    let began = Instant::now();
    for case in cases(&device)? {
        if filter.as_ref().is_some_and(|f| !case.label.contains(f)) {
            continue;
        }
        for &precision in precisions {
            if began.elapsed().as_secs_f64() > seconds {
                println!(
                    "| {} | {precision} | not run, time was up | | | | |",
                    case.label
                );
                continue;
            }
            let place = Place {
                device: device.clone(),
                name: name.clone(),
                precision,
                modes,
            };
            precision::with(precision, || run(&case, &place))?;
        }
    }
    println!("\nmost memory of this process: {:.0} MiB", peak_memory());
    Ok(())
}

fn run(case: &Case, place: &Place) -> Result<()> {
    let y = (case.forward)()?;
    let mut tensors = case.params.tensors();
    // A copy: the steps below move the variables.
    for t in tensors.values_mut() {
        *t = t.copy()?;
    }
    tensors.extend(case.inputs.iter().map(|(n, t)| (n.to_string(), t.clone())));
    tensors.insert("y".into(), y.clone());
    let trained = |name: &String| !name.contains("running");
    let vars = case.params.named().into_iter().filter(|(n, _)| trained(n));
    let mut adam = AdamW::new(
        vars.collect(),
        AdamWConfig {
            lr: 1e-4,
            ..AdamWConfig::default()
        },
    )?;
    let target = case.inputs[0].1.narrow(1, 0, 1)?;
    let target = target.broadcast_as(y.shape())?.contiguous()?;
    let passes: &[&str] = if case.train {
        &["infer", "step"]
    } else {
        &["infer"]
    };
    let largest = match place.precision {
        Precision::F32 => 1e-4,
        Precision::Tf32 => 2e-2,
        Precision::Bf16 | Precision::F16 => 1e-1,
    };
    let modes = std::env::var("WMGM_PEER_MODES").unwrap_or_default();
    for &mode in place.modes {
        if !modes.is_empty() && !modes.split(',').any(|m| m == mode.name()) {
            continue;
        }
        let started = Peer::start_on(&case.spec, &tensors, mode, &place.name, place.precision);
        let mut peer = match started {
            Ok(peer) => peer,
            Err(e) => {
                eprintln!("no peer: {e:#}");
                continue;
            }
        };
        let error = peer.ask("output").context("output")?;
        assert!(error < largest, "{}: outputs differ by {error}", case.label);
        for pass in passes {
            let mut ours = || match *pass {
                "infer" => Ok((case.forward)().map(drop)?),
                _ => {
                    let loss = ((case.trained)()? - &target)?.sqr()?.mean_all()?;
                    Ok(adam.step(&loss.backward()?)?)
                }
            };
            let (mine, theirs) = turns_on(&place.device, &mut ours, &mut [&mut || peer.ask(pass)])?;
            println!(
                "| {} | {} | {pass} | {} | {} | {} | {} |",
                case.label,
                place.precision,
                spread(&mine),
                mode.name(),
                spread(&theirs[0]),
                ratios(&mine, &theirs[0])
            );
        }
        eprintln!(
            "{}: PyTorch {} holds {:.0} MiB, its outputs differ by {error:.1e}",
            case.label,
            mode.name(),
            peer.ask("memory")?
        );
    }
    Ok(())
}
