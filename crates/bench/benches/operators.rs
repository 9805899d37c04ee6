//! Every operator, forward and its gradients, beside PyTorch's and candle's own, with GFLOP/s beside the machine's peaks.
//!
//! `cargo bench -p bench --bench operators [FILTER]`

use anyhow::Result;
use bench::{Mode, Peer, Side, TURNS, peaks, ratios, spread, timed, turns};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Optimizer;
use nn_ops::{
    Activation, AdamW, AdamWConfig, Conv2dConfig, Ema, avg_pool2x, batch_norm_train, conv2d,
    group_norm, leaky_relu, max_pool2x, noise, self_attention, silu, softmax, upsample_bilinear2x,
    upsample_nearest2x,
};
use serde_json::{Value, json};
use std::collections::HashMap;

type Run = Box<dyn Fn(&HashMap<&str, Tensor>) -> candle_core::Result<Tensor>>;

struct Case {
    /// As `scripts/peer.py` reads it.
    spec: Value,
    label: String,
    /// Shapes of x and, if there are any, w and b.
    shapes: Vec<(&'static str, Vec<usize>)>,
    /// Multiply-adds of the forward pass counted as two, 0 where memory is the limit.
    flop: f64,
    run: Run,
}

fn conv(n: usize, ci: usize, co: usize, side: usize, k: usize, cfg: Conv2dConfig) -> Case {
    let out = (side + 2 * cfg.padding - k) / cfg.stride + 1;
    let Conv2dConfig {
        stride,
        padding,
        groups,
    } = cfg;
    Case {
        spec: json!({"operator": "conv2d", "stride": stride, "padding": padding, "groups": groups}),
        label: format!("conv {k}x{k} {ci}->{co} at {side}, stride {stride}, {groups} groups"),
        shapes: vec![
            ("x", vec![n, ci, side, side]),
            ("w", vec![co, ci / groups, k, k]),
            ("b", vec![co]),
        ],
        flop: 2.0 * (n * co * out * out * ci / groups * k * k) as f64,
        run: Box::new(move |t| conv2d(&t["x"], &t["w"], Some(&t["b"]), cfg)),
    }
}

fn plain(name: &str, shape: &[usize], affine: bool, run: Run) -> Case {
    let mut shapes = vec![("x", shape.to_vec())];
    if affine {
        shapes.extend([("w", vec![shape[1]]), ("b", vec![shape[1]])]);
    }
    Case {
        spec: json!({"operator": name, "heads": 4}),
        label: format!("{name} {shape:?}"),
        shapes,
        flop: 0.0,
        run,
    }
}

fn cases() -> Vec<Case> {
    let same = Conv2dConfig::same;
    let strided = Conv2dConfig {
        stride: 2,
        ..same(3)
    };
    let grouped = Conv2dConfig {
        groups: 4,
        ..same(3)
    };
    let map = [8, 64, 64, 64];
    vec![
        conv(8, 64, 64, 64, 3, same(3)),
        conv(8, 128, 128, 32, 3, same(3)),
        conv(8, 256, 256, 16, 3, same(3)),
        conv(8, 512, 512, 8, 3, same(3)),
        conv(8, 512, 512, 4, 3, same(3)),
        conv(1, 128, 128, 32, 3, same(3)),
        conv(1, 256, 256, 16, 3, same(3)),
        conv(8, 3, 64, 64, 3, same(3)),
        conv(8, 128, 128, 32, 3, strided),
        conv(8, 128, 256, 32, 1, same(1)),
        conv(8, 64, 64, 32, 5, same(5)),
        conv(8, 128, 128, 32, 3, grouped),
        plain(
            "group_norm_silu",
            &map,
            true,
            Box::new(|t| group_norm(&t["x"], &t["w"], &t["b"], 32, 1e-5, Activation::Silu)),
        ),
        plain(
            "batch_norm",
            &map,
            true,
            Box::new(|t| Ok(batch_norm_train(&t["x"], &t["w"], &t["b"], 1e-5)?.0)),
        ),
        plain("silu", &map, false, Box::new(|t| silu(&t["x"]))),
        plain(
            "leaky_relu",
            &map,
            false,
            Box::new(|t| leaky_relu(&t["x"], 0.1)),
        ),
        plain(
            "softmax",
            &[32, 256, 256],
            false,
            Box::new(|t| softmax(&t["x"])),
        ),
        plain(
            "attention",
            &[8, 3 * 256, 256],
            false,
            Box::new(|t| self_attention(&t["x"], 4)),
        ),
        plain("max_pool2x", &map, false, Box::new(|t| max_pool2x(&t["x"]))),
        plain("avg_pool2x", &map, false, Box::new(|t| avg_pool2x(&t["x"]))),
        plain(
            "upsample_nearest2x",
            &[8, 64, 32, 32],
            false,
            Box::new(|t| upsample_nearest2x(&t["x"])),
        ),
        plain(
            "upsample_bilinear2x",
            &[8, 64, 32, 32],
            false,
            Box::new(|t| upsample_bilinear2x(&t["x"])),
        ),
    ]
}

/// The gradients a side is asked for, and the tensors they are of.
const GRADIENTS: [(&str, &[&str]); 3] = [
    ("input", &["x"]),
    ("weight", &["w"]),
    ("backward", &["x", "w", "b"]),
];

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    nn_ops::memory::keep_freed_memory();
    let peaks = peaks()?;
    println!(
        "{} threads, {:?}; peaks: {:.0} GFLOP/s multiply-add, {:.0} GFLOP/s matrix product. Milliseconds are min / median / max of {TURNS} turns;",
        rayon::current_num_threads(),
        nn_ops::simd::isa(),
        peaks.fma,
        peaks.gemm
    );
    println!(
        "ratios are another's time over ours, turn by turn. Winograd does fewer products than are counted, so it can pass the peak.\n"
    );
    println!(
        "| operator | pass | ours ms | PyTorch ms | times faster | candle ms | times faster | GFLOP/s | of peak |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for case in cases() {
        if filter
            .as_ref()
            .is_none_or(|f| case.label.contains(f.as_str()))
        {
            run(&case, peaks.fma)?;
        }
    }
    if filter.is_none_or(|f| "optimiser".contains(&f)) {
        optimiser()?;
    }
    Ok(())
}

