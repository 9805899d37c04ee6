//! The U-Net at inference and in training beside the same network in PyTorch, run by turns.
//!
//! `cargo bench -p score-sde`; WMGM_PYTHON names a Python that has torch (default python3). Same weights and inputs; the
//! outputs are compared first. Milliseconds are min / median / max, ratios of medians.

use candle_core::{Device, Result, Tensor};
use nn_ops::{AdamW, AdamWConfig, Params, noise};
use score_sde::{UNet, UNetConfig};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const TURNS: usize = 7;

/// The network that the program ships, and the one of improved-diffusion's examples.
fn cases() -> Vec<(&'static str, UNetConfig, usize, usize)> {
    let shipped = UNetConfig {
        in_channels: 12,
        model_channels: 64,
        out_channels: 12,
        num_res_blocks: 2,
        attention_resolutions: vec![2],
        channel_mult: vec![1, 2],
        num_heads: 4,
        num_heads_upsample: None,
        use_scale_shift_norm: true,
        conv_resample: false,
        num_classes: None,
        dropout: 0.0,
    };
    let improved = UNetConfig {
        in_channels: 3,
        model_channels: 128,
        out_channels: 6,
        num_res_blocks: 3,
        attention_resolutions: vec![2, 4],
        channel_mult: vec![1, 2, 2, 2],
        conv_resample: true,
        ..shipped.clone()
    };
    vec![
        ("shipped", shipped, 32, 16),
        ("improved-diffusion", improved, 8, 32),
    ]
}

/// PyTorch in a process of its own.
struct Peer {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Peer {
    fn start(
        config: &UNetConfig,
        params: &Params,
        io: [(&str, &Tensor); 3],
    ) -> std::result::Result<Self, String> {
        let fail = |e: &dyn std::fmt::Display| e.to_string();
        let folder = tempfile::tempdir().map_err(|e| fail(&e))?;
        let (json, weights) = (
            folder.path().join("config.json"),
            folder.path().join("weights.safetensors"),
        );
        let text = serde_json::to_vec(config).map_err(|e| fail(&e))?;
        std::fs::write(&json, text).map_err(|e| fail(&e))?;
        let mut tensors = params.tensors();
        tensors.extend(io.map(|(n, t)| (n.to_string(), t.clone())));
        candle_core::safetensors::save(&tensors, &weights).map_err(|e| fail(&e))?;
        let python = std::env::var("WMGM_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut child = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/peer.py"))
            .args([&json, &weights])
            .arg(rayon::current_num_threads().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{python}: {e}"))?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut peer = Self {
            child,
            answers,
            _folder: folder,
        };
        match peer.line()?.as_str() {
            "ready" => Ok(peer),
            other => Err(format!(
                "{python} said {other:?}; does it have torch and numpy? Set WMGM_PYTHON"
            )),
        }
    }

    fn line(&mut self) -> std::result::Result<String, String> {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        Ok(line.trim().into())
    }

    fn ask(&mut self, what: &str) -> std::result::Result<f64, String> {
        let stdin = self.child.stdin.as_mut().ok_or("no input")?;
        writeln!(stdin, "{what}").map_err(|e| e.to_string())?;
        self.line()?.parse().map_err(|e| format!("{what}: {e}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn milliseconds(f: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    f()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn spread(times: &mut [f64]) -> (f64, String) {
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    (
        median,
        format!(
            "{:.1} / {median:.1} / {:.1}",
            times[0],
            times[times.len() - 1]
        ),
    )
}

fn main() -> Result<()> {
    nn_ops::memory::keep_freed_memory();
    let device = Device::Cpu;
    for (name, config, batch, side) in cases() {
        let params = Params::new(1);
        let net = UNet::new(config.clone(), params.builder(&device))?;
        // Layers that start silent would make the comparison empty.
        for (i, (_, var)) in params.named().iter().enumerate() {
            let dims = var.dims().to_vec();
            let scale = 0.5 / (dims[1..].iter().product::<usize>() as f64).sqrt();
            let wave = noise::normal_tensor(7, &[i as u64], 1, 0, &dims, &device)?.squeeze(0)?;
            var.set(&(var.as_tensor() + (wave * scale)?)?)?;
        }
        let items: Vec<u64> = (0..batch as u64).collect();
        let x = noise::normal_tensor(7, &items, 2, 0, &[config.in_channels, side, side], &device)?;
        let t = Tensor::arange(0f32, batch as f32, &device)?.affine(7.5, 1.0)?;
        let y = net.forward(&x, &t, None, None)?;
        let mut peer = match Peer::start(&config, &params, [("x", &x), ("t", &t), ("y", &y)]) {
            Ok(peer) => peer,
            Err(e) => {
                println!("{name}: no peer: {e}");
                return Ok(());
            }
        };
        let error = peer.ask("output").map_err(candle_core::Error::msg)?;
        println!(
            "{name}: {:.1} M parameters, batch {batch} at {side} x {side}; largest difference of the outputs {error:.1e}, relative",
            params.count() as f64 / 1e6
        );
        assert!(error < 1e-4, "the two networks differ: {error}");
        let mut adam = AdamW::new(
            params.named(),
            AdamWConfig {
                lr: 1e-4,
                ..AdamWConfig::default()
            },
        )?;
        let target = x.narrow(1, 0, 1)?.broadcast_as(y.shape())?.contiguous()?;
        for what in ["infer", "step"] {
            let mut run = || match what {
                "infer" => net.forward(&x, &t, None, None).map(drop),
                _ => {
                    let loss = (net.forward(&x, &t, None, None)? - &target)?
                        .sqr()?
                        .mean_all()?;
                    adam.step(&loss.backward()?)
                }
            };
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for turn in 0..=TURNS {
                let (a, b) = (
                    milliseconds(&mut run)?,
                    peer.ask(what).map_err(candle_core::Error::msg)?,
                );
                if turn > 0 {
                    ours.push(a);
                    theirs.push(b);
                }
            }
            let ((a, ours), (b, theirs)) = (spread(&mut ours), spread(&mut theirs));
            println!(
                "  {what:6} ours {ours} ms, PyTorch {theirs} ms: {:.2}x PyTorch's time",
                a / b
            );
        }
    }
    Ok(())
}
