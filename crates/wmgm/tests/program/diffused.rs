//! The baselines, a diffusion on pixels (sgm) and one of every band (wsgm): trained, resumed, sampled, described.

use super::common::{contents, fails, names, ok, wmgm, write_pictures};
use super::train::metrics;
use std::fs;
use std::path::Path;
use std::process::Command;
use wmgm::pipeline::Cost;
use wmgm::{Model, Pipeline, SampleOptions};

const SGM: &str = r#"
kind = "sgm"
name = "tiny-sgm"
seed = 5
size = 32
[low]
fold = 1
[low.unet]
in_channels = 12
out_channels = 12
model_channels = 32
num_res_blocks = 1
channel_mult = [1, 1]
attention_resolutions = [2]
num_heads = 2
dropout = 0.1
[low.optim]
steps = 20
batch = 4
lr = 1e-3
ema = 0.9
[sample]
sampler = "heun"
steps = 3
[report]
log_every = 5
checkpoint_every = 7
preview_every = 10
"#;

/// Both levels of details and the low band, each with a network of its own.
fn wsgm() -> String {
    let unet = |inputs: usize, outputs: usize| {
        format!(
            "in_channels = {inputs}\nout_channels = {outputs}\nmodel_channels = 32\nnum_res_blocks = 1\n\
             channel_mult = [1]\nattention_resolutions = []\nnum_heads = 1\ndropout = 0.1\n"
        )
    };
    let optim = "steps = 12\nbatch = 3\nlr = 1e-3\nema = 0.9\n";
    format!(
        "kind = \"wsgm\"\nname = \"tiny-wsgm\"\nseed = 6\nsize = 32\nlevels = 2\n\
         [low.unet]\n{}[low.optim]\n{optim}\
         [[details]]\nfold = 1\n[details.unet]\n{}[details.optim]\n{optim}\
         [[details]]\n[details.unet]\n{}[details.optim]\n{optim}\
         [sample]\nsampler = \"dpmpp-2m\"\nsteps = 2\n\
         [report]\nlog_every = 4\ncheckpoint_every = 5\npreview_every = 12\n",
        unet(3, 3),
        unet(48, 36),
        unet(12, 9)
    )
}

fn train(at: &Path, out: &str, args: &[&str]) -> Command {
    let mut command = wmgm(
        at,
        ["train", "config.toml", "--data", "pictures", "--out", out],
    );
    command.args(args);
    command
}

fn started(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_pictures(folder.path(), 5);
    fs::write(folder.path().join("config.toml"), config).unwrap();
    folder
}

/// Trains in one go and in parts: the same bits.
fn resumes(at: &Path, parts: &[&[&str]], stages: &[&str]) {
    ok(train(at, "run", &[]));
    for part in parts {
        ok(train(at, "parts", part));
    }
    assert_eq!(names(&at.join("run")), names(&at.join("parts")));
    for folder in ["", "bundle"] {
        let (once, parts) = (at.join("run").join(folder), at.join("parts").join(folder));
        for ((name, a), (_, b)) in contents(&once).iter().zip(contents(&parts)) {
            assert!(
                name.ends_with(".metrics.jsonl") || *a == b,
                "{name} differs"
            );
        }
    }
    for stage in stages {
        assert_eq!(
            metrics(&at.join("run"), stage),
            metrics(&at.join("parts"), stage)
        );
    }
}

/// Pictures do not depend on their company, and both runs' bundles make the same.
fn samples(at: &Path, args: &[&str]) {
    let sample = |out: &str, more: &[&str]| {
        let mut command = wmgm(
            at,
            ["sample", "--model", "run/bundle", "--files", "--out", out],
        );
        command.args(args).args(more);
        ok(command)
    };
    let told = sample("all", &["--count", "5", "--batch", "5"]);
    assert!(told.contains("evaluations of the networks"), "{told}");
    sample("part", &["--count", "5", "--batch", "2"]);
    assert!(contents(&at.join("all")) == contents(&at.join("part")));
    let all = contents(&at.join("all"));
    assert!(all.len() == 5 && all[0].1 != all[1].1);
}

fn cost(at: &Path, sampler: &str, steps: usize) -> Cost {
    let model = Model::open(&at.join("run/bundle"), &candle_core::Device::Cpu).unwrap();
    let options = SampleOptions {
        sampler: Some(sampler.into()),
        steps: Some(steps),
        ..SampleOptions::default()
    };
    model.cost(&options).unwrap().unwrap()
}

