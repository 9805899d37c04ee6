//! Times on (64, 3, 128, 128) f32 beside a plain copy and, in the same run, PyWavelets and pytorch_wavelets.
//!
//! `cargo bench -p wavelet`; WMGM_PYTHON names the Python that has the peers (default python3). Figures are the least
//! of several runs, so that a busy machine tells the same story.

use candle_core::{Device, Result, Tensor};
use std::collections::HashMap;
use std::process::Command;
use std::time::Instant;
use wavelet::{Dwt, Mode, Wavelet};

const RUNS: usize = 40;
const CASES: [(&str, Mode); 2] = [("haar", Mode::Periodization), ("db4", Mode::Symmetric)];

/// Milliseconds of the fastest run.
fn least<R>(mut f: impl FnMut() -> R) -> f64 {
    let run = |_| {
        let start = Instant::now();
        let result = f();
        let time = start.elapsed().as_secs_f64() * 1e3;
        drop(result);
        time
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

/// (wavelet, direction) to the fastest peer's name and milliseconds; every line is printed.
fn peers() -> HashMap<(String, usize), (String, f64)> {
    let python = std::env::var("WMGM_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/peers.py");
    let output = match Command::new(&python).arg(script).output() {
        Ok(output) => output,
        Err(e) => {
            println!("peers skipped: {python}: {e}; set WMGM_PYTHON");
            return HashMap::new();
        }
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || complaints.contains("No module named") {
        println!("peers skipped, some or all: {}", complaints.trim());
    }
    let mut best: HashMap<(String, usize), (String, f64)> = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [peer, wavelet, mode, forward, inverse] = words[..] else {
            continue;
        };
        println!(
            "{wavelet:5} {mode:14} {peer:18} forward {forward:.6} ms, inverse {inverse:.6} ms"
        );
        for (direction, ms) in [forward, inverse].into_iter().enumerate() {
            let Ok(ms) = ms.parse::<f64>() else { continue };
            let slot = best.entry((wavelet.to_string(), direction));
            let slot = slot.or_insert_with(|| (peer.to_string(), ms));
            if ms < slot.1 {
                *slot = (peer.to_string(), ms);
            }
        }
    }
    best
}

fn main() -> Result<()> {
    let x = Tensor::randn(0f32, 1., (64, 3, 128, 128), &Device::Cpu)?;
    println!(
        "(64, 3, 128, 128) f32, {} threads",
        rayon::current_num_threads()
    );
    println!("a plain copy of the tensor: {:.3} ms", least(|| x.copy()));
    let peers = peers();
    for (name, mode) in CASES {
        let wavelet = Wavelet::new(name).map_err(candle_core::Error::wrap)?;
        let dwt = Dwt::new(wavelet, mode);
        let (low, high) = dwt.dwt2(&x).map_err(candle_core::Error::wrap)?;
        let ours = [
            least(|| dwt.dwt2(&x)),
            least(|| dwt.idwt2(&low, &high, None)),
        ];
        for (direction, ms) in ours.into_iter().enumerate() {
            let what = ["forward", "inverse"][direction];
            print!("{name:5} {mode:14} {what}: {ms:.3} ms");
            match peers.get(&(name.to_string(), direction)) {
                Some((peer, theirs)) => println!(", {:.1}x faster than {peer}", theirs / ms),
                None => println!(),
            }
        }
    }
    Ok(())
}
