//! Training that is stopped or killed, and goes on as if nothing had happened.
#![cfg(unix)]

use super::common::{contents, fails, names, ok, stderr, tiny_with, wmgm, write_pictures};
use super::train::metrics;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn train(at: &Path, out: &str, args: &[&str]) -> Command {
    let mut command = wmgm(
        at,
        ["train", "config.toml", "--data", "pictures", "--out", out],
    );
    command
        .args(args)
        .env("RAYON_NUM_THREADS", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A run whose steps would take a day, once it has begun to make them.
fn endless(at: &Path) -> Child {
    write_pictures(at, 6);
    let config = tiny_with(&[
        ("steps = 30", "steps = 10000000"),
        ("checkpoint_every = 7", "checkpoint_every = 0"),
    ]);
    fs::write(at.join("config.toml"), config).unwrap();
    let child = train(at, "run", &[]).spawn().unwrap();
    let began = Instant::now();
    while fs::read_to_string(at.join("run/low.metrics.jsonl"))
        .unwrap_or_default()
        .is_empty()
    {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "training does not begin"
        );
        sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn signals_save_and_stop() {
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let child = endless(at);
        send(&child, signal);
        let output: Output = child.wait_with_output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{name}: {text}");
        assert!(
            text.contains("low: saved at step ") && text.ends_with("stopped\n"),
            "{text}"
        );
        let files = names(&at.join("run"));
        assert!(
            files.contains(&"low.checkpoint.safetensors".into()),
            "{files:?}"
        );
        assert!(!files.iter().any(|f| f.ends_with(".tmp")), "{files:?}");
    }
}

#[test]
fn a_folder_belongs_to_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = endless(folder.path());
    fails(
        train(folder.path(), "run", &["--resume"]),
        &["another process is training in run"],
    );
    first.kill().unwrap();
    first.wait().unwrap();
}

/// Kills a run again and again at moments nobody chose; what it ends with must be what an undisturbed run ends with.
#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 6);
    let config = tiny_with(&[("steps = 30", "steps = 90"), ("steps = 30", "steps = 90")]);
    fs::write(at.join("config.toml"), config).unwrap();
    let began = Instant::now();
    ok(train(at, "undisturbed", &[]));
    let whole = began.elapsed();

    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos()
        | 1;
    let mut moments = Vec::new();
    let mut kills = 0;
    let signals = [
        Signal::KILL,
        Signal::KILL,
        Signal::TERM,
        Signal::KILL,
        Signal::INT,
    ];
    let last = loop {
        let mut child = train(at, "disturbed", &["--resume"]).spawn().unwrap();
        if moments.len() >= 10 {
            break child.wait_with_output().unwrap();
        }
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        let moment = whole.mul_f64(0.02 + 0.5 * f64::from(seed) / f64::from(u32::MAX));
        moments.push(moment);
        sleep(moment);
        if child.try_wait().unwrap().is_some() {
            break child.wait_with_output().unwrap();
        }
        let signal = signals[moments.len() % signals.len()];
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        // A signal can come before the handlers are there, or after the last step.
        let died = output.status.code().is_none();
        assert!(
            died || matches!(output.status.code(), Some(0 | 130)),
            "{signal:?} at {moment:?}: {}",
            stderr(&output)
        );
        kills += usize::from(died);
    };
    assert!(
        last.status.success(),
        "after {moments:?}: {}",
        stderr(&last)
    );
    assert!(kills >= 1, "nothing was killed at {moments:?}");

    let (whole, parts) = (at.join("undisturbed"), at.join("disturbed"));
    assert_eq!(names(&whole), names(&parts), "after {moments:?}");
    for folder in ["", "bundle"] {
        for ((name, a), (_, b)) in contents(&whole.join(folder))
            .iter()
            .zip(contents(&parts.join(folder)))
        {
            let same = name.ends_with(".metrics.jsonl") || *a == b;
            assert!(same, "{name} differs after {moments:?}");
        }
    }
    for stage in ["low", "high"] {
        assert_eq!(
            metrics(&whole, stage),
            metrics(&parts, stage),
            "after {moments:?}"
        );
    }
}
