//! Where to compute and in what, as the program's user meets it; in builds for a GPU these run where there is none.

use super::common::{TINY, fails, ok, stderr, tiny_bundle, tiny_with, wmgm, write_pictures};
use std::fs;
use std::path::Path;
use std::process::Command;

fn sample(at: &Path, args: &[&str]) -> Command {
    let mut command = wmgm(at, ["sample", "--model", "bundle", "--count", "4"]);
    command.args(args);
    command
}

fn pixels(path: &Path) -> Vec<u8> {
    image::open(path).unwrap().into_rgb8().into_raw()
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
    let folder = tiny_bundle();
    let at = folder.path();
    if !cfg!(feature = "cuda") {
        fails(
            sample(at, &["--device", "cuda"]),
            &[
                "--device cuda:0",
                "built without CUDA",
                "--features cuda,cudnn",
                "--device cpu",
            ],
        );
    }
    // No machine has as many.
    fails(sample(at, &["--device", "cuda:99"]), &["--device cuda:99"]);
    for wrong in ["cuda:", "cuda:x", "cuda:-1", "gpu"] {
        fails(
            sample(at, &["--device", wrong]),
            &["auto, cpu, cuda, cuda:N, metal"],
        );
    }
    fs::write(at.join("config.toml"), TINY).unwrap();
    write_pictures(at, 4);
    let train = ["train", "config.toml", "--data", "pictures", "--out", "run"];
    let mut command = wmgm(at, train);
    command.args(["--device", "cuda:99"]);
    fails(command, &["--device cuda:99"]);
    assert!(!at.join("run").exists() && !at.join("samples.png").exists());
}

#[test]
fn auto_takes_the_cpu_aloud_only_where_the_program_could_do_more() {
    let folder = tiny_bundle();
    let output = sample(folder.path(), &[]).output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let notes = text.matches("note: using the CPU: ").count();
    if !cfg!(any(feature = "cuda", feature = "metal")) {
        assert_eq!(notes, 0, "{text}");
    }
    assert!(notes <= 1 && !text.contains("panicked"), "{text}");
}

#[test]
fn pictures_in_half_the_bits_are_nearly_the_same() {
    let folder = tiny_bundle();
    let at = folder.path();
    ok(sample(at, &["--device", "cpu", "--out", "f32.png"]));
    let exact = pixels(&at.join("f32.png"));
    for (dtype, most) in [("bf16", 6.0), ("f16", 1.0)] {
        let name = format!("{dtype}.png");
        ok(sample(
            at,
            &["--device", "cpu", "--dtype", dtype, "--out", &name],
        ));
        let rounded = pixels(&at.join(name));
        assert_eq!(rounded.len(), exact.len());
        let off = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b));
        let mean = exact.iter().zip(&rounded).map(off).sum::<f64>() / exact.len() as f64;
        assert!(
            mean > 0.0 && mean < most,
            "{dtype}: {mean} of 255 on average"
        );
    }
    fails(
        sample(at, &["--device", "cpu", "--dtype", "tf32"]),
        &["--dtype tf32", "not a CUDA device"],
    );
    fails(sample(at, &["--dtype", "fp16"]), &["f32, tf32, bf16, f16"]);
}

#[test]
fn training_in_bf16_learns_and_f16_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 12);
    let run = |precision: &str, out: &str| {
        let text = tiny_with(&[(
            "size = 32",
            &format!("size = 32\nprecision = {precision:?}"),
        )]);
        fs::write(at.join("config.toml"), text).unwrap();
        let args = [
            "train",
            "config.toml",
            "--data",
            "pictures",
            "--device",
            "cpu",
            "--out",
        ];
        let mut command = wmgm(at, args);
        command.arg(out);
        command
    };
    let losses = |out: &str, stage| -> Vec<f64> {
        let lines = super::train::metrics(&at.join(out), stage);
        let name = if stage == "low" { "loss" } else { "l1" };
        lines.iter().map(|l| l[name].as_f64().unwrap()).collect()
    };
    ok(run("f32", "exact"));
    ok(run("bf16", "half"));
    for stage in ["low", "high"] {
        let (exact, half) = (losses("exact", stage), losses("half", stage));
        assert_eq!(exact.len(), half.len());
        assert_ne!(exact, half, "{stage}: bf16 computes as f32 does");
        for (a, b) in exact.iter().zip(&half) {
            assert!(
                (a - b).abs() <= 0.05 * a.abs(),
                "{stage}: {exact:?} and {half:?}"
            );
        }
    }
    for (precision, reason) in [
        ("f16", "gradients would vanish"),
        ("fp32", "not one of f32, tf32, bf16"),
        ("tf32", "CUDA"),
    ] {
        fails(run(precision, "refused"), &["precision", reason]);
    }
}
