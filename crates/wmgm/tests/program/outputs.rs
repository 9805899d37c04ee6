//! Bad arguments, places that cannot be written, full disks, readers who have gone.

use super::common::{fails, names, ok, tiny_bundle, wmgm};
use std::fs::{self, File};
use std::process::{Command, Stdio};

#[test]
fn bad_arguments_are_named() {
    let folder = tiny_bundle();
    let at = folder.path();
    let sample = |args: &[&str]| {
        let mut command = wmgm(at, ["sample", "--model", "bundle"]);
        command.args(args);
        command
    };
    for (args, expected) in [
        (&["--count", "0"][..], "--count"),
        (&["--count", "-1"], "-1"),
        (&["--count", "99999999999999999999"], "--count"),
        (&["--count", "999999999999"], "too many for one sheet"),
        (&["--seed", "x"], "--seed"),
        (&["--steps", "1"], "steps is 1"),
        (&["--steps", "20000"], "steps is 20000"),
        (&["--sampler", "magic"], "known are heun, dpmpp-2m, euler"),
        (&["--batch", "0"], "at least 1"),
        (&["--shard", "3/2"], "3/2"),
        (&["--shard", "0/2"], "0/2"),
        (&["--shard", "a"], "I/N"),
        (&["--count", "2", "--shard", "1/3"], "is empty"),
        (&["--sheet", "--files"], "cannot be used with"),
        (&["--device", "tpu"], "tpu"),
        (&["--out"], "--out"),
        (&["extra"], "extra"),
        (&["--model", "nowhere"], "--model"), // given twice
    ] {
        fails(sample(args), &[expected]);
    }
    #[cfg(not(target_os = "macos"))]
    fails(
        sample(&["--device", "metal"]),
        &["--device metal", "use --device cpu"],
    );
    fails(wmgm(at, ["frobnicate"]), &["frobnicate"]);
    let nothing = wmgm(at, [""; 0]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert_eq!(names(at), ["bundle"]);
}

#[test]
fn help_is_there_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "sample",
        "regenerate",
        "upscale",
        "train",
        "bundle",
        "info",
        "analyze",
        "compare",
        "eval",
    ] {
        assert!(ok(wmgm(folder.path(), [command, "--help"])).contains("Usage: wmgm"));
        assert!(ok(wmgm(folder.path(), ["--help"])).contains(command));
    }
}

#[test]
fn places_that_cannot_be_written_are_named_before_the_work() {
    let folder = tiny_bundle();
    let at = folder.path();
    fs::write(at.join("file"), "").unwrap();
    for (kind, out) in [
        ("--sheet", "bundle"),
        ("--sheet", "missing/a.png"),
        ("--sheet", "file/a.png"),
        ("--sheet", ""),
        ("--files", "file"),
        ("--files", "file/below"),
    ] {
        // Steps enough that a minute would pass if it began.
        let args = [
            "sample", "--model", "bundle", "--steps", "10000", "--count", "100", kind, "--out", out,
        ];
        fails(wmgm(at, args), &[out]);
    }
    assert_eq!(names(at), ["bundle", "file"]);
}

/// A limit on the size of files fails in the middle of writing, as a full disk does.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_nothing_half_written() {
    use super::common::limited;
    let folder = tiny_bundle();
    let at = folder.path();
    let full = |args: &[&str]| limited(at, "-f 8", args);
    fails(
        full(&[
            "sample", "--model", "bundle", "--count", "64", "--out", "a.png",
        ]),
        &["cannot write a.png"],
    );
    assert_eq!(names(at), ["bundle"]);
    fs::write(at.join("a.png"), "old").unwrap();
    fails(
        full(&[
            "sample", "--model", "bundle", "--count", "64", "--out", "a.png",
        ]),
        &["cannot write a.png"],
    );
    assert_eq!(fs::read_to_string(at.join("a.png")).unwrap(), "old");
    assert_eq!(names(at), ["a.png", "bundle"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    let folder = tiny_bundle();
    let args = [
        "sample",
        "--model",
        "bundle",
        "--count",
        "1",
        "--out",
        "/dev/full",
    ];
    fails(wmgm(folder.path(), args), &["cannot write /dev/full"]);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = wmgm(folder.path(), ["info", "bundle"]);
    command.stdout(full());
    fails(command, &["cannot write standard output"]);
    // Even where nothing at all can be said.
    let mut command = wmgm(folder.path(), ["info", "nowhere"]);
    let status = command.stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_reader_who_has_gone_is_no_error() {
    let folder = tiny_bundle();
    let mut command: Command = wmgm(folder.path(), ["info", "bundle"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
