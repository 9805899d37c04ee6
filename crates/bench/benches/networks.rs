//! Whole networks, inference and training steps, beside the same networks in PyTorch: eager, channels last, compiled.
//!
//! `cargo bench -p bench --bench networks [FILTER]`; WMGM_PEER_MODES=eager,channels_last,compile chooses among PyTorch's.

use anyhow::{Context, Result};
use bench::{Mode, Peer, TURNS, peak_memory, ratios, spread, turns};
use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::VarBuilder;
use msal_gan::official::{Generator, GeneratorConfig};
use nn_ops::{AdamW, AdamWConfig, Params, noise};
use score_sde::{UNet, UNetConfig};
use serde_json::{Value, json};
use std::path::Path;

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
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/model/config.json"),
    )?;
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
        var.set(&(var.as_tensor() + (wave * scale)?)?)?;
    }
    Ok(())
}

/// Copies of all parameters.
fn constants(params: &Params) -> candle_core::Result<VarBuilder<'static>> {
    let mut tensors = params.tensors();
    for t in tensors.values_mut() {
        *t = t.copy()?.detach();
    }
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}

fn unet(name: &str, config: &UNetConfig, batch: usize, side: usize, train: bool) -> Result<Case> {
    let params = Params::new(1);
    let net = UNet::new(config.clone(), params.builder(&Device::Cpu))?;
    stir(&params)?;
    let fixed = UNet::new(config.clone(), constants(&params)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, &Device::Cpu)?;
    let t = Tensor::arange(0f32, batch as f32, &Device::Cpu)?.affine(7.5, 1.0)?;
    Ok(Case {
        label: format!("{name}, batch {batch} at {side}"),
        spec: json!({"network": "unet", "config": config}),
        params,
        inputs: vec![("x", x.clone()), ("t", t.clone())],
        trained: Box::new({
            let (x, t) = (x.clone(), t.clone());
            move || net.forward(&x, &t, None, None)
        }),
        forward: Box::new(move || fixed.forward(&x, &t, None, None)),
        train,
    })
}

fn generator(batch: usize, side: usize, train: bool) -> Result<Case> {
    let config = GeneratorConfig::default();
    let params = Params::new(1);
    let net = Generator::new(config.clone(), params.builder(&Device::Cpu))?;
    let fixed = Generator::new(config.clone(), constants(&params)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, &Device::Cpu)?;
    Ok(Case {
        label: format!("official generator, batch {batch} at {side}"),
        spec: json!({"network": "generator", "config": config}),
        params,
        inputs: vec![("x", x.clone())],
        trained: Box::new({
            let x = x.clone();
            move || net.forward_t(&x, true)
        }),
        forward: Box::new(move || fixed.forward_t(&x, false)),
        train,
    })
}

fn cases() -> Result<Vec<Case>> {
    let [(shipped_name, shipped), (improved_name, improved)] = unets()?;
    Ok(vec![
        generator(8, 64, true)?,
        generator(8, 32, false)?,
        generator(1, 64, false)?,
        generator(1, 32, false)?,
        unet(improved_name, &improved, 8, 32, true)?,
        unet(improved_name, &improved, 1, 32, false)?,
        unet(shipped_name, &shipped, 32, 16, true)?,
        unet(shipped_name, &shipped, 16, 16, false)?,
    ])
}

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    nn_ops::memory::keep_freed_memory();
    println!(
        "{} threads, {:?}. Milliseconds are min / median / max of {TURNS} turns; ratios are PyTorch's time over ours, turn by turn.\n",
        rayon::current_num_threads(),
        nn_ops::simd::isa()
    );
    println!("| network | pass | ours ms | against | its ms | times faster |");
    println!("|---|---|---|---|---|---|");
    for case in cases()? {
        if filter
            .as_ref()
            .is_none_or(|f| case.label.contains(f.as_str()))
        {
            run(&case)?;
        }
    }
    println!("\nmost memory of this process: {:.0} MiB", peak_memory());
    Ok(())
}

fn run(case: &Case) -> Result<()> {
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
    let modes = std::env::var("WMGM_PEER_MODES").unwrap_or_default();
    for pass in passes {
        for mode in [Mode::Eager, Mode::ChannelsLast, Mode::Compile] {
            if !modes.is_empty() && !modes.split(',').any(|m| m == mode.name()) {
                continue;
            }
            let mut peer = match Peer::start(&case.spec, &tensors, mode) {
                Ok(peer) => peer,
                Err(e) => {
                    eprintln!("no peer: {e:#}");
                    continue;
                }
            };
            let error = peer.ask("output").context("output")?;
            assert!(error < 1e-4, "{}: outputs differ by {error}", case.label);
            let mut ours = || match *pass {
                "infer" => Ok((case.forward)().map(drop)?),
                _ => {
                    let loss = ((case.trained)()? - &target)?.sqr()?.mean_all()?;
                    Ok(adam.step(&loss.backward()?)?)
                }
            };
            let (mine, theirs) = turns(&mut ours, &mut [&mut || peer.ask(pass)])?;
            println!(
                "| {} | {pass} | {} | {} | {} | {} |",
                case.label,
                spread(&mine),
                mode.name(),
                spread(&theirs[0]),
                ratios(&mine, &theirs[0])
            );
            eprintln!(
                "{}: PyTorch {} holds {:.0} MiB",
                case.label,
                mode.name(),
                peer.ask("memory")?
            );
        }
    }
    Ok(())
}
