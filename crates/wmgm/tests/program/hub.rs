//! Models of the Hugging Face hub, from a hub on loopback: not without being told, then downloaded, then from the cache.
#![cfg(feature = "hub")]

#[path = "../../../checkpoints/tests/common/hub.rs"]
#[allow(dead_code)]
mod server;

use super::common::{fails, names, ok, wmgm};
use super::diffusers::folder;
use server::{Repo, Server, faithful};
use std::path::Path;
use std::process::Command;

/// A small DDPM of diffusers as the repository o/m.
fn repository(at: &Path) -> Repo {
    let model = folder("ddpm", at);
    let file = |name: &str| (name.to_owned(), std::fs::read(model.join(name)).unwrap());
    let small = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
    ];
    Repo {
        small: small.map(file).into(),
        large: vec![file("unet/diffusion_pytorch_model.safetensors")],
        tells: true,
    }
}

fn at(hub: &str, home: &Path, args: &[&str]) -> Command {
    let mut command = wmgm(home, args);
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home).env("HF_ENDPOINT", hub);
    command
}

#[test]
fn a_model_is_downloaded_when_told_and_then_used_without_the_hub() {
    let [made, home] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let model = repository(made.path());
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let sample = ["sample", "--model", "o/m", "--count", "1", "--steps", "3"];
    let fetch = [&sample[..], &["--fetch"]].concat();
    let run = |args: &[&str]| at(&hub.address, home.path(), args);

    let told = ["o/m", "--fetch downloads it", "fetch-weights o/m"];
    fails(run(&sample), &told);
    let nothing = |server: &Server| server.requests().is_empty();
    assert!(nothing(&hub) && nothing(&store), "nobody asked for it");
    assert!(names(home.path()).is_empty(), "{:?}", names(home.path()));

    let first = ok(run(&fetch));
    assert!(first.contains("ddpm, 3 steps"), "{first}");
    let picture = std::fs::read(home.path().join("samples.png")).unwrap();
    assert_eq!(store.requests().len(), 1, "the weights, once");

    // The hub is not asked again, told to or not, and need not be there.
    let asked = hub.requests().len();
    let offline = "http://127.0.0.1:9";
    for args in [&sample[..], &fetch] {
        std::fs::remove_file(home.path().join("samples.png")).unwrap();
        let mut command = at(offline, home.path(), args);
        command.env("HF_HUB_OFFLINE", "1");
        assert!(ok(command).contains("ddpm, 3 steps"));
        assert!(std::fs::read(home.path().join("samples.png")).unwrap() == picture);
    }
    assert_eq!((hub.requests().len(), store.requests().len()), (asked, 1));

    // What the hub has not is told, and offline nothing can be fetched.
    let other = ["sample", "--model", "o/other", "--fetch"];
    fails(run(&other), &["there is no repository o/other"]);
    let mut command = run(&other);
    command.env("HF_HUB_OFFLINE", "1");
    fails(command, &["o/other", "HF_HUB_OFFLINE"]);
}
