//! Folders of diffusers sample as diffusers does: its own pipelines on small models, state by state.

use super::common::{fails, names, ok, wmgm};
use super::formula::{noise, off, parameters};
use candle_core::{Device, Tensor};
use checkpoints::safetensors;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use wmgm::import::{ImportedModel, ReadOptions, read};
use wmgm::pipeline::{Model, Pipeline};
use wmgm::sgm::{NetworkConfig, Run};
use wmgm::{SampleOptions, Sgm};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/diffusers")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(from, to).unwrap();
}

/// A case as a folder: its configurations, and its weights by formula.
pub fn folder(name: &str, at: &Path) -> PathBuf {
    let (case, folder) = (cases().join(name), at.join(name));
    for file in [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
    ] {
        copy(&case.join(file), &folder.join(file));
    }
    let text = std::fs::read_to_string(folder.join("unet/config.json")).unwrap();
    let network = NetworkConfig::Diffusers(serde_json::from_str(&text).unwrap());
    let weights = folder.join("unet/diffusion_pytorch_model.safetensors");
    safetensors::write(&weights, parameters(&network), None, None).unwrap();
    folder
}

fn sgm(folder: &Path) -> Sgm {
    match Model::open(folder, &Device::Cpu).unwrap() {
        Model::Sgm(model) => *model,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_state_is_that_of_diffusers() {
    let at = tempfile::tempdir().unwrap();
    let want = checkpoints::Checkpoint::open(cases().join("states.safetensors")).unwrap();
    let want = |name: String| want.tensor(&name, &Device::Cpu).unwrap();
    // As many steps as the pipeline was told where that is not what a model does by itself.
    for (name, steps) in [
        ("ddpm", None),
        ("ddpm-few", Some(9)),
        ("ddim", None),
        ("ddim-clip", Some(9)),
        ("ddpm-end", Some(9)),
        ("ddpm-end-learned", Some(9)),
        ("ncsnpp", None),
    ] {
        let model = sgm(&folder(name, at.path()));
        let run = Run::new(model.config(), None, steps).unwrap();
        let mut states: Vec<Tensor> = Vec::new();
        let last = run
            .sample(
                model.network(),
                noise(&format!("{name}.start"), &[1, 3, 8, 8]),
                None,
                &mut |i, x: &Tensor| Ok(noise(&format!("{name}.noise.{i}"), x.dims())),
                &mut |_, x| {
                    states.push(x.clone());
                    Ok(())
                },
            )
            .unwrap();
        let expected = want(format!("{name}.states"));
        assert_eq!(states.len(), expected.dim(0).unwrap(), "{name}");
        let mut worst = 0f64;
        for (i, state) in states.iter().enumerate() {
            worst = worst.max(off(state, &expected.narrow(0, i, 1).unwrap()));
        }
        let unit = match name {
            "ncsnpp" => last,
            _ => last.affine(0.5, 0.5).unwrap(),
        };
        let pictures = off(
            &unit.clamp(0f32, 1f32).unwrap(),
            &want(format!("{name}.pictures")),
        );
        println!(
            "{name:<10} {} states, {worst:.1e}; pictures {pictures:.1e}",
            states.len()
        );
        assert!(
            worst < 1e-3 && pictures < 1e-3,
            "{name}: {worst:e}, {pictures:e}"
        );
    }
}

#[test]
fn a_flat_folder_with_an_old_pickle() {
    let folder = cases().join("flat");
    let model = sgm(&folder);
    let io = checkpoints::Checkpoint::open(folder.join("io.safetensors")).unwrap();
    let x = noise("flat.x", &[1, 3, 8, 8]);
    let t = Tensor::new(&[13f32], &Device::Cpu).unwrap();
    let y = model.network().forward(&x, &t, None).unwrap();
    let apart = off(&y, &io.tensor("y", &Device::Cpu).unwrap());
    assert!(apart < 1e-4, "{apart:e}");
    assert_eq!(
        (
            model.config().sample.sampler.as_str(),
            model.config().sample.steps
        ),
        ("ddpm", 20)
    );
}

#[test]
fn pictures_do_not_depend_on_their_batch() {
    let at = tempfile::tempdir().unwrap();
    for name in ["ddpm", "ncsnpp"] {
        let model = sgm(&folder(name, at.path()));
        for sampler in [None, Some("dpmpp-2m"), Some("ddim")] {
            let options = |batch| SampleOptions {
                pictures: 2..5,
                batch,
                steps: Some(7),
                sampler: sampler.map(String::from),
                ..SampleOptions::default()
            };
            let together = model.sample(&options(3)).unwrap();
            assert!(
                together == model.sample(&options(1)).unwrap(),
                "{name} {sampler:?}"
            );
            assert!(together[0] != together[1], "{name} {sampler:?}");
        }
    }
}

#[test]
fn the_program_samples_from_a_folder_and_describes_it() {
    let at = tempfile::tempdir().unwrap();
    folder("ddpm", at.path());
    folder("ncsnpp", at.path());
    let out = ok(wmgm(
        at.path(),
        ["sample", "--model", "ddpm", "--count", "2", "--seed", "3"],
    ));
    assert!(
        out.contains("seed      3, pictures 0 to 1\n")
            && out.contains("sampler   ddpm, 60 steps: 60 evaluations of the network at 8 x 8\n")
            && out.contains(" ms per picture (2 pictures in ")
            && out.contains("samples.png"),
        "{out}"
    );
    let out = ok(wmgm(
        at.path(),
        [
            "sample", "--model", "ncsnpp", "--count", "2", "--files", "--steps", "5",
        ],
    ));
    assert!(
        out.contains("predictor_corrector, 5 steps: 10 evaluations"),
        "{out}"
    );
    assert_eq!(
        names(&at.path().join("samples")),
        ["000000.png", "000001.png"]
    );
    let info = ok(wmgm(at.path(), ["info", "ncsnpp"]));
    for part in [
        "8 x 8 RGB",
        "UNet2DModel",
        "sigma_max: 348",
        "[0, 1]",
        "predictor_corrector, 40 steps",
    ] {
        assert!(info.contains(part), "no {part:?} in {info}");
    }
    fails(
        wmgm(
            at.path(),
            ["sample", "--model", "ddpm", "--sampler", "magic"],
        ),
        &["\"magic\"", "unipc"],
    );
    fails(
        wmgm(
            at.path(),
            ["sample", "--model", "ncsnpp", "--sampler", "magic"],
        ),
        &["\"magic\"", "predictor_corrector"],
    );
    fails(
        wmgm(at.path(), ["sample", "--model", "ddpm", "--steps", "61"]),
        &["steps is 61"],
    );
    fails(
        wmgm(at.path(), ["sample", "--model", "ddpm", "--class", "1"]),
        &["no classes"],
    );
}

#[test]
fn a_model_of_the_hub_is_taken_from_its_cache_and_nowhere_else() {
    let at = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = at.path().join("hub/models--o--m");
    let ready = folder("ddpm", at.path());
    let snapshot = repository.join("snapshots").join(commit);
    std::fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    std::fs::rename(ready, &snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), commit).unwrap();
    let run = |args: &[&str]| {
        let mut command = wmgm(at.path(), args);
        // Where nothing listens: a request would fail.
        command
            .env("HF_HOME", at.path())
            .env("HF_ENDPOINT", "http://127.0.0.1:9");
        command
    };
    let out = ok(run(&[
        "sample", "--model", "o/m", "--count", "1", "--steps", "3",
    ]));
    assert!(out.contains("ddpm, 3 steps"), "{out}");
    assert!(ok(run(&["info", "o/m"])).contains("UNet2DModel"));
    fails(
        run(&["sample", "--model", "o/other", "--count", "1"]),
        &["o/other", "--fetch downloads it", "fetch-weights o/other"],
    );
    fails(run(&["sample", "--fetch"]), &["--model"]);
}

#[test]
fn what_is_no_such_model_is_told() {
    let at = tempfile::tempdir().unwrap();
    let change = |file: &str, from: &str, to: &str, expected: &[&str]| {
        let folder = folder("ddpm", at.path());
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        fails(wmgm(at.path(), ["sample", "--model", "ddpm"]), expected);
        std::fs::remove_dir_all(folder).unwrap();
    };
    let scheduler = "scheduler/scheduler_config.json";
    change(
        scheduler,
        "\"DDPMScheduler\"",
        "\"PNDMScheduler\"",
        &["PNDMScheduler", "known are DDPMScheduler"],
    );
    change(scheduler, "\"epsilon\"", "\"noise\"", &["\"noise\"", "v"]);
    change(
        scheduler,
        "\"fixed_large\"",
        "\"learned\"",
        &["learned", "scheduler_config.json"],
    );
    change(
        "unet/config.json",
        "\"UNet2DModel\"",
        "\"UNet2DConditionModel\"",
        &["UNet2DConditionModel"],
    );
    change(
        "unet/config.json",
        "\"layers_per_block\": 1",
        "\"layers_per_block\": 2",
        &["missing", "down_blocks.0.resnets.1"],
    );
    change("model_index.json", "\"unet\"", "\"vqvae\"", &["vqvae"]);
    change(scheduler, "60", "60000000000", &["num_train_timesteps"]);
}

#[test]
fn reading_counts_every_tensor() {
    let at = tempfile::tempdir().unwrap();
    let folder = folder("ddpm", at.path());
    let weights = folder.join("unet/diffusion_pytorch_model.safetensors");
    let file = checkpoints::Checkpoint::open(&weights).unwrap();
    let mut tensors: HashMap<String, Tensor> = file.tensors(&Device::Cpu).unwrap();
    drop(file);
    let bias = tensors.remove("conv_in.bias").unwrap();
    tensors.insert("conv_out.scale".into(), bias);
    let wrong = Tensor::zeros((5, 7), candle_core::DType::F32, &Device::Cpu).unwrap();
    tensors.insert("time_embedding.linear_1.weight".into(), wrong);
    safetensors::write(&weights, tensors, None, None).unwrap();
    let error = read(&folder, &ReadOptions::default())
        .unwrap_err()
        .to_string();
    for part in [
        "1 missing: conv_in.bias",
        "1 belong to no layer: conv_out.scale",
        "1 of another shape: time_embedding.linear_1.weight [5, 7] for [32, 8]",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(matches!(
        read(&cases().join("flat"), &ReadOptions::default())
            .unwrap()
            .model,
        ImportedModel::Sgm(_)
    ));
}