fn run(case: &Case, peak: f64) -> Result<()> {
    let mut tensors = HashMap::new();
    for (i, (name, shape)) in case.shapes.iter().enumerate() {
        let scale = match *name {
            "w" if shape.len() == 4 => 1.0 / (shape[1..].iter().product::<usize>() as f64).sqrt(),
            _ => 1.0,
        };
        let t = noise::normal_tensor(1, &[i as u64], 0, 0, shape, &Device::Cpu)?.squeeze(0)?;
        tensors.insert(*name, (t * scale)?);
    }
    let y = (case.run)(&tensors)?;
    let mut sent: HashMap<String, Tensor> = HashMap::new();
    sent.extend(tensors.iter().map(|(n, t)| (n.to_string(), t.clone())));
    sent.insert("y".into(), y);
    let mut peer = Peer::start(&case.spec, &sent, Mode::Eager);
    match &mut peer {
        Ok(peer) => {
            let error = peer.ask("output")?;
            assert!(error < 1e-4, "{}: outputs differ by {error}", case.label);
        }
        Err(e) => eprintln!("no peer: {e:#}"),
    }
    let mut forward = || Ok((case.run)(&tensors).map(drop)?);
    let mut candle = || Ok(plainly(|| (case.run)(&tensors)).map(drop)?);
    let others = Others {
        peer: peer.as_mut().ok(),
        candle: Some(&mut candle),
    };
    row(case, "forward", 1.0, peak, &mut forward, others)?;
    for (pass, wanted) in GRADIENTS {
        let of: Vec<&str> = tensors
            .keys()
            .copied()
            .filter(|n| wanted.contains(n))
            .collect();
        let repeats = pass != "backward" && tensors.len() == 1;
        if of.is_empty() || repeats && pass == "input" {
            continue;
        }
        // Both sides keep the graph and ask for the gradients alone.
        let mut own = tensors.clone();
        for name in &of {
            let var = Var::from_tensor(&tensors[name])?;
            own.insert(name, var.as_tensor().clone());
        }
        let y = (case.run)(&own)?;
        let mut backward = || Ok(y.backward().map(drop)?);
        let y = plainly(|| (case.run)(&own))?;
        let mut candle = || Ok(plainly(|| y.backward()).map(drop)?);
        let others = Others {
            peer: peer.as_mut().ok(),
            candle: Some(&mut candle),
        };
        let passes = (of.len() as f64).min(2.0);
        row(case, pass, passes, peak, &mut backward, others)?;
    }
    Ok(())
}

