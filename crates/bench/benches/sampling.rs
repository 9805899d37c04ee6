//! The shipped model making 16 pictures, beside the same networks and sampler in PyTorch, and from a cold start.
//!
//! `cargo bench -p bench --bench sampling`

use anyhow::{Context, Result};
use bench::{Mode, Peer, TURNS, peak_memory, ratios, spread, turns};
use candle_core::{DType, Device, Tensor};
use nn_ops::noise;
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;
use wmgm::bundle::Bundle;
use wmgm::model::{Draw, solver};

const PICTURES: u64 = 16;

fn main() -> Result<()> {
    nn_ops::memory::keep_freed_memory();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/model");
    let start = Instant::now();
    let bundle = Bundle::read(&folder, &Device::Cpu)?;
    let load = start.elapsed().as_secs_f64() * 1e3;
    let c = &bundle.config;
    let indices: Vec<u64> = (0..PICTURES).collect();
    let sample = || -> Result<Tensor> {
        let mut quiet = |_: usize, _: &Tensor| Ok(());
        let how = solver(&c.sample.sampler)?;
        let draw = Draw::low(0, &indices);
        let low =
            (bundle.low).sample(&how, c.sample.steps, draw, None, &Device::Cpu, &mut quiet)?;
        Ok(bundle.high.details(&low, c.levels, 0, &indices)?)
    };
    let start = Instant::now();
    let y = sample()?;
    println!(
        "{} threads, {:?}; loading {load:.0} ms, the first {PICTURES} pictures {:.0} ms",
        rayon::current_num_threads(),
        nn_ops::simd::isa(),
        start.elapsed().as_secs_f64() * 1e3
    );

    let mut tensors = HashMap::new();
    for part in ["score", "generator"] {
        let path = folder.join(part).with_extension("safetensors");
        for (name, t) in candle_core::safetensors::load(&path, &Device::Cpu)? {
            tensors.insert(format!("{part}.{name}"), t.to_dtype(DType::F32)?);
        }
    }
    // The streams of noise that the program addresses: see `wmgm::model`.
    let draw = |stream, shape: [usize; 3]| {
        noise::normal_tensor(0, &indices, stream, 0, &shape, &Device::Cpu)
    };
    let side = c.size >> c.levels >> c.fold;
    tensors.insert("x".into(), draw(100, [3 << (2 * c.fold), side, side])?);
    for level in 1..=c.levels {
        let (side, channels) = (c.size >> level, c.generator.noise_channels);
        let noise = draw(200 + level as u32, [channels, side, side])?;
        tensors.insert(format!("noise{}", c.levels - level), noise);
    }
    tensors.insert("y".into(), y);
    let case = serde_json::json!({"network": "pipeline", "config": c});
    println!(
        "Milliseconds are min / median / max of {TURNS} turns; ratios are PyTorch's time over ours.\n"
    );
    println!("| ours ms | against | its ms | times faster | its MiB |\n|---|---|---|---|---|");
    for mode in [Mode::Eager, Mode::ChannelsLast] {
        let mut peer = match Peer::start(&case, &tensors, mode) {
            Ok(peer) => peer,
            Err(e) => {
                eprintln!("no peer: {e:#}");
                continue;
            }
        };
        let error = peer.ask("output").context("output")?;
        // Sixteen evaluations in a row let rounding grow; a picture has 255 levels for its range of 2.
        assert!(error < 1e-3, "pictures differ by {error}");
        let (ours, theirs) = turns(
            &mut || sample().map(drop),
            &mut [&mut |times| peer.time("infer", times)],
        )?;
        let memory = peer.ask("memory")?;
        println!(
            "| {} | {} (difference {error:.0e}) | {} | {} | {memory:.0} |",
            spread(&ours),
            mode.name(),
            spread(&theirs[0]),
            ratios(&ours, &theirs[0])
        );
    }
    println!("\nmost memory of this process: {:.0} MiB", peak_memory());
    Ok(())
}
