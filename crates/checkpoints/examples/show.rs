//! What a file of tensors holds, and how long it takes to read beside the bare file:
//! `cargo run --release -p checkpoints --example show FILE`.

use candle_core::Device;
use checkpoints::{Checkpoint, Parameters};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("which file?".into());
    };
    let start = Instant::now();
    let file = Checkpoint::open(&path)?;
    let opened = start.elapsed();
    println!("{:?}, {} tensors", file.format(), file.len());
    let network = match file.state_dict(Parameters::Averaged) {
        Ok(network) => {
            println!("the network of a {:?} checkpoint:", file.layout()?);
            network
        }
        Err(e) => {
            println!("{e}");
            file.clone()
        }
    };
    for (name, tensor) in network.iter() {
        println!("  {name} {:?} {:?}", tensor.dtype(), tensor.shape());
    }
    let start = Instant::now();
    let tensors = file.tensors(&Device::Cpu)?;
    let read = start.elapsed();
    let start = Instant::now();
    let bytes = std::fs::read(file.path())?.len();
    println!(
        "opened in {opened:?}; {} tensors read in {read:?}; the {bytes} bytes of the file alone in {:?}",
        tensors.len(),
        start.elapsed()
    );
    Ok(())
}
