//! Checkpoints of other programs become models, and models go back: by formula, by the cases of `msal-gan`, and by those of
//! the golden folder (WMGM_GOLDEN, by default `../shared/golden` beside the workspace) where it exists.

use super::common::{fails, ok, repository, wmgm};
use super::formula::{noise, off, parameters};
use candle_core::{Device, Tensor};
use checkpoints::safetensors::{self, Precision};
use checkpoints::{Checkpoint, Parameters};
use msal_gan::official::EightBit;
use score_sde::{ScoreNetConfig, UNetConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use wmgm::bundle::{PairConfig, Single, write_pair};
use wmgm::import::{Format, Imported, ImportedModel, ReadOptions, read};
use wmgm::pipeline::{Model, Pipeline};
use wmgm::sgm::{NetworkConfig, ProcessConfig, SgmConfig};
use wmgm::{SampleOptions, Sgm};

/// A case of the golden folder, if it is here.
fn golden(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("WMGM_GOLDEN") {
        Some(folder) => PathBuf::from(folder),
        None => repository().join("../shared/golden"),
    };
    let case = folder.join(name);
    if case.is_dir() {
        return Some(case);
    }
    eprintln!("{} is not here: skipped", case.display());
    None
}

fn official(name: &str) -> PathBuf {
    repository().join("crates/msal-gan/tests/cases").join(name)
}

fn tensor(path: &Path, name: &str) -> Tensor {
    let file = Checkpoint::open(path).unwrap();
    file.tensor(name, &Device::Cpu).unwrap()
}

/// Options with a configuration written to a file.
fn with(folder: &Path, config: &Value, parameters: Parameters) -> ReadOptions {
    let path = folder.join("given.json");
    std::fs::write(&path, config.to_string()).unwrap();
    ReadOptions {
        config: Some(path),
        parameters,
        ..ReadOptions::default()
    }
}

fn sgm(imported: &Imported) -> &SgmConfig {
    match &imported.model {
        ImportedModel::Sgm(config) => config,
        other => panic!("{other:?}"),
    }
}

fn open(folder: &Path) -> Sgm {
    match Model::open(folder, &Device::Cpu).unwrap() {
        Model::Sgm(model) => *model,
        other => panic!("{other:?}"),
    }
}

/// Errs unless both hold the same bits of every parameter.
fn identical(a: &Checkpoint, b: &Checkpoint) {
    assert_eq!(a.len(), b.len());
    for (name, tensor) in a.iter() {
        // A table of f64, which models have in f32.
        if name == "sigmas" {
            continue;
        }
        let other = b.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(
            (tensor.dtype(), tensor.shape()),
            (other.dtype(), other.shape()),
            "{name}"
        );
        assert!(
            tensor.bytes().unwrap() == other.bytes().unwrap(),
            "{name} differs"
        );
    }
}

/// Exports, loads back: the same bits in the bundle and in a plain file, which is read as the same model again.
fn round_trip(imported: &Imported, options: &ReadOptions, at: &Path) -> Sgm {
    let bundle = at.join("bundle");
    imported.write_bundle(&bundle, None).unwrap();
    identical(
        &imported.state,
        &Checkpoint::open(bundle.join("score.safetensors")).unwrap(),
    );
    let again = read(&bundle, &ReadOptions::default()).unwrap();
    let plain = at.join("plain.safetensors");
    again.write_safetensors(&plain, None).unwrap();
    identical(&imported.state, &Checkpoint::open(&plain).unwrap());
    let options = ReadOptions {
        format: Format::Safetensors,
        ..options.clone()
    };
    let third = read(&plain, &options).unwrap();
    assert_eq!(sgm(&third).network, sgm(imported).network);
    open(&bundle)
}

fn unets() -> Vec<UNetConfig> {
    let plain = UNetConfig {
        in_channels: 3,
        model_channels: 32,
        out_channels: 3,
        num_res_blocks: 1,
        attention_resolutions: vec![2],
        channel_mult: vec![1, 2],
        num_heads: 2,
        num_heads_upsample: None,
        use_scale_shift_norm: true,
        conv_resample: true,
        num_classes: None,
        dropout: 0.0,
    };
    vec![
        UNetConfig {
            out_channels: 6,
            num_res_blocks: 2,
            attention_resolutions: vec![2, 4],
            channel_mult: vec![1, 1, 2],
            ..plain.clone()
        },
        UNetConfig {
            in_channels: 1,
            out_channels: 1,
            conv_resample: false,
            use_scale_shift_norm: false,
            num_classes: Some(4),
            num_heads_upsample: Some(4),
            ..plain.clone()
        },
        UNetConfig {
            channel_mult: vec![2],
            attention_resolutions: vec![],
            ..plain
        },
    ]
}

/// Flags of improved-diffusion that tensors do not tell.
fn flags(net: &UNetConfig) -> Value {
    json!({
        "image_size": 8,
        "num_heads": net.num_heads,
        "num_heads_upsample": net.num_heads_upsample.map_or(-1, |n| n as i64),
        "diffusion_steps": 50,
        "noise_schedule": "cosine",
        "timestep_respacing": "6",
    })
}

#[test]
fn improved_diffusion_is_told_by_its_tensors() {
    for net in unets() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("model.safetensors");
        let network = NetworkConfig::ImprovedDiffusion(net.clone());
        safetensors::write(&path, parameters(&network), None, None).unwrap();
        let options = with(at.path(), &flags(&net), Parameters::Averaged);
        let imported = read(&path, &options).unwrap();
        assert_eq!(sgm(&imported).network, network);
        let ProcessConfig::ImprovedDiffusion(process) = &sgm(&imported).process else {
            panic!("{imported:?}");
        };
        assert_eq!(
            (process.diffusion_steps, process.learn_sigma),
            (50, net.out_channels == 6)
        );
        let model = round_trip(&imported, &options, at.path());
        let options = SampleOptions {
            pictures: 0..3,
            ..SampleOptions::default()
        };
        assert_eq!(model.plan(&options).unwrap().steps, 6);
        let pictures = model.sample(&options).unwrap();
        assert!(pictures[0] != pictures[1]);
        if net.num_classes.is_some() {
            let of = |class| SampleOptions {
                class: Some(class),
                ..options.clone()
            };
            // Picture 1 is of class 1 by itself.
            let first = model.sample(&of(1)).unwrap();
            assert!(first[1] == pictures[1] && first[0] != pictures[0]);
            let error = model.sample(&of(4)).unwrap_err().to_string();
            assert!(error.contains("class is 4, the model has 4"), "{error}");
        }
    }
}

