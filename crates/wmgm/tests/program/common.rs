//! Tiny models, pictures, and the program as a child process.

use nn_ops::{Params, noise};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{Device, Tensor};
use gen_metrics::net::EfficientNetLite0;
use msal_gan::DetailGenerator;
use score_sde::UNet;
use wmgm::bands::{BandStats, LevelStats};
use wmgm::bundle::{self, BundleConfig, Precision, Provenance};
use wmgm::config::TrainConfig;
use wmgm::picture::RgbImage;

/// A model of 32 x 32 pictures that trains hundreds of steps a second.
pub const TINY: &str = r#"
name = "tiny"
seed = 5
size = 32
levels = 2
licence = "CC0"
attribution = "nobody"
[low]
fold = 1
[low.unet]
in_channels = 12
out_channels = 12
model_channels = 32
num_res_blocks = 1
channel_mult = [1]
attention_resolutions = []
num_heads = 2
dropout = 0.1
[low.optim]
steps = 30
batch = 4
lr = 1e-3
ema = 0.9
[high]
discriminator_lr = 1e-3
l1 = 1.0
crop = 8
[high.generator]
channels = 3
levels = 2
noise_channels = 2
widths = [8, 16]
blocks = 1
[high.discriminator]
channels = 3
levels = 2
widths = [8, 8, 8]
[high.optim]
steps = 30
batch = 3
lr = 1e-3
ema = 0.9
[sample]
sampler = "dpmpp-2m"
steps = 4
[report]
log_every = 5
checkpoint_every = 7
preview_every = 15
"#;

/// The tiny configuration with some text replaced, which must occur.
pub fn tiny_with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(TINY.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the configuration");
        text.replacen(from, to, 1)
    })
}

/// The shape of the model that is shipped.
pub fn shipped() -> TrainConfig {
    TrainConfig::read(&repository().join("assets/configs/afhq-cat-128.toml")).unwrap()
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Writes a bundle of this shape whose weights are noise, none of them zero: what zero weights give depends on nothing.
pub fn write_bundle(folder: &Path, config: &TrainConfig) {
    let band = |mean: f64, std: f64| BandStats {
        mean,
        std,
        kurtosis: 3.0,
    };
    let bands = (1..=config.levels)
        .map(|level| LevelStats {
            low: band(-0.1, 0.25 * f64::from(1 << level)),
            high: [0.04, 0.05, 0.03].map(|std| band(0.0, std)),
        })
        .collect();
    let provenance = Provenance {
        seed: config.seed,
        pictures: 11,
        data_fingerprint: "0123456789abcdef".into(),
        low_steps: 12,
        low_batch: 13,
        high_steps: 14,
        high_batch: 15,
        init: None,
    };
    let (score, generator) = (Params::new(1), Params::new(2));
    UNet::new(config.low.unet.clone(), score.builder(&Device::Cpu)).unwrap();
    DetailGenerator::new(
        config.high.generator.clone(),
        generator.builder(&Device::Cpu),
    )
    .unwrap();
    bundle::write(
        folder,
        &BundleConfig::new(config, bands, provenance),
        noisy(&score),
        noisy(&generator),
        Precision::F16,
    )
    .unwrap();
}

fn noisy(params: &Params) -> HashMap<String, Tensor> {
    noisy_by_name(params, |_, v| v)
}

/// Noise for every parameter, changed by `change` with its name.
pub fn noisy_by_name(
    params: &Params,
    change: impl Fn(&str, f32) -> f32,
) -> HashMap<String, Tensor> {
    let fill = |(i, (name, var)): (usize, (String, candle_core::Var))| {
        let dims = var.dims();
        let fan_in: usize = dims[1..].iter().product();
        let (mean, std) = match dims.len() {
            1 if name.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.1),
            _ => (0.0, 1.0 / (fan_in as f32).sqrt()),
        };
        let mut values = vec![0f32; var.elem_count()];
        noise::fill_normal(3, i as u64, 0, 0, &mut values);
        values
            .iter_mut()
            .for_each(|v| *v = change(&name, mean + std * *v));
        (
            name,
            Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap(),
        )
    };
    params.named().into_iter().enumerate().map(fill).collect()
}

/// A folder with the tiny bundle in `bundle`.
pub fn tiny_bundle() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(
        &folder.path().join("bundle"),
        &toml::from_str(TINY).unwrap(),
    );
    folder
}

/// A smooth picture that differs with `seed`.
pub fn patterned(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave =
            |k: u32| (((x * k + y * (seed % 7 + 1)) as f32 / 9.0).sin() * 50.0 + 128.0) as u8;
        image::Rgb([wave(1), wave(2 + seed % 3), wave(3 + seed % 5)])
    })
}

/// A folder `pictures` of so many small pictures.
pub fn write_pictures(folder: &Path, count: u32) -> PathBuf {
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    for i in 0..count {
        let picture = patterned(i, 32 + i % 5, 32 + i % 3);
        picture.save(pictures.join(format!("{i:03}.png"))).unwrap();
    }
    pictures
}

/// The program with arguments, to be run in `folder`.
pub fn wmgm<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wmgm"));
    command.args(args).current_dir(folder);
    command
}

/// The program under the shell's `ulimit`s, with signals of overstepping them ignored.
#[cfg(unix)]
pub fn limited<S: AsRef<OsStr>>(
    folder: &Path,
    limits: &str,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit {limits} || exit 77; exec \"$@\"");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_wmgm")])
        .args(args)
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(folder);
    command
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed; its standard output.
pub fn ok(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail as promised: exit code 2, an `error:` that holds `expected`, nothing of a panic.
#[track_caller]
pub fn fails(mut command: Command, expected: &[&str]) {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {text}");
    assert!(
        text.contains("error: ")
            && !text.contains("panicked")
            && !text.contains("fault in the program"),
        "{command:?}: {text}"
    );
    for part in expected {
        assert!(text.contains(part), "{command:?}: no {part:?} in: {text}");
    }
}

/// Names in a folder, hidden ones included, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every file of a folder (not of those below) by name.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let path = folder.join(&name);
        path.is_file().then(|| (name, std::fs::read(path).unwrap()))
    };
    names(folder).into_iter().filter_map(read).collect()
}

/// EfficientNet-Lite0 with weights of noise, where the program looks for it with `XDG_CACHE_HOME` at `cache`.
pub fn write_weights(folder: &Path) -> PathBuf {
    let params = Params::new(1);
    EfficientNetLite0::new(params.builder(&Device::Cpu)).unwrap();
    let at = folder.join("cache/wmgm/metrics");
    std::fs::create_dir_all(&at).unwrap();
    let tensors = noisy_by_name(&params, |name, v| match name.ends_with("running_var") {
        true => 1.0 + v.abs(),
        false => v,
    });
    let file = at.join("efficientnet-lite0.safetensors");
    checkpoints::safetensors::write(&file, tensors, None, None).unwrap();
    file
}
