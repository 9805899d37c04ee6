//! What is fuzzed: each function may refuse its input, and may neither panic, nor take long, nor much memory.

use std::path::Path;
use std::sync::Arc;

/// A safetensors file, every tensor of it.
pub fn safetensors(data: &[u8]) {
    read("fuzz.safetensors", data);
}

/// A file of torch.save: archive, pickle and storages.
pub fn torch(data: &[u8]) {
    // Its directory and records, whatever the first bytes are.
    let _ = checkpoints::zip::Archive::read(data);
    read("fuzz.pth", data);
}

/// A pickle alone, which gets whatever storage it asks for.
pub fn pickle(data: &[u8]) {
    // An archive around it would be refused for its checksum whenever the pickle is changed.
    let storage = checkpoints::Storage::of_bytes("0", vec![0; 4096].into());
    let storage = Arc::new(storage);
    let _ = checkpoints::pickle::read(data, &mut |_| Ok(storage.clone()));
}

/// A training run's configuration, and a bundle's.
pub fn config(data: &[u8]) {
    let _ = wmgm::config::TrainConfig::from_bytes(data, Path::new("fuzz.toml"));
    let bytes = wmgm::bundle::BundleBytes {
        config: data,
        score: &[],
        generator: &[],
    };
    let _ = wmgm::Bundle::from_bytes(bytes, Path::new("fuzz"), &candle_core::Device::Cpu);
}

fn read(name: &str, data: &[u8]) {
    let Ok(file) = checkpoints::Checkpoint::from_bytes(name, data.to_vec()) else {
        return;
    };
    let _ = file.state_dict(checkpoints::Parameters::Averaged);
    for name in file.names() {
        let _ = file.tensor(name, &candle_core::Device::Cpu);
    }
}