#[test]
fn what_tensors_do_not_tell_is_asked_for_by_name() {
    let at = tempfile::tempdir().unwrap();
    let path = at.path().join("model.safetensors");
    let net = unets().remove(0);
    let network = NetworkConfig::ImprovedDiffusion(net.clone());
    safetensors::write(&path, parameters(&network), None, None).unwrap();
    let error = read(&path, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    for part in [
        "num_heads",
        "image_size",
        "diffusion_steps",
        "noise_schedule",
        "--config FILE",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let failing = |field: &str, value: Value| {
        let mut flags = flags(&net);
        flags[field] = value;
        let options = with(at.path(), &flags, Parameters::Averaged);
        read(&path, &options).unwrap_err().to_string()
    };
    for (field, value, expected) in [
        (
            "num_channels",
            json!(64),
            "num_channels is 64, but the tensors are those of 32",
        ),
        ("learn_sigma", json!(false), "learn_sigma is false"),
        ("num_heeds", json!(2), "num_heeds is no field"),
        ("num_heads", json!(3), "3 heads do not divide"),
        ("noise_schedule", json!("sine"), "noise_schedule"),
        ("timestep_respacing", json!("90"), "respacing"),
    ] {
        let error = failing(field, value);
        assert!(error.contains(expected), "{error}");
    }
    let toml = at.path().join("given.toml");
    std::fs::write(
        &toml,
        "image_size = 8\nnum_heads = 2\ndiffusion_steps = 50\nnoise_schedule = \"linear\"\n",
    )
    .unwrap();
    let options = ReadOptions {
        config: Some(toml),
        format: Format::ScoreSde,
        ..ReadOptions::default()
    };
    let error = read(&path, &options).unwrap_err().to_string();
    assert!(
        error.contains("improved-diffusion's U-Net, not what --format score-sde says"),
        "{error}"
    );
    assert!(
        read(
            &path,
            &ReadOptions {
                format: Format::Auto,
                ..options
            }
        )
        .is_ok()
    );
}

fn score_nets() -> Vec<Value> {
    let model = |changes: Value| {
        let mut model = json!({
            "name": "ncsnpp", "nf": 16, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4],
            "resamp_with_conv": true, "conditional": true, "scale_by_sigma": false, "nonlinearity": "swish",
            "fir": false, "skip_rescale": true, "resblock_type": "biggan", "progressive": "none",
            "progressive_input": "none", "progressive_combine": "sum", "embedding_type": "positional",
            "sigma_min": 0.01, "sigma_max": 50.0, "num_scales": 20,
        });
        for (name, value) in changes.as_object().unwrap() {
            model[name] = value.clone();
        }
        model
    };
    vec![
        model(json!({})),
        model(json!({ "num_res_blocks": 2, "attn_resolutions": [8], "resblock_type": "ddpm" })),
        model(
            json!({ "ch_mult": [1, 1, 2], "resamp_with_conv": false, "resblock_type": "ddpm", "attn_resolutions": [] }),
        ),
        model(
            json!({ "fir": true, "embedding_type": "fourier", "scale_by_sigma": true, "progressive": "output_skip",
            "progressive_input": "input_skip", "attn_resolutions": [8, 4], "num_res_blocks": 3 }),
        ),
        model(
            json!({ "fir": true, "embedding_type": "fourier", "progressive": "residual",
            "progressive_input": "residual", "ch_mult": [1, 2, 2] }),
        ),
        model(
            json!({ "fir": true, "embedding_type": "fourier", "progressive_input": "input_skip",
            "progressive_combine": "cat", "conditional": false }),
        ),
        model(json!({ "name": "ddpm", "nf": 32, "embedding_type": "positional" })),
    ]
}

#[test]
fn score_sde_is_told_by_its_tensors_and_a_few_words() {
    for (i, model) in score_nets().into_iter().enumerate() {
        let at = tempfile::tempdir().unwrap();
        let data = json!({ "image_size": 8, "num_channels": 3, "centered": i % 2 == 0 });
        let whole: ScoreNetConfig =
            serde_json::from_value(json!({ "model": model, "data": data })).unwrap();
        let path = at.path().join("model.safetensors");
        let network = NetworkConfig::ScoreSde(whole.clone());
        safetensors::write(&path, parameters(&network), None, None).unwrap();
        let sde = if (3..6).contains(&i) {
            "vesde"
        } else {
            "vpsde"
        };
        // Beta reaches 1 where there are fewer scales than beta_max.
        let given = json!({
            "model": {
                "name": model["name"], "fir": model["fir"], "skip_rescale": true, "beta_max": 5.0,
                "scale_by_sigma": model["scale_by_sigma"], "sigma_min": 0.01, "sigma_max": 50.0, "num_scales": 20,
            },
            "data": { "image_size": 8, "centered": i % 2 == 0 },
            "training": { "sde": sde, "continuous": true },
        });
        let options = with(at.path(), &given, Parameters::Averaged);
        let imported = read(&path, &options).unwrap();
        let NetworkConfig::ScoreSde(found) = &sgm(&imported).network else {
            panic!("{imported:?}");
        };
        let (m, want) = (&found.model, &whole.model);
        assert_eq!(found.tensors().unwrap(), whole.tensors().unwrap(), "{i}");
        assert_eq!(
            (m.nf, &m.ch_mult, m.num_res_blocks),
            (want.nf, &want.ch_mult, want.num_res_blocks)
        );
        assert_eq!(
            (&m.attn_resolutions.len(), m.fir),
            (&want.attn_resolutions.len(), want.fir),
            "{i}"
        );
        if whole.model.name == score_sde::score_net::Architecture::Ncsnpp {
            assert_eq!(
                (
                    m.resblock_type,
                    m.progressive,
                    m.progressive_input,
                    m.embedding_type
                ),
                (
                    want.resblock_type,
                    want.progressive,
                    want.progressive_input,
                    want.embedding_type
                ),
                "{i}"
            );
        }
        let model = round_trip(&imported, &options, at.path());
        let few = SampleOptions {
            pictures: 0..1,
            steps: Some(6),
            ..SampleOptions::default()
        };
        model.sample(&few).unwrap_or_else(|e| panic!("{i}: {e}"));
    }
}

#[test]
fn score_sde_asks_for_what_has_no_parameters() {
    let at = tempfile::tempdir().unwrap();
    let model = score_nets().remove(0);
    let data = json!({ "image_size": 8, "num_channels": 3, "centered": true });
    let whole: ScoreNetConfig =
        serde_json::from_value(json!({ "model": model, "data": data })).unwrap();
    let path = at.path().join("model.safetensors");
    safetensors::write(
        &path,
        parameters(&NetworkConfig::ScoreSde(whole)),
        None,
        None,
    )
    .unwrap();
    let error = read(&path, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    for part in [
        "model.name",
        "model.fir",
        "model.skip_rescale",
        "model.scale_by_sigma",
        "data.image_size",
        "data.centered",
        "training.sde",
        "training.continuous",
        "--config FILE",
    ] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    let mut given = json!({
        "model": { "name": "ncsnpp", "fir": false, "skip_rescale": true, "scale_by_sigma": false, "nf": 32 },
        "data": { "image_size": 8, "centered": true },
        "training": { "sde": "vpsde", "continuous": true },
    });
    let fails = |given: &Value| {
        read(&path, &with(at.path(), given, Parameters::Averaged))
            .unwrap_err()
            .to_string()
    };
    assert!(fails(&given).contains("are not those of a network of score_sde with these fields"));
    given["model"]["nf"] = json!(16);
    given["training"]["sde"] = json!("vp");
    assert!(fails(&given).contains("known are vpsde, subvpsde, vesde"));
    given["modell"] = json!({});
    assert!(fails(&given).contains("modell is no section"));
}

#[test]
fn official_networks_are_told_by_their_tensors() {
    let at = tempfile::tempdir().unwrap();
    let imported = read(
        &official("wmgm-generator/weights.pth"),
        &ReadOptions::default(),
    )
    .unwrap();
    let ImportedModel::Single(config) = &imported.model else {
        panic!("{imported:?}");
    };
    let Single::OfficialGenerator(generator) = &config.network else {
        panic!("{config:?}");
    };
    assert_eq!((generator.in_channels, generator.out_channels), (6, 9));
    let told = imported.notes.join("\n");
    for part in [
        "pooling is not told",
        "leaky_relu_slope",
        "counters of batches (num_batches_tracked)",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let bundle = at.path().join("generator");
    imported.write_bundle(&bundle, None).unwrap();
    identical(
        &imported.state,
        &Checkpoint::open(bundle.join("network.safetensors")).unwrap(),
    );
    assert!(ok(wmgm(at.path(), ["info", "generator"])).contains("official"));
    fails(
        wmgm(at.path(), ["sample", "--model", "generator"]),
        &["makes no pictures by itself", "--low"],
    );

    let imported = read(
        &official("wmgm-discriminator/weights.pth"),
        &ReadOptions::default(),
    )
    .unwrap();
    imported
        .write_bundle(&at.path().join("judge"), Some(Precision::F16))
        .unwrap();
    assert!(ok(wmgm(at.path(), ["info", "judge"])).contains("discriminator"));
    let error = imported
        .write_diffusers(&at.path().join("out"), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no network of diffusers"), "{error}");
}

/// A diffusion of 16 x 16 low bands by formula.
fn low(at: &Path) -> Imported {
    let net = unets().remove(0);
    let path = at.join("low.safetensors");
    let network = NetworkConfig::ImprovedDiffusion(net.clone());
    safetensors::write(&path, parameters(&network), None, None).unwrap();
    let mut flags = flags(&net);
    flags["image_size"] = json!(16);
    read(&path, &with(at, &flags, Parameters::Averaged)).unwrap()
}

/// The pair of a diffusion of low bands and an official generator, written and opened again.
fn pair(low: &Imported, generator: &Imported, rounding: Option<EightBit>, at: &Path) -> Model {
    let ImportedModel::Single(config) = &generator.model else {
        panic!("{generator:?}");
    };
    let Single::OfficialGenerator(generator_config) = &config.network else {
        panic!("{config:?}");
    };
    let config = PairConfig::new(sgm(low).clone(), generator_config.clone(), 2, rounding);
    let folder = at.join("pair");
    let (score, details) = (low.tensors().unwrap(), generator.tensors().unwrap());
    write_pair(&folder, &config, score, details, None).unwrap();
    Model::open(&folder, &Device::Cpu).unwrap()
}

/// The second stage as the official program runs it, given its low bands as pictures in [-1, 1].
fn check_details(model: &Model, case: &Path) {
    let Model::Pair(pair) = model else {
        panic!("{model:?}");
    };
    let io = case.join("io.safetensors");
    let low = tensor(&io, "low").affine(2.0, -1.0).unwrap();
    let made = pair
        .details(&low, &mut |round, _| {
            Ok(tensor(&io, &format!("noise{round}")))
        })
        .unwrap();
    let want = tensor(&io, "level1").affine(2.0, -1.0).unwrap();
    let apart = off(&made, &want);
    assert!(apart < 1e-4, "{apart:e}");
}

#[test]
fn an_official_pair_samples() {
    let at = tempfile::tempdir().unwrap();
    let generator = read(
        &official("wmgm-generator/weights.pth"),
        &ReadOptions::default(),
    )
    .unwrap();
    let low = low(at.path());
    check_details(
        &pair(&low, &generator, None, at.path()),
        &official("wmgm-sampling"),
    );
    let rounded = pair(&low, &generator, Some(EightBit::Below), at.path());
    assert_eq!(rounded.size(), [64, 64]);
    let out = ok(wmgm(
        at.path(),
        ["sample", "--model", "pair", "--count", "2", "--files"],
    ));
    assert!(
        out.contains("ddpm, 6 steps: 6 evaluations of the network at 16 x 16, 2 generator passes"),
        "{out}"
    );
    fails(
        wmgm(at.path(), ["sample", "--model", "pair", "--trajectory"]),
        &["a model of this kind does not show how its pictures come about"],
    );
    let one = ok(wmgm(
        at.path(),
        [
            "sample", "--model", "pair", "--count", "2", "--files", "--out", "one", "--batch", "1",
        ],
    ));
    assert!(one.contains("ddpm"));
    let bytes = |folder: &str| std::fs::read(at.path().join(folder).join("000001.png")).unwrap();
    assert!(bytes("samples") == bytes("one"));
    let info = ok(wmgm(at.path(), ["info", "pair"]));
    for part in [
        "64 x 64 RGB",
        "haar, 2 levels",
        "rounding Below",
        "improved-diffusion",
        "generator    official",
    ] {
        assert!(info.contains(part), "no {part:?} in {info}");
    }
    let config = at.path().join("pair/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"levels\": 2", "\"levels\": 3")).unwrap();
    fails(
        wmgm(at.path(), ["sample", "--model", "pair"]),
        &["do not fit 3 levels"],
    );
}

#[test]
fn bundles_say_their_kind_and_bad_ones_are_refused() {
    let at = tempfile::tempdir().unwrap();
    low(at.path())
        .write_bundle(&at.path().join("low"), Some(Precision::BF16))
        .unwrap();
    let config = at.path().join("low/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"kind\": \"sgm\""), "{text}");
    let change = |from: &str, to: &str, expected: &[&str]| {
        assert!(text.contains(from), "{text}");
        std::fs::write(&config, text.replacen(from, to, 1)).unwrap();
        fails(
            wmgm(at.path(), ["sample", "--model", "low", "--count", "1"]),
            expected,
        );
    };
    change(
        "\"kind\": \"sgm\"",
        "\"kind\": \"gan\"",
        &["gan", "config.json"],
    );
    change(
        "\"kind\": \"sgm\"",
        "\"kind\": \"wmgm\"",
        &["generator.safetensors"],
    );
    change("\"format\": 1", "\"format\": 9", &["format 9"]);
    change(
        "\"model_channels\": 32",
        "\"model_channels\": 3200000000",
        &["model_channels is 3200000000"],
    );
    change(
        "\"num_res_blocks\": 2",
        "\"num_res_blocks\": 3",
        &["score.safetensors", "missing"],
    );
    change(
        "\"sampler\": \"ddpm\"",
        "\"sampler\": \"magic\"",
        &["magic"],
    );
    change(
        "\"diffusion_steps\": 50",
        "\"diffusion_steps\": 5000000000",
        &["diffusion_steps is 5000000000"],
    );
    std::fs::write(&config, &text).unwrap();
    ok(wmgm(
        at.path(),
        ["sample", "--model", "low", "--count", "1"],
    ));
    let weights = at.path().join("low/score.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fails(
        wmgm(at.path(), ["sample", "--model", "low", "--count", "1"]),
        &["score.safetensors", "cut off"],
    );
}

#[test]
fn golden_improved_diffusion() {
    for (name, heads) in [
        ("improved-diffusion-unet-0", 4),
        ("improved-diffusion-unet-1", 2),
    ] {
        let Some(case) = golden(name) else { continue };
        let at = tempfile::tempdir().unwrap();
        let given = json!({
            "image_size": 16, "num_heads": heads, "diffusion_steps": 1000, "noise_schedule": "cosine",
            "timestep_respacing": "5",
        });
        let options = with(at.path(), &given, Parameters::Averaged);
        let imported = read(&case.join("model.pt"), &options).unwrap();
        let model = round_trip(&imported, &options, at.path());
        let io = case.join("io.safetensors");
        let label = Checkpoint::open(&io)
            .unwrap()
            .get("label")
            .is_some()
            .then(|| tensor(&io, "label"));
        let t = tensor(&io, "t").to_dtype(candle_core::DType::F32).unwrap();
        let y = model
            .network()
            .forward(&tensor(&io, "x"), &t, label.as_ref())
            .unwrap();
        let apart = off(&y, &tensor(&io, "y"));
        assert!(apart < 1e-4, "{name}: {apart:e}");
        let few = SampleOptions {
            pictures: 0..2,
            ..SampleOptions::default()
        };
        assert_eq!(model.sample(&few).unwrap().len(), 2);
    }
}

#[test]
fn golden_score_sde() {
    for (name, sde) in [
        ("score-sde-net-ddpm", "vpsde"),
        ("score-sde-net-ddpmpp", "vpsde"),
        ("score-sde-net-ncsnpp-ve", "vesde"),
    ] {
        let Some(case) = golden(name) else { continue };
        let at = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(case.join("case.json")).unwrap();
        let described: Value = serde_json::from_str(&text).unwrap();
        let mut model = described["config"].clone();
        // What its description says; the configuration is that of the other cases.
        if name == "score-sde-net-ddpm" {
            model["name"] = json!("ddpm");
        }
        let mut given = json!({
            "model": model,
            "data": { "image_size": 16, "centered": true },
            "training": { "sde": sde, "continuous": true },
        });
        let options = with(at.path(), &given, Parameters::Trained);
        let imported = read(&case.join("checkpoint.pth"), &options).unwrap();
        let model = round_trip(&imported, &options, at.path());
        let io = case.join("io.safetensors");
        let y = model
            .network()
            .forward(&tensor(&io, "x"), &tensor(&io, "t"), None)
            .unwrap();
        let apart = off(&y, &tensor(&io, "y"));
        assert!(apart < 1e-4, "{name}: {apart:e}");

        // Without the words that tensors tell, the same network.
        let model_words = given["model"].as_object_mut().unwrap();
        for told in [
            "nf",
            "ch_mult",
            "num_res_blocks",
            "attn_resolutions",
            "resamp_with_conv",
            "conditional",
            "embedding_type",
            "resblock_type",
            "progressive",
            "progressive_input",
            "progressive_combine",
            "sigma_min",
            "sigma_max",
            "num_scales",
        ] {
            model_words.remove(told);
        }
        let options = with(at.path(), &given, Parameters::Averaged);
        let averaged = read(&case.join("checkpoint.pth"), &options).unwrap();
        let tensors = |c: &SgmConfig| c.network.tensors().unwrap();
        assert_eq!(tensors(sgm(&averaged)), tensors(sgm(&imported)));

        // Each average is half its parameter; buffers and frozen frequencies have none.
        let has_averages = Checkpoint::open(case.join("checkpoint.pth"))
            .unwrap()
            .names()
            .any(|n| n.starts_with("ema."));
        let (raw, averaged) = (imported.tensors().unwrap(), averaged.tensors().unwrap());
        for (name, raw) in raw.iter().filter(|(name, _)| *name != "sigmas") {
            let frozen = name == "all_modules.0.W" || !has_averages;
            let want = if frozen {
                raw.clone()
            } else {
                (raw * 0.5).unwrap()
            };
            assert!(off(&averaged[name], &want) == 0.0, "{name}");
        }
    }
}

#[test]
fn golden_pair_from_end_to_end() {
    let (Some(unet), Some(generator), Some(sampling)) = (
        golden("improved-diffusion-unet-0"),
        golden("wmgm-generator"),
        golden("wmgm-sampling"),
    ) else {
        return;
    };
    let at = tempfile::tempdir().unwrap();
    let given = json!({
        "image_size": 16, "num_heads": 4, "diffusion_steps": 4000, "noise_schedule": "cosine", "timestep_respacing": "4",
    });
    let low = read(
        &unet.join("model.pt"),
        &with(at.path(), &given, Parameters::Averaged),
    )
    .unwrap();
    let generator = read(&generator.join("weights.pth"), &ReadOptions::default()).unwrap();
    let model = pair(&low, &generator, None, at.path());
    check_details(&model, &sampling);
    let made = model
        .sample(&SampleOptions {
            pictures: 0..2,
            ..SampleOptions::default()
        })
        .unwrap();
    assert!(made.len() == 2 && made[0] != made[1] && made[0].dimensions() == (64, 64));
}

/// What `scripts/check_exports.py` shows with diffusers itself: the same network by other names.
#[test]
fn a_counterpart_in_diffusers_gives_the_same() {
    let at = tempfile::tempdir().unwrap();
    let mut net = unets().remove(0);
    // One width of heads at all levels.
    net.attention_resolutions = vec![4];
    net.num_classes = Some(3);
    let network = NetworkConfig::ImprovedDiffusion(net.clone());
    let path = at.path().join("model.safetensors");
    safetensors::write(&path, parameters(&network), None, None).unwrap();
    let mut flags = flags(&net);
    flags["diffusion_steps"] = json!(1000);
    let imported = read(&path, &with(at.path(), &flags, Parameters::Averaged)).unwrap();
    let bundle = at.path().join("bundle");
    imported.write_bundle(&bundle, None).unwrap();
    let folder = at.path().join("diffusers");
    imported.write_diffusers(&folder, None).unwrap();
    let (ours, theirs) = (open(&bundle), open(&folder));
    let x = noise("x", &[2, 3, 8, 8]);
    let t = Tensor::new(&[3f32, 700.0], &Device::Cpu).unwrap();
    let classes = Tensor::new(&[0u32, 2], &Device::Cpu).unwrap();
    let y = |model: &Sgm| model.network().forward(&x, &t, Some(&classes)).unwrap();
    let apart = off(&y(&theirs), &y(&ours));
    assert!(apart < 1e-5, "{apart:e}");
    let few = SampleOptions {
        pictures: 0..2,
        steps: Some(5),
        ..SampleOptions::default()
    };
    assert_eq!(theirs.plan(&few).unwrap().steps, 5);
    theirs.sample(&few).unwrap();

    let mut odd = flags.clone();
    odd["diffusion_steps"] = json!(500);
    let imported = read(&path, &with(at.path(), &odd, Parameters::Averaged)).unwrap();
    let error = imported
        .write_diffusers(&folder, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("rescale_timesteps"), "{error}");
}

#[test]
fn precisions_and_values_that_do_not_fit() {
    let at = tempfile::tempdir().unwrap();
    let net = unets().remove(2);
    let network = NetworkConfig::ImprovedDiffusion(net.clone());
    let mut tensors: HashMap<String, Tensor> = parameters(&network);
    let path = at.path().join("model.safetensors");
    let bias = tensors["out.2.bias"].affine(0.0, 1e6).unwrap();
    tensors.insert("out.2.bias".into(), bias);
    safetensors::write(&path, tensors.clone(), None, None).unwrap();
    let options = with(at.path(), &flags(&net), Parameters::Averaged);
    let bundle = at.path().join("bundle");
    let error = |precision| {
        let imported = read(&path, &options).unwrap();
        imported
            .write_bundle(&bundle, precision)
            .unwrap_err()
            .to_string()
    };
    assert!(error(Some(Precision::F16)).contains("out.2.bias"));
    assert!(!bundle.exists());
    let nan = tensors["out.2.bias"].affine(f64::NAN, 0.0).unwrap();
    tensors.insert("out.2.bias".into(), nan);
    safetensors::write(&path, tensors, None, None).unwrap();
    assert!(error(None).contains("NaN"));
    assert!(!bundle.exists());
}