#[test]
fn a_diffusion_on_pixels() {
    let folder = started(SGM);
    let at = folder.path();
    let short = SGM.replace("steps = 20", "steps = 10");
    fs::write(at.join("short.toml"), short).unwrap();
    let mut first = wmgm(
        at,
        [
            "train",
            "short.toml",
            "--data",
            "pictures",
            "--out",
            "parts",
        ],
    );
    first.args(["--stage", "low"]);
    ok(first);
    resumes(at, &[&["--resume"]], &[]);
    assert_eq!(metrics(&at.join("run"), "low").len(), 4);
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    for part in [
        "tiny-sgm",
        "32 x 32 pixels: U-Net of 32 channels",
        "works at 16 x 16 on 12 channels",
        "20 steps of 4",
        "5 pictures (fingerprint",
        "heun, 3 steps",
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    samples(at, &[]);
    samples(at, &["--sampler", "unipc", "--steps", "2"]);
    samples(at, &["--sampler", "euler-ancestral", "--steps", "2"]);
    let (one, three) = (cost(at, "euler", 1), cost(at, "heun", 2));
    assert_eq!((one.passes, three.passes), (1, 3));
    assert_eq!(three.multiply_adds, 3 * one.multiply_adds);

    // How they come about: noisy pictures, a frame for each step, ending at the very pictures.
    let model = Model::open(&at.join("run/bundle"), &candle_core::Device::Cpu).unwrap();
    let options = SampleOptions {
        pictures: 0..3,
        steps: Some(5),
        ..SampleOptions::default()
    };
    let watch = |_| std::ops::ControlFlow::Continue(());
    let rows = model.trajectory(&options, &watch).unwrap();
    let pictures = model.sample(&options).unwrap();
    for (row, picture) in rows.iter().zip(&pictures) {
        assert!(row.len() == 5 && row.last() == Some(picture) && row[0] != row[3]);
    }

    // Half the bytes, and a new beginning from it.
    ok(wmgm(at, ["bundle", "run", "--out", "small"]));
    ok(train(at, "again", &["--init", "small"]));
    let info = ok(wmgm(at, ["info", "again/bundle"]));
    assert!(
        info.contains("started from tiny-sgm (score: 20 steps"),
        "{info}"
    );
    fails(
        train(at, "none", &["--stage", "high"]),
        &["has one network"],
    );
    let other = SGM.replace("fold = 1", "fold = 0").replace("= 12", "= 3");
    fs::write(at.join("config.toml"), other).unwrap();
    fails(
        train(at, "other", &["--init", "small"]),
        &["has fold [1], the configuration [0]"],
    );
    fails(train(at, "run", &["--resume"]), &["begun with low."]);
    fs::write(at.join("config.toml"), wsgm()).unwrap();
    fails(
        train(at, "run", &["--resume"]),
        &["begun with kind = \"sgm\""],
    );
    fs::write(at.join("config.toml"), super::common::TINY).unwrap();
    fails(
        train(at, "run", &["--resume"]),
        &["begun with kind = \"sgm\""],
    );
}

#[test]
fn channels_of_pixels_are_preconditioned_each_by_itself() {
    let each = SGM.replace("fold = 1", "fold = 1\nby_channel = true");
    let folder = started(&each);
    let at = folder.path();
    let short = each.replace("steps = 20", "steps = 10");
    fs::write(at.join("config.toml"), short).unwrap();
    ok(train(at, "parts", &[]));
    fs::write(at.join("config.toml"), &each).unwrap();
    resumes(at, &[&["--resume"]], &[]);
    samples(at, &[]);
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    assert!(info.contains("preconditioning of each channel"), "{info}");

    // LL of three colours, then LH, HL and HH. All is orthonormal: their squares add up to those of standardised pixels.
    let path = at.join("run/bundle/config.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let channels = good["low"]["channels"].as_array().unwrap();
    let channels: Vec<f64> = channels.iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(channels.len(), 12);
    let mean = channels.iter().map(|v| v * v).sum::<f64>() / 12.0;
    assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    assert!(
        channels[3..].iter().all(|v| *v < channels[0]),
        "{channels:?}"
    );
    fs::write(at.join("config.toml"), SGM).unwrap();
    fails(
        train(at, "again", &["--init", "run/bundle"]),
        &["has by_channel true, the configuration false"],
    );
    fails(
        train(at, "run", &["--resume"]),
        &["begun with low.by_channel = true"],
    );
    for (value, expected) in [
        (serde_json::json!([1.0, 2.0]), "2 deviations for 12"),
        (serde_json::json!(vec![0.0; 12]), "0 in channel 0"),
    ] {
        let mut changed = good.clone();
        changed["low"]["channels"] = value;
        fs::write(&path, changed.to_string()).unwrap();
        fails(wmgm(at, ["info", "run/bundle"]), &["low", expected]);
    }
}

#[test]
fn a_diffusion_of_every_band() {
    let folder = started(&wsgm());
    let at = folder.path();
    resumes(
        at,
        &[&["--stage", "high"], &["--stage", "low", "--resume"]],
        &["low", "level1", "level2"],
    );
    let files = names(&at.join("run"));
    for stage in ["low", "level2", "level1"] {
        for file in ["-0000012.png", ".checkpoint.safetensors"] {
            assert!(files.contains(&format!("{stage}{file}")), "{files:?}");
        }
    }
    let info = ok(wmgm(at, ["info", "run/bundle"]));
    for part in [
        "haar, 2 levels",
        "8 x 8 low band: U-Net",
        "8 x 8 details of level 2: U-Net",
        "16 x 16 details of level 1: U-Net",
        "works at 8 x 8 on 48 channels (folded 1 times)",
        "level 2 HH",
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    samples(at, &[]);
    samples(at, &["--steps", "1", "--sampler", "deis"]);
    assert_eq!(cost(at, "dpmpp-2m", 4).passes, 12);
    ok(wmgm(at, ["bundle", "run", "--out", "small"]));
    ok(train(at, "again", &["--init", "small"]));
    // Lengths are free, networks are not.
    let longer = wsgm().replace("steps = 12", "steps = 14");
    fs::write(at.join("config.toml"), longer).unwrap();
    ok(train(at, "run", &["--resume"]));
    let wider = wsgm().replacen("[[details]]\nfold = 1", "[[details]]\nfold = 2", 1);
    let wider = wider.replace("= 48", "= 192").replace("= 36", "= 144");
    fs::write(at.join("config.toml"), wider).unwrap();
    fails(
        train(at, "run", &["--resume"]),
        &["begun with details.1.fold = 1"],
    );
}

#[test]
fn configurations_of_baselines_that_cannot_be_used_are_refused() {
    let folder = started(SGM);
    let at = folder.path();
    for (config, expected) in [
        (
            SGM.replace("size = 32", "size = 32\nlevels = 1"),
            "leave out levels",
        ),
        (SGM.replace("\"sgm\"", "\"cats\""), "kind"),
        (
            SGM.replace("\"sgm\"", "\"network\""),
            "cannot be trained alone",
        ),
        (SGM.replace("\"sgm\"", "\"wsgm\""), "levels is 0"),
        (SGM.replace("steps = 3", "steps = 0"), "sample: steps is 0"),
        (
            SGM.replace("\"heun\"", "\"magic\""),
            "unknown sampler \"magic\"",
        ),
        (
            SGM.replace("fold = 1", "fold = 0"),
            "low.unet: in_channels is 12",
        ),
        (
            SGM.replace("ema = 0.9", "ema = 1.5"),
            "low.optim.ema is 1.5",
        ),
        (
            wsgm().replacen("[low.unet]", "[low]\nby_channel = true\n[low.unet]", 1),
            "low.by_channel is for kind sgm",
        ),
        (
            SGM.replace(
                "fold = 1",
                "fold = 1\nby_channel = true\n[low.guide]\nweight = 2",
            ),
            "low.by_channel: a network that is taught",
        ),
        (
            super::common::TINY.replacen("[low]", "[low]\nby_channel = true", 1),
            "low.by_channel is for kind sgm",
        ),
        (
            wsgm().replace("levels = 2", "levels = 3"),
            "details has 2 entries, but levels is 3",
        ),
        (
            wsgm().replace("in_channels = 48", "in_channels = 12"),
            "details[0].unet: in_channels is 12",
        ),
        (
            wsgm().replace("levels = 2", "levels = 2\nwavelet = \"cats\""),
            "wavelet: ",
        ),
    ] {
        fs::write(at.join("config.toml"), config).unwrap();
        fails(train(at, "run", &[]), &["config.toml", expected]);
    }
    assert_eq!(names(at), ["config.toml", "pictures"]);
}

#[test]
fn damaged_bundles_of_baselines_are_named() {
    let folder = started(&wsgm());
    let at = folder.path();
    ok(train(at, "run", &[]));
    let path = at.join("run/bundle/config.json");
    let good = fs::read_to_string(&path).unwrap();
    let config: serde_json::Value = serde_json::from_str(&good).unwrap();
    for (pointer, value, expected) in [
        ("/format", serde_json::json!(2), "format 2"),
        ("/kind", serde_json::json!("sgm"), "kind is Sgm"),
        (
            "/levels",
            serde_json::json!(1),
            "bands has 2 entries, but levels is 1",
        ),
        ("/size", serde_json::json!(34), "does not divide"),
        (
            "/details/0/fold",
            serde_json::json!(0),
            "level1: in_channels is 48",
        ),
        (
            "/low/unet/model_channels",
            serde_json::json!(64),
            "score.safetensors",
        ),
        (
            "/bands/1/high/0/std",
            serde_json::json!(0.0),
            "bands[1]: the band LH",
        ),
        (
            "/low/edm/sigma_max",
            serde_json::json!(-1.0),
            "low.sigma_max",
        ),
        ("/sample/steps", serde_json::json!(0), "steps is 0"),
        ("/wavelet", serde_json::json!("cats"), "cats"),
    ] {
        let mut changed = config.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        fs::write(&path, changed.to_string()).unwrap();
        fails(wmgm(at, ["info", "run/bundle"]), &["run/bundle", expected]);
    }
    fs::write(&path, good).unwrap();
    let weights = at.join("run/bundle/score.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fails(
        wmgm(at, ["sample", "--model", "run/bundle"]),
        &["score.safetensors"],
    );
}
