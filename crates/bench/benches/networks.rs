//! Whole networks, inference and training steps, beside the same networks in PyTorch: eager, channels last, compiled.
//!
//! `cargo bench -p bench --bench networks [FILTER]`
//!
//! WMGM_PEER_MODES=eager,channels_last,compile chooses among PyTorch's. WMGM_BENCH_DEVICE=cuda runs both sides on that GPU,
//! in TF32 and bf16, at batches of 64 and 256; WMGM_BENCH_SECONDS is how long it may begin new comparisons. FILTER is a part
//! of the labels in the table's first column. With `--resources`, on the CPU: all threads against one, and the most memory
//! that inference takes here and in PyTorch, every run in a process of its own.

use anyhow::{Context, Result};
use bench::{Mode, Peer, TURNS, forget_peak, peak_memory, ratios, spread, timed, turns_on};
use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::VarBuilder;
use msal_gan::official::{Generator, GeneratorConfig};
use nn_ops::{AdamW, AdamWConfig, Params, Precision, noise, precision};
use score_sde::{UNet, UNetConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;
use std::time::Instant;

/// A network on its input.
type Forward = Box<dyn Fn() -> candle_core::Result<Tensor> + Send + Sync>;

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

fn shipped() -> Result<UNetConfig> {
    let text = std::fs::read_to_string(bench::root().join("assets/model/config.json"))?;
    let config: Value = serde_json::from_str(&text)?;
    let mut config: UNetConfig = serde_json::from_value(config["score"].clone())?;
    config.dropout = 0.0;
    Ok(config)
}

fn improved() -> UNetConfig {
    UNetConfig {
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
    }
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

fn unet(device: &Device, config: &UNetConfig, plan: &Plan) -> Result<Case> {
    let Plan { batch, side, .. } = *plan;
    let params = Params::new(1);
    let net = UNet::new(config.clone(), params.builder(device))?;
    stir(&params)?;
    let fixed = UNet::new(config.clone(), constants(&params, device)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, device)?;
    let t = Tensor::arange(0f32, batch as f32, device)?.affine(7.5, 1.0)?;
    Ok(Case {
        label: plan.label(),
        spec: json!({"network": "unet", "config": config}),
        params,
        inputs: vec![("x", x.clone()), ("t", t.clone())],
        trained: Box::new({
            let (x, t) = (x.clone(), t.clone());
            move || precision::computed(&x, |x| net.forward(x, &t, None, None))
        }),
        forward: Box::new(move || precision::computed(&x, |x| fixed.forward(x, &t, None, None))),
        train: plan.train,
    })
}

fn generator(device: &Device, plan: &Plan) -> Result<Case> {
    let Plan { batch, side, .. } = *plan;
    let config = GeneratorConfig::default();
    let params = Params::new(1);
    let net = Generator::new(config.clone(), params.builder(device))?;
    let fixed = Generator::new(config.clone(), constants(&params, device)?)?;
    let items: Vec<u64> = (0..batch as u64).collect();
    let shape = [config.in_channels, side, side];
    let x = noise::normal_tensor(7, &items, 2, 0, &shape, device)?;
    Ok(Case {
        label: plan.label(),
        spec: json!({"network": "generator", "config": config}),
        params,
        inputs: vec![("x", x.clone())],
        trained: Box::new({
            let x = x.clone();
            move || precision::computed(&x, |x| net.forward_t(x, true))
        }),
        forward: Box::new(move || precision::computed(&x, |x| fixed.forward_t(x, false))),
        train: plan.train,
    })
}

/// A case before it is built: only one network is in memory at a time.
#[derive(Clone, Copy)]
struct Plan {
    network: Network,
    batch: usize,
    side: usize,
    train: bool,
}

#[derive(Clone, Copy)]
enum Network {
    Generator,
    Improved,
    Shipped,
}

impl Plan {
    fn label(&self) -> String {
        let name = match self.network {
            Network::Generator => "official generator",
            Network::Improved => "improved-diffusion U-Net",
            Network::Shipped => "shipped U-Net",
        };
        format!("{name}, batch {} at {}", self.batch, self.side)
    }

    fn build(&self, device: &Device) -> Result<Case> {
        match self.network {
            Network::Generator => generator(device, self),
            Network::Improved => unet(device, &improved(), self),
            Network::Shipped => unet(device, &shipped()?, self),
        }
    }
}

fn plans(cpu: bool) -> Vec<Plan> {
    use Network::{Generator, Improved, Shipped};
    let all: &[(Network, usize, usize, bool)] = match cpu {
        false => &[
            (Shipped, 64, 16, true),
            (Generator, 64, 64, true),
            (Improved, 64, 32, true),
            (Shipped, 256, 16, true),
            (Generator, 256, 64, true),
            (Improved, 256, 32, true),
        ],
        true => &[
            (Generator, 8, 64, true),
            (Generator, 8, 32, false),
            (Generator, 1, 64, false),
            (Generator, 1, 32, false),
            (Improved, 8, 32, true),
            (Improved, 1, 32, false),
            (Shipped, 32, 16, true),
            (Shipped, 16, 16, false),
        ],
    };
    let plan = |&(network, batch, side, train)| Plan {
        network,
        batch,
        side,
        train,
    };
    all.iter().map(plan).collect()
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
    let (options, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let filter = words.into_iter().next();
    let asked = |option: &str| options.iter().any(|o| o == option);
    if asked(ALONE) {
        return alone(&filter.context("whose memory?")?);
    }
    nn_ops::memory::keep_freed_memory();
    let name = std::env::var("WMGM_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: nn_ops::device::Choice = name.parse().map_err(anyhow::Error::msg)?;
    let device = nn_ops::device::open(choice)?.device;
    if asked("--resources") {
        return resources(filter.as_deref());
    }
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
    for plan in plans(device.is_cpu()) {
        if filter.as_ref().is_some_and(|f| !plan.label().contains(f)) {
            continue;
        }
        let case = plan.build(&device)?;
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

/// What PyTorch needs: weights (a copy, as training steps move the variables), inputs and our output.
fn sent(case: &Case, y: &Tensor) -> Result<HashMap<String, Tensor>> {
    let mut tensors = case.params.tensors();
    for t in tensors.values_mut() {
        *t = t.copy()?;
    }
    tensors.extend(case.inputs.iter().map(|(n, t)| (n.to_string(), t.clone())));
    tensors.insert("y".into(), y.clone());
    Ok(tensors)
}

/// The option of [`alone`].
const ALONE: &str = "--alone";
/// Evaluations of a process of [`alone`], after one that warms up.
const EVALUATIONS: usize = 3;

/// Prints the most memory that inference of this case takes (weights, what is made of them, and the evaluation), and the
/// milliseconds of the quickest evaluation.
fn alone(label: &str) -> Result<()> {
    let mut all = plans(true).into_iter();
    let plan = all.find(|p| p.label() == label).context("no such case")?;
    // All that only training needs goes away here.
    let forward = plan.build(&Device::Cpu)?.forward;
    nn_ops::memory::keep_freed_memory();
    forget_peak();
    let mut run = || Ok(forward().map(drop)?);
    let mut least = f64::INFINITY;
    for _ in 0..=EVALUATIONS {
        least = least.min(timed(&Device::Cpu, 1, &mut run)?);
    }
    println!("{:.0} {least}", peak_memory());
    Ok(())
}

/// Memory and milliseconds of [`alone`] with so many threads.
fn child(label: &str, threads: usize) -> Result<(f64, f64)> {
    let output = Command::new(std::env::current_exe()?)
        .args([ALONE, label])
        .env("RAYON_NUM_THREADS", threads.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Option<(f64, f64)> = said
        .trim()
        .split_once(' ')
        .and_then(|(mib, ms)| Some((mib.parse().ok()?, ms.parse().ok()?)));
    let problem = || String::from_utf8_lossy(&output.stderr).into_owned();
    numbers.with_context(|| format!("{label}: {said:?} {}", problem()))
}

/// All threads against one by turns, each turn a process of its own, and memory beside PyTorch's.
fn resources(filter: Option<&str>) -> Result<()> {
    let threads = rayon::current_num_threads();
    println!("Inference; milliseconds are min / median / max of {TURNS} turns.\n");
    println!(
        "| network | {threads} threads ms | 1 thread ms | times faster | most MiB | PyTorch's MiB | times as much |"
    );
    println!("|---|---|---|---|---|---|---|");
    for plan in plans(true) {
        let label = plan.label();
        if filter.is_some_and(|f| !label.contains(f)) {
            continue;
        }
        let (mut many, mut single, mut most) = (Vec::new(), Vec::new(), 0f64);
        for _ in 0..TURNS {
            let (mib, ms) = child(&label, threads)?;
            most = most.max(mib);
            many.push(ms);
            single.push(child(&label, 1)?.1);
        }
        let case = plan.build(&Device::Cpu)?;
        let y = (case.forward)()?;
        let peer = Peer::start(&case.spec, &sent(&case, &y)?, Mode::Eager);
        let theirs = peer.and_then(|mut peer| {
            peer.ask("forget")?;
            for _ in 0..=EVALUATIONS {
                peer.time("infer", 1)?;
            }
            peer.ask("memory")
        });
        let theirs = match theirs {
            Ok(mib) => format!("{mib:.0} | {:.2}", most / mib),
            Err(e) => format!("no peer: {e:#} | "),
        };
        println!(
            "| {label} | {} | {} | {} | {most:.0} | {theirs} |",
            spread(&many),
            spread(&single),
            ratios(&many, &single)
        );
    }
    Ok(())
}

fn run(case: &Case, place: &Place) -> Result<()> {
    let y = (case.forward)()?;
    let tensors = sent(case, &y)?;
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
            let (mine, theirs) = turns_on(
                &place.device,
                &mut ours,
                &mut [&mut |times| peer.time(pass, times)],
            )?;
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
