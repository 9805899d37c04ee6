//! Networks of score_sde as networks of diffusers: the outputs that score_sde itself gave, by the other network.

use super::common::repository;
use super::formula::{noise, numbers, off, parameters};
use candle_core::{DType, Device, Tensor};
use checkpoints::{Checkpoint, safetensors};
use serde_json::{Value, json};
use std::path::Path;
use wmgm::import::{ReadOptions, read};
use wmgm::pipeline::Model;
use wmgm::sgm::NetworkConfig;

/// The cases of score-sde's own tests: configurations and outputs.
fn cases() -> (Vec<Value>, Checkpoint) {
    let folder = repository().join("crates/score-sde/tests/cases");
    let text = std::fs::read(folder.join("networks.json")).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let outputs = Checkpoint::open(folder.join("networks.safetensors")).unwrap();
    let ours = all.into_iter().filter(|case| case["family"] == "score_sde");
    (ours.collect(), outputs)
}

/// Exports a network to `at`/out: what is said against it, or nothing.
fn export(config: &Value, sde: &str, at: &Path) -> Result<NetworkConfig, String> {
    let net = NetworkConfig::ScoreSde(serde_json::from_value(config.clone()).unwrap());
    let path = at.join("model.safetensors");
    safetensors::write(&path, parameters(&net), None, None).unwrap();
    let given = json!({
        "model": config["model"], "data": config["data"], "training": { "sde": sde, "continuous": true },
    });
    std::fs::write(at.join("given.json"), given.to_string()).unwrap();
    let options = ReadOptions {
        config: Some(at.join("given.json")),
        ..ReadOptions::default()
    };
    let imported = read(&path, &options).unwrap();
    let written = imported.write_diffusers(&at.join("out"), None);
    written.map(|()| net).map_err(|e| e.to_string())
}

fn forward(folder: &Path, x: &Tensor, t: &Tensor) -> Tensor {
    let Model::Sgm(model) = Model::open(folder, &Device::Cpu).unwrap() else {
        panic!("a diffusion on pixels")
    };
    model.network().forward(x, t, None).unwrap()
}

#[test]
fn networks_with_a_counterpart_give_the_outputs_of_score_sde() {
    let (cases, outputs) = cases();
    for (name, sde) in [("ddpm", "vpsde"), ("ncsnpp-wide", "vesde")] {
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let mut config = case["config"].clone();
        // diffusers' pipeline of this process has pictures in [0, 1], which the network then centres itself.
        config["data"]["centered"] = json!(sde == "vpsde");
        let at = tempfile::tempdir().unwrap();
        export(&config, sde, at.path()).unwrap();
        let size: Vec<usize> = serde_json::from_value(case["size"].clone()).unwrap();
        let shape = [2, 3, size[0], size[1]];
        let values = numbers("x", shape.iter().product());
        let values: Vec<f32> = values.iter().map(|v| *v as f32 * 1.5).collect();
        let x = Tensor::from_vec(values, &shape, &Device::Cpu).unwrap();
        let x = match sde {
            "vpsde" => x,
            _ => x.affine(0.5, 0.5).unwrap(),
        };
        let t: Vec<f32> = serde_json::from_value(case["t"].clone()).unwrap();
        let t = Tensor::new(t, &Device::Cpu).unwrap();
        let want = outputs.tensor(&format!("score_sde.{name}.y"), &Device::Cpu);
        let apart = off(&forward(&at.path().join("out"), &x, &t), &want.unwrap());
        println!("{name}: {apart:.1e}");
        assert!(apart < 1e-4, "{name}: {apart:e}");
    }
}

/// Wider and deeper than the committed cases, beside score_sde's network of this crate's own.
#[test]
fn deeper_networks_are_carried_over_whole() {
    let model = |changes: Value| {
        let mut model = json!({
            "name": "ncsnpp", "nf": 128, "ch_mult": [1, 2], "num_res_blocks": 2, "attn_resolutions": [4, 8],
            "resamp_with_conv": true, "conditional": true, "scale_by_sigma": false, "nonlinearity": "swish",
            "fir": false, "skip_rescale": false, "resblock_type": "ddpm", "progressive": "none",
            "progressive_input": "none", "progressive_combine": "sum", "embedding_type": "positional",
            "sigma_min": 0.01, "sigma_max": 50.0, "num_scales": 1000,
        });
        for (name, value) in changes.as_object().unwrap() {
            model[name] = value.clone();
        }
        model
    };
    let skip = json!({
        "fir": true, "embedding_type": "fourier", "scale_by_sigma": true, "progressive": "output_skip",
        "progressive_input": "input_skip", "resblock_type": "biggan", "skip_rescale": true, "nf": 32,
        "ch_mult": [1, 4, 4], "attn_resolutions": [2, 4],
    });
    for (name, model, sde) in [
        ("plain", model(json!({})), "vpsde"),
        ("skip", model(skip), "vesde"),
    ] {
        let data = json!({ "image_size": 8, "num_channels": 3, "centered": sde == "vpsde" });
        let config = json!({ "model": model, "data": data });
        let at = tempfile::tempdir().unwrap();
        let net = export(&config, sde, at.path()).unwrap();
        let x = noise(name, &[1, 3, 8, 8]);
        let t = Tensor::new(&[7f32], &Device::Cpu).unwrap();
        let vb = candle_nn::VarBuilder::from_tensors(parameters(&net), DType::F32, &Device::Cpu);
        let own = wmgm::sgm::Network::new(&net, vb).unwrap();
        let want = own.forward(&x, &t, None).unwrap();
        let apart = off(&forward(&at.path().join("out"), &x, &t), &want);
        assert!(apart < 1e-4, "{name}: {apart:e}");
    }
}

#[test]
fn what_diffusers_lacks_is_named() {
    let (cases, _) = cases();
    let expected = [
        ("ddpm-plain", "nonlinearity"),
        ("ddpmpp", "skip_rescale"),
        ("ddpmpp-biggan", "skip_rescale"),
        ("ncsnpp-ve", "attn_resolutions"),
        ("ncsnpp-cat", "progressive_combine"),
        ("ncsnpp-residual", "output_skip"),
        ("ncsnpp-ddpm-fir-plain", "scale_by_sigma"),
        ("ncsnpp-odd-filter-biggan", "fir_kernel"),
        ("ncsnpp-unconditional", "conditional"),
        ("ncsnpp-grey", "nonlinearity"),
    ];
    for (name, option) in expected {
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let mut config = case["config"].clone();
        let fourier = config["model"]["embedding_type"] == "fourier";
        config["data"]["centered"] = json!(!fourier);
        let at = tempfile::tempdir().unwrap();
        let sde = if fourier { "vesde" } else { "vpsde" };
        let error = export(&config, sde, at.path()).unwrap_err();
        let told = error.contains(option) && error.contains("--to safetensors");
        assert!(told, "{name}: {error}");
        assert!(!at.path().join("out").exists());
    }
    // Processes that no pipeline of diffusers has.
    let ddpm = &cases.iter().find(|case| case["name"] == "ddpm").unwrap()["config"];
    let at = tempfile::tempdir().unwrap();
    let error = export(ddpm, "subvpsde", at.path()).unwrap_err();
    assert!(error.contains("subvpsde"), "{error}");
}
