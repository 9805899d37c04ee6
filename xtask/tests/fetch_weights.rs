//! `cargo xtask fetch-weights` as a program, against a hub on loopback.

#[path = "../../crates/checkpoints/tests/common/hub.rs"]
#[allow(dead_code)]
mod server;

use checkpoints::hub::{Manifest, Place};
use server::{COMMIT, Repo, Server, faithful, sha256};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

fn xtask(hub: &Server, cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .arg("fetch-weights")
        .env_clear()
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HOME", cache)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

/// Runs it: exit code, standard output, standard error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let done = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_model_is_fetched_and_the_command_for_it_is_told() {
    let model = Repo::new();
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) = run(xtask(&hub, home.path()).arg("o/m"));
    assert_eq!(
        (code, err.as_str()),
        (Some(0), ""),
        "quiet without a terminal"
    );
    let folder = home.path().join("hub/models--o--m/snapshots").join(COMMIT);
    assert!(
        out.contains(&format!("folder    {}\n", folder.display())),
        "{out}"
    );
    assert!(
        out.ends_with("sample    wmgm sample --model o/m\n"),
        "{out}"
    );
    assert!(std::fs::read(folder.join(WEIGHTS)).unwrap() == model.weights());

    // From the cache, though the hub is not asked.
    let asked = hub.requests().len();
    let again = run(xtask(&hub, home.path())
        .arg("o/m")
        .env("HF_HUB_OFFLINE", "1"));
    assert_eq!((again.0, again.1), (Some(0), out));
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn lists_and_errors() {
    let model = Repo::new();
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let home = tempfile::tempdir().unwrap();
    let (code, out, _) = run(xtask(&hub, home.path()).arg("--list"));
    assert_eq!(code, Some(0));
    assert!(
        out.contains("google/ncsnpp-ffhq-256, apache-2.0, 263 MB\n"),
        "{out}"
    );
    assert!(out.contains("assets/model, CC-BY-NC-4.0, here\n"), "{out}");
    let (code, out, _) = run(xtask(&hub, home.path()).arg("afhq-cat-128"));
    assert_eq!(code, Some(0));
    assert!(out.contains("wmgm sample --model assets/model"), "{out}");
    for (arguments, expected) in [
        (vec!["dog"], "error: no model is called \"dog\""),
        (vec!["o/m", "../x"], "is no repository"),
        (
            vec!["o/other"],
            "there is no repository o/other, or it is private",
        ),
        (vec!["o/m@v9"], "o/m has no revision v9"),
        (
            vec!["o/m", "--file", "more.bin"],
            "o/m has no file more.bin",
        ),
        (vec![], "required"),
    ] {
        let (code, _, err) = run(xtask(&hub, home.path()).args(&arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    assert!(store.requests().is_empty());
}

/// The models of this repository are what `assets/weights.toml` says of them.
#[test]
fn local_models_have_the_hashes_in_the_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("assets/weights.toml")).unwrap();
    let list: Manifest = toml::from_str(&text).unwrap();
    list.check().unwrap();
    let mut count = 0;
    for entry in &list.models {
        let Place::Folder(folder) = entry.place().unwrap() else {
            continue;
        };
        for file in &entry.files {
            let is = sha256(&std::fs::read(root.join(&folder).join(file)).unwrap());
            let told = entry.sha256.get(file);
            assert_eq!(told, Some(&is), "{}: {file}; write what it is", entry.name);
            count += 1;
        }
        assert_eq!(entry.sha256.len(), entry.files.len(), "{}", entry.name);
    }
    assert!(count >= 3, "{count}");
}

/// Killed in mid-file, without a chance to tidy up; the next run goes on from there.
#[test]
fn a_killed_download_is_resumed() {
    let model = Repo::new();
    let slow = Arc::new(AtomicBool::new(true));
    let pace = slow.clone();
    let store = model.store(move |_, mut reply| {
        if pace.load(Ordering::SeqCst) {
            reply.stall = Some((1_500_000, Duration::from_secs(20)));
        }
        reply
    });
    let hub = model.hub(&store, faithful);
    let home = tempfile::tempdir().unwrap();
    let blobs = home.path().join("hub/models--o--m/blobs");
    let incomplete = blobs.join(format!("{}.incomplete", sha256(model.weights())));
    let mut child = xtask(&hub, home.path())
        .arg("o/m")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let length = || std::fs::metadata(&incomplete).map_or(0, |m| m.len());
    while length() < 1_400_000 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "only {} bytes came",
            length()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = length();
    assert!(left < 3_000_000 && !blobs.join(sha256(model.weights())).exists());

    slow.store(false, Ordering::SeqCst);
    let (code, _, err) = run(xtask(&hub, home.path()).arg("o/m"));
    assert_eq!(code, Some(0), "{err}");
    let from = store.requests().last().unwrap().from();
    assert_eq!(from, Some(left as usize), "it goes on where it was killed");
    let at = home
        .path()
        .join("hub/models--o--m/snapshots")
        .join(COMMIT)
        .join(WEIGHTS);
    assert!(std::fs::read(at).unwrap() == model.weights());
    assert!(!incomplete.exists());
}
