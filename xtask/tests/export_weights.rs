//! `cargo xtask export-weights` as a program, and what its errors say.

use candle_core::{Device, Tensor};
use checkpoints::safetensors;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use wmgm::wsgm::{Cascade, CascadeConfig, DetailStats};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs it: exit code, standard output, standard error.
fn export(at: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let done = command
        .arg("export-weights")
        .args(args)
        .current_dir(at)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_folder_of_diffusers_there_and_back() {
    let at = tempfile::tempdir().unwrap();
    let flat = repository().join("crates/wmgm/tests/cases/diffusers/flat");
    let flat = flat.to_str().unwrap();
    let (code, out, err) = export(at.path(), &[flat, "--out", "model", "--licence", "CC0"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in [
        "UNet2DModel",
        "all in use\n",
        "written   model\n",
        "sample    wmgm sample --model model\n",
    ] {
        assert!(out.contains(part), "{out}");
    }
    let config = std::fs::read_to_string(at.path().join("model/config.json")).unwrap();
    assert!(
        config.contains("\"CC0\"") && config.contains("exported from flat"),
        "{config}"
    );
    // A bundle is replaced, a folder of something else is not.
    assert_eq!(
        export(at.path(), &[flat, "--out", "model", "--dtype", "bf16"]).0,
        Some(0)
    );
    std::fs::create_dir(at.path().join("other")).unwrap();
    std::fs::write(at.path().join("other/notes.txt"), "mine").unwrap();
    let (code, _, err) = export(at.path(), &[flat, "--out", "other"]);
    assert!(code == Some(2) && err.contains("will not replace"), "{err}");

    let (code, _, err) = export(at.path(), &["model", "--out", "back", "--to", "diffusers"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for file in [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
    ] {
        assert!(at.path().join("back").join(file).is_file(), "{file}");
    }
    let (code, out, _) = export(
        at.path(),
        &["back", "--out", "plain.safetensors", "--to", "safetensors"],
    );
    assert!(code == Some(0) && !out.contains("wmgm sample"), "{out}");
}

#[test]
fn an_official_pair_is_made_of_two_files() {
    let at = tempfile::tempdir().unwrap();
    let flat = repository().join("crates/wmgm/tests/cases/diffusers/flat");
    let generator = repository().join("crates/msal-gan/tests/cases/wmgm-generator/weights.pth");
    let (flat, generator) = (flat.to_str().unwrap(), generator.to_str().unwrap());
    assert_eq!(export(at.path(), &[flat, "--out", "low"]).0, Some(0));
    // The generator halves four times, these low bands have 8 pixels a side.
    let (code, _, err) = export(at.path(), &[generator, "--low", "low", "--out", "pair"]);
    assert!(
        code == Some(2) && err.contains("does not divide by 16"),
        "{err}"
    );
    let (code, out, _) = export(at.path(), &[generator, "--out", "generator"]);
    assert!(
        code == Some(0) && out.contains("OfficialGenerator") && !out.contains("wmgm sample"),
        "{out}"
    );
    let (code, _, err) = export(at.path(), &[flat, "--low", "low", "--out", "pair"]);
    assert!(
        code == Some(2) && err.contains("for an official generator"),
        "{err}"
    );
}

/// A cascade's checkpoint, its configuration beside it: the first of wmgm's small cases, with random parameters.
fn cascade(at: &Path) {
    let cases = repository().join("crates/wmgm/tests/cases/wsgm.json");
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(cases).unwrap()).unwrap();
    let text = cases[0]["config"].to_string();
    let config: CascadeConfig = serde_json::from_str(&text).unwrap();
    std::fs::write(at.join("cascade.json"), text).unwrap();
    let row = 3 * config.num_channels;
    let stats = DetailStats {
        mean: vec![0.01; row],
        var: vec![0.02; row],
        min: vec![-0.3; row],
        max: vec![0.3; row],
    };
    let params = nn_ops::Params::new(1);
    let all = vec![stats.clone(); config.levels.len()];
    Cascade::create(config.clone(), all, params.builder(&Device::Cpu)).unwrap();
    let named = params.named().into_iter();
    let mut tensors: HashMap<String, Tensor> =
        named.map(|(n, var)| (n, var.as_tensor().clone())).collect();
    for level in 0..config.levels.len() {
        for (last, values) in [
            ("mean", &stats.mean),
            ("var", &stats.var),
            ("min", &stats.min),
            ("max", &stats.max),
        ] {
            let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            let values = Tensor::from_vec(values, (1, row, 1, 1), &Device::Cpu).unwrap();
            tensors.insert(format!("wds.{level}.transform.details_{last}"), values);
        }
    }
    safetensors::write(&at.join("cascade.safetensors"), tensors, None, None).unwrap();
}

#[test]
fn a_cascade_becomes_a_model_that_the_program_describes_and_samples_from() {
    let at = tempfile::tempdir().unwrap();
    cascade(at.path());
    let args = ["cascade.safetensors", "--out", "model"];
    let (code, _, err) = export(at.path(), &args);
    assert!(code == Some(2) && err.contains("--config FILE"), "{err}");
    let args = [&args[..], &["--config", "cascade.json", "--licence", "CC0"]].concat();
    let (code, out, err) = export(at.path(), &args);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.contains("sample    wmgm sample --model model\n"),
        "{out}"
    );

    // The program stands beside this one: `cargo test --workspace` builds both.
    let wmgm = Path::new(env!("CARGO_BIN_EXE_xtask"));
    let wmgm = wmgm.with_file_name(format!("wmgm{}", std::env::consts::EXE_SUFFIX));
    if !wmgm.is_file() {
        eprintln!("no {}: skipped", wmgm.display());
        return;
    }
    let run = |args: &[&str]| {
        let mut command = Command::new(&wmgm);
        let done = command.args(args).current_dir(at.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(done.status.success(), "{args:?}: {}", text(done.stderr));
        text(done.stdout)
    };
    let info = run(&["info", "model"]);
    for part in ["16 x 16", "CC0", "cascade.safetensors"] {
        assert!(info.contains(part), "no {part:?} in {info}");
    }
    let sample = ["sample", "--model", "model", "--files", "--seed", "7"];
    let sample = [&sample[..], &["--count", "2"]].concat();
    run(&[&sample[..], &["--out", "two"]].concat());
    run(&[&sample[..], &["--out", "one", "--shard", "2/2"]].concat());
    let read = |name: &str| image::open(at.path().join(name)).unwrap().into_rgb8();
    let (first, second) = (read("two/000000.png"), read("two/000001.png"));
    assert_eq!(first.dimensions(), (16, 16));
    assert!(first != second && second == read("one/000001.png"));
}

#[test]
fn bad_input_is_told_and_writes_nothing() {
    let at = tempfile::tempdir().unwrap();
    let cases = repository().join("crates");
    let generator = cases.join("msal-gan/tests/cases/wmgm-generator/weights.pth");
    let bytes = std::fs::read(&generator).unwrap();
    std::fs::write(at.path().join("cut.pth"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(at.path().join("text.pth"), "not a checkpoint at all").unwrap();
    std::fs::write(at.path().join("bad.json"), "{").unwrap();
    let mixed = cases.join("checkpoints/tests/cases/mixed.safetensors");
    let opaque = cases.join("checkpoints/tests/cases/opaque.pth");
    let flat = cases.join("wmgm/tests/cases/diffusers/flat");
    let path = |p: &Path| p.to_str().unwrap().to_owned();
    let (generator, mixed) = (path(&generator), path(&mixed));
    let (opaque, flat) = (path(&opaque), path(&flat));
    for (args, expected) in [
        (vec!["nowhere.pth"], "nowhere.pth"),
        (vec!["cut.pth"], "cut.pth"),
        (vec!["text.pth"], "torch.save"),
        (vec![&opaque], "nothing was run"),
        (vec![&mixed], "no network known here"),
        (
            vec![&generator, "--format", "improved-diffusion"],
            "not what --format improved-diffusion says",
        ),
        (
            vec![&generator, "--format", "safetensors"],
            "not what --format safetensors says",
        ),
        (
            vec![&generator, "--format", "onnx"],
            "known are auto, wmgm-official",
        ),
        (vec![&generator, "--config", "bad.json"], "bad.json"),
        (
            vec![&generator, "--to", "diffusers"],
            "no network of diffusers",
        ),
        (vec![&generator, "--dtype", "f8"], "f8"),
        (vec![&generator, "--levels", "3"], "--low"),
        (
            vec![&flat, "--format", "wmgm-official"],
            "a folder of diffusers",
        ),
    ] {
        let mut args: Vec<&str> = args.clone();
        args.extend(["--out", "out"]);
        let (code, _, err) = export(at.path(), &args);
        assert!(
            code == Some(2) && err.contains("error: ") && err.contains(expected),
            "{args:?}: {err}"
        );
        assert!(!err.contains("panicked"), "{err}");
        assert!(!at.path().join("out").exists(), "{args:?}");
    }
}