/// By candle's own operators.
fn plainly<T>(f: impl FnOnce() -> T) -> T {
    nn_ops::path::with(nn_ops::path::Path::Reference, f)
}

/// Who takes turns with us.
struct Others<'a> {
    peer: Option<&'a mut Peer>,
    candle: Option<&'a mut dyn FnMut() -> Result<()>>,
}

fn row(
    case: &Case,
    pass: &str,
    passes: f64,
    peak: f64,
    ours: &mut dyn FnMut() -> Result<()>,
    others: Others<'_>,
) -> Result<()> {
    let (has_peer, has_candle) = (others.peer.is_some(), others.candle.is_some());
    let mut peer = others
        .peer
        .map(|peer| move |times: usize| peer.time(pass, times));
    let mut candle = others
        .candle
        .map(|run| move |times: usize| timed(&Device::Cpu, times, run));
    let mut sides: Vec<Side<'_>> = Vec::new();
    sides.extend(peer.as_mut().map(|side| side as Side<'_>));
    sides.extend(candle.as_mut().map(|side| side as Side<'_>));
    let (mine, theirs) = turns(ours, &mut sides)?;
    let own = spread(&mine);
    let mut theirs = theirs.into_iter().peekable();
    let mut beside = |there: bool| match theirs.next_if(|_| there) {
        Some(t) => format!("{} | {}", spread(&t), ratios(&mine, &t)),
        None => " | ".into(),
    };
    let (peer, candle) = (beside(has_peer), beside(has_candle));
    let (speed, part) = match case.flop > 0.0 {
        true => {
            let speed = case.flop * passes / own.median / 1e6;
            (
                format!("{speed:.0}"),
                format!("{:.0} %", 100.0 * speed / peak),
            )
        }
        false => Default::default(),
    };
    println!(
        "| {} | {pass} | {own} | {peer} | {candle} | {speed} | {part} |",
        case.label
    );
    Ok(())
}

/// AdamW and the moving average over all parameters of a network of 52 M.
fn optimiser() -> Result<()> {
    let shapes: Vec<Vec<usize>> = (0..22).map(|_| vec![512, 512, 3, 3]).collect();
    let (mut vars, mut sent) = (Vec::new(), HashMap::new());
    for (i, shape) in shapes.iter().enumerate() {
        let t = noise::normal_tensor(1, &[i as u64], 0, 0, shape, &Device::Cpu)?.squeeze(0)?;
        let t = (t * 0.02)?;
        vars.push((format!("p{i}"), Var::from_tensor(&t)?));
        sent.insert(format!("p{i}"), t);
    }
    let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for (_, var) in &vars {
        loss = (loss + (var.as_tensor() * 1e-3)?.sum_all()?)?;
    }
    let grads = loss.backward()?;
    let mut adam = AdamW::new(vars.clone(), AdamWConfig::default())?;
    let mut ema = Ema::new(vars.clone(), 0.999)?;
    let spec = json!({"operator": "optimiser"});
    let mut peer = Peer::start(&spec, &sent, Mode::Eager);
    let case = Case {
        label: "52 M parameters".into(),
        spec,
        shapes: Vec::new(),
        flop: 0.0,
        run: Box::new(|t| Ok(t["x"].clone())),
    };
    let mut step = || Ok(adam.step(&grads)?);
    let params = candle_nn::ParamsAdamW::default();
    let own = vars.iter().map(|(_, var)| var.clone()).collect();
    let mut theirs = candle_nn::AdamW::new(own, params)?;
    let mut candle = || Ok(theirs.step(&grads)?);
    let others = Others {
        peer: peer.as_mut().ok(),
        candle: Some(&mut candle),
    };
    row(&case, "adamw", 1.0, 1.0, &mut step, others)?;
    let mut average = || Ok(ema.update()?);
    let others = Others {
        peer: peer.as_mut().ok(),
        candle: None,
    };
    row(&case, "ema", 1.0, 1.0, &mut average, others)
}
