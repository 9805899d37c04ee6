//! The hub's client against a hub on loopback that behaves as badly as real ones do.
#![cfg(feature = "hub")]

#[path = "common/hub.rs"]
mod server;

use checkpoints::hub::{Event, Hub, HubConfig, HubError, Known, Progress, RepoId, Snapshot};
use server::{COMMIT, Reply, Repo, Server, faithful, git_hash, ranged, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

fn config(hub: &Server, cache: &Path) -> HubConfig {
    HubConfig {
        endpoint: hub.address.clone(),
        cache: cache.into(),
        token: Some("hf_secret".into()),
        offline: false,
        retries: 3,
        back_off: Duration::from_millis(5),
        longest_wait: Duration::from_secs(5),
        stall: Duration::from_millis(400),
    }
}

fn repo() -> RepoId {
    "o/m".parse().unwrap()
}

/// What happened, in words.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::Bytes { .. } => return,
            Event::Listed { files, bytes } => format!("listed {files} {bytes}"),
            Event::Cached { file } => format!("cached {file}"),
            Event::Waiting { file } => format!("waiting {file}"),
            Event::Started { file, have, size } => format!("started {file} {have}/{size}"),
            Event::Retrying { reason, .. } => format!("retrying: {reason}"),
            Event::Done { file } => format!("done {file}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn fetch(hub: &Server, cache: &Path) -> (Result<Snapshot, HubError>, Vec<String>) {
    let log = Log::default();
    let done = Hub::new(config(hub, cache))
        .unwrap()
        .fetch(&repo(), &[], &[], &log);
    (done, log.lines())
}

#[track_caller]
fn refused(hub: &Server, cache: &Path, expected: &[&str]) -> HubError {
    let error = fetch(hub, cache).0.unwrap_err();
    for words in expected {
        assert!(
            error.to_string().contains(words),
            "{words:?} is not in: {error}"
        );
    }
    error
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("models--o--m")
}

fn blobs(cache: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder(cache).join("blobs"))
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything is there and right.
#[track_caller]
fn complete(cache: &Path, model: &Repo) {
    for (name, bytes) in model.small.iter().chain(&model.large) {
        let at = folder(cache).join("snapshots").join(COMMIT).join(name);
        assert!(fs::read(at).unwrap() == *bytes, "{name}");
    }
    assert!(
        blobs(cache).iter().all(|name| !name.contains('.')),
        "{:?}",
        blobs(cache)
    );
}

#[test]
fn a_model_comes_into_the_layout_that_all_tools_share() {
    let mut model = Repo::new();
    model
        .small
        .push(("unet/config.json".into(), b"{}".to_vec()));
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let (snapshot, log) = fetch(&hub, cache.path());
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.files, ["config.json", WEIGHTS, "unet/config.json"]);
    assert_eq!(
        snapshot.folder,
        folder(cache.path()).join("snapshots").join(COMMIT)
    );
    assert_eq!(log[0], format!("listed 3 {}", 3_000_000 + 9 + 2));
    complete(cache.path(), &model);
    let at = folder(cache.path());
    assert_eq!(fs::read_to_string(at.join("refs/main")).unwrap(), COMMIT);
    let mut names = vec![
        git_hash(b"{\"a\": 1}\n"),
        git_hash(b"{}"),
        sha256(model.weights()),
    ];
    names.sort();
    assert_eq!(blobs(cache.path()), names);
    #[cfg(unix)]
    {
        let link = |name: &str| fs::read_link(snapshot.folder.join(name)).unwrap();
        assert_eq!(
            link(WEIGHTS),
            Path::new("../../blobs").join(sha256(model.weights()))
        );
        assert_eq!(
            link("unet/config.json"),
            Path::new("../../../blobs").join(git_hash(b"{}"))
        );
    }
    // The crate that other Rust programs use finds it, too.
    let theirs = hf_hub::Cache::new(cache.path().into()).model("o/m".into());
    assert_eq!(theirs.get(WEIGHTS), Some(snapshot.folder.join(WEIGHTS)));

    // The token went to the hub and to no other host.
    let bearer = |r: &server::Request| r.headers.get("authorization").cloned();
    assert!(
        hub.requests()
            .iter()
            .all(|r| bearer(r).as_deref() == Some("Bearer hf_secret"))
    );
    assert!(!store.requests().is_empty() && store.requests().iter().all(|r| bearer(r).is_none()));

    // Again: nothing is asked for but the listing. Without network: nothing at all.
    let before = (hub.requests().len(), store.requests().len());
    let (again, log) = fetch(&hub, cache.path());
    assert_eq!(again.unwrap(), snapshot);
    assert!(log.contains(&format!("cached {WEIGHTS}")), "{log:?}");
    assert_eq!(
        (hub.requests().len(), store.requests().len()),
        (before.0 + 1, before.1)
    );
    let offline = HubConfig {
        offline: true,
        ..config(&hub, cache.path())
    };
    let offline = Hub::new(offline).unwrap();
    assert_eq!(offline.fetch(&repo(), &[], &[], &()).unwrap(), snapshot);
    assert_eq!(offline.cached(&repo()).unwrap(), snapshot);
    assert_eq!(hub.requests().len(), before.0 + 1);
    let other: RepoId = "o/m@v2".parse().unwrap();
    let error = offline
        .fetch(&other, &[], &[], &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("any file of o/m@v2") && error.contains("HF_HUB_OFFLINE"),
        "{error}"
    );
    let more = offline
        .fetch(&repo(), &["more.json".into()], &[], &())
        .unwrap_err();
    assert!(matches!(more, HubError::Offline { .. }));
}

#[test]
fn hubs_that_list_no_hashes_are_asked_for_each_file() {
    let model = Repo {
        tells: false,
        ..Repo::new()
    };
    let store = model.store(faithful);
    // The repository has been renamed: redirects to the same host, relative, without an ETag.
    let hub = {
        let (model, store) = (model.clone(), store.address.clone());
        Server::start(move |request| {
            let mut request = request.clone();
            if let Some(rest) = request.path.strip_prefix("/new/m") {
                request.path = format!("/o/m{}", rest.trim_end_matches("?moved"));
                return model.answer(&request, &store);
            }
            if request.path.starts_with("/o/m/resolve") {
                let to = request.path.replacen("/o/", "/new/", 1);
                return Reply::status(307).header("Location", format!("{to}?moved"));
            }
            model.answer(&request, &store)
        })
    };
    let cache = tempfile::tempdir().unwrap();
    fetch(&hub, cache.path()).0.unwrap();
    complete(cache.path(), &model);
    assert_eq!(hub.asked("HEAD", "/new/m/resolve").len(), 2);
    assert!(
        store.asked("HEAD", "").is_empty(),
        "the store is asked for bytes alone"
    );
}

#[test]
fn cut_stalled_and_slow_connections_are_resumed() {
    let model = Repo::new();
    let count = AtomicUsize::new(0);
    let store = model.store(move |_, mut reply| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply.cut = Some(1_000_000),
            1 => reply.stall = Some((500_000, Duration::from_millis(1500))),
            // Slow, but never silent for long.
            2 => reply.stall = Some((200_000, Duration::from_millis(150))),
            _ => {}
        }
        reply
    });
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let (done, log) = fetch(&hub, cache.path());
    done.unwrap();
    complete(cache.path(), &model);
    let from: Vec<_> = store.requests().iter().map(server::Request::from).collect();
    assert_eq!(from, [None, Some(1_000_000), Some(1_500_000)], "{log:?}");
    assert_eq!(
        log.iter().filter(|l| l.starts_with("retrying")).count(),
        2,
        "{log:?}"
    );
}

#[test]
fn a_connection_that_brings_nothing_is_given_up_in_words_and_what_came_is_kept() {
    let model = Repo::new();
    let store = model.store(|request, mut reply| {
        // Two thirds came once, and then never more.
        reply.cut = Some(if request.from().is_none() {
            2_000_000
        } else {
            0
        });
        reply
    });
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let error = refused(
        &hub,
        cache.path(),
        &["broke at byte 2000000", WEIGHTS, "kept"],
    );
    assert!(matches!(error, HubError::Broken { at: 2_000_000, .. }));
    assert_eq!(
        store.requests().len(),
        5,
        "one that brought something, four that did not"
    );
    assert_eq!(blobs(cache.path()).len(), 2);

    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let (done, log) = fetch(&hub, cache.path());
    done.unwrap();
    complete(cache.path(), &model);
    assert!(
        log.contains(&format!("started {WEIGHTS} 2000000/3000000")),
        "{log:?}"
    );
    assert_eq!(store.requests()[0].from(), Some(2_000_000));
}

#[test]
fn servers_without_ranges_begin_anew() {
    let model = Repo::new();
    let whole = model.weights().to_vec();
    let count = AtomicUsize::new(0);
    let store = model.store(move |_, _| {
        let mut reply = Reply::status(200).body(whole.clone());
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.cut = Some(1_234_567);
        }
        reply
    });
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    fetch(&hub, cache.path()).0.unwrap();
    complete(cache.path(), &model);
}

#[test]
fn wrong_bytes_never_reach_the_cache() {
    let model = Repo::new();
    let cache = tempfile::tempdir().unwrap();
    // One bit.
    let store = model.store(|_, mut reply| {
        reply.body[1_000_001] ^= 1;
        reply
    });
    let hub = model.hub(&store, faithful);
    refused(
        &hub,
        cache.path(),
        &[WEIGHTS, "SHA-256 is", &sha256(model.weights())],
    );
    assert_eq!(
        blobs(cache.path()),
        [git_hash(b"{\"a\": 1}\n")],
        "only the good file"
    );
    // More than announced.
    let store = model.store(|_, mut reply| {
        reply.body.push(0);
        reply
    });
    let hub = model.hub(&store, faithful);
    refused(&hub, cache.path(), &["its size is more than 3000000"]);
    // A small file.
    let hub = model.hub(&store, |request, reply| {
        match request.path.ends_with("config.json") {
            true => reply.body(b"{\"a\": 2}\n"),
            false => reply,
        }
    });
    let fresh = tempfile::tempdir().unwrap();
    refused(&hub, fresh.path(), &["config.json is wrong: its git hash"]);
    assert!(blobs(fresh.path()).is_empty());
    assert!(!folder(fresh.path()).join("refs/main").exists());
    // A range other than the one asked for, each time after a little that is right.
    let store = model.store(|request, mut reply| match request.from() {
        None => Reply {
            cut: Some(10),
            ..reply
        },
        Some(from) => {
            reply.headers.clear();
            reply.header(
                "Content-Range",
                format!("bytes {}-2999999/3000000", from + 1),
            )
        }
    });
    let hub = model.hub(&store, faithful);
    refused(&hub, fresh.path(), &["the connection broke", WEIGHTS]);
    assert_eq!(
        blobs(fresh.path())
            .iter()
            .filter(|b| !b.contains('.'))
            .count(),
        1
    );
}

#[test]
fn what_an_earlier_run_left_wrong_is_begun_anew() {
    let model = Repo::new();
    for left in [vec![7u8; 1_000_000], vec![7; 3_000_000], vec![7; 4_000_000]] {
        let store = model.store(faithful);
        let hub = model.hub(&store, faithful);
        let cache = tempfile::tempdir().unwrap();
        let blobs = folder(cache.path()).join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(
            blobs.join(format!("{}.incomplete", sha256(model.weights()))),
            left,
        )
        .unwrap();
        fetch(&hub, cache.path()).0.unwrap();
        complete(cache.path(), &model);
    }
}

fn fetch_known(
    client: &Hub,
    names: &[String],
    name: &str,
    sha256: &str,
) -> Result<Snapshot, HubError> {
    let known = Known {
        name: name.into(),
        sha256: sha256.into(),
    };
    client.fetch(&repo(), names, &[known], &())
}

#[test]
fn a_known_hash_must_be_the_hubs() {
    let model = Repo::new();
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let client = Hub::new(config(&hub, cache.path())).unwrap();
    let with = |sha256: &str| fetch_known(&client, &[], WEIGHTS, sha256);
    let error = with(&"0".repeat(64)).unwrap_err().to_string();
    assert!(error.contains("SHA-256 at the hub"), "{error}");
    assert!(store.requests().is_empty());
    with(&sha256(model.weights())).unwrap();
}

/// The hub names small files by git's hash: a SHA-256 that is known is looked for all the same, also of what is there.
#[test]
fn a_known_hash_counts_whatever_the_hub_says() {
    let model = Repo::new();
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let client = Hub::new(config(&hub, cache.path())).unwrap();
    let names = ["config.json".to_owned()];
    let with = |sha256: &str| fetch_known(&client, &names, "config.json", sha256);
    let wrong = "0".repeat(64);
    let error = with(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("SHA-256") && error.contains(&wrong),
        "{error}"
    );
    assert!(client.cached(&repo()).is_none());
    // Without a hash it comes, and is wrong afterwards, too.
    let there = client.fetch(&repo(), &names, &[], &()).unwrap();
    let right = sha256(&fs::read(there.folder.join("config.json")).unwrap());
    with(&right).unwrap();
    assert!(with(&wrong).unwrap_err().to_string().contains("SHA-256"));
}

/// A server that breaks off and then refuses the rest is no endless way.
#[test]
fn refused_ranges_are_retried_so_often_and_no_more() {
    let model = Repo::new();
    let store = model.store(|request, reply| match request.from() {
        Some(from) if from > 0 => Reply::status(416),
        _ => Reply {
            cut: Some(1000),
            ..reply
        },
    });
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    refused(&hub, cache.path(), &[WEIGHTS]);
}

#[test]
fn busy_hubs_are_left_alone_for_as_long_as_they_ask() {
    let model = Repo::new();
    let store = model.store(faithful);
    let count = AtomicUsize::new(0);
    let hub = model.hub(&store, move |_, reply| {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(429).header("Retry-After", 1),
            1 => Reply::status(503),
            2 => Reply::status(500).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
            _ => reply,
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (done, log) = fetch(&hub, cache.path());
    done.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let retries: Vec<&String> = log.iter().filter(|l| l.starts_with("retrying")).collect();
    assert!(
        retries.len() == 3 && retries[0].contains("wait 1 s") && retries[1].contains("503"),
        "{log:?}"
    );

    let hub = model.hub(&store, |_, _| {
        Reply::status(429).header("Retry-After", 3600)
    });
    refused(&hub, cache.path(), &["wait 3600 s", "429"]);
    assert_eq!(hub.requests().len(), 1, "no one waits for an hour");
    let hub = model.hub(&store, |_, _| Reply::status(502));
    refused(&hub, cache.path(), &["502"]);
    assert_eq!(hub.requests().len(), 4);
}

#[test]
fn refusals_are_told_in_words_and_not_tried_again() {
    let model = Repo::new();
    let store = model.store(faithful);
    let cache = tempfile::tempdir().unwrap();
    for (status, code, expected) in [
        (
            401,
            "RepoNotFound",
            "there is no repository o/m, or it is private",
        ),
        (401, "", "there is no repository o/m, or it is private"),
        (404, "RepoNotFound", "the token given has no access"),
        (404, "RevisionNotFound", "o/m has no revision main"),
        (401, "GatedRepo", "o/m is gated: accept its terms at http"),
        (403, "GatedRepo", "o/m is gated"),
        (403, "", "the hub refuses access to o/m (status 403)"),
        (418, "", "answered with status 418"),
    ] {
        let hub = model.hub(&store, move |_, _| {
            Reply::status(status).header("X-Error-Code", code)
        });
        refused(&hub, cache.path(), &[expected]);
        assert_eq!(hub.requests().len(), 1, "{status} {code}");
    }
    let hub = model.hub(&store, |request, reply| {
        match request.path.ends_with("config.json") {
            true => Reply::status(404).header("X-Error-Code", "EntryNotFound"),
            false => reply,
        }
    });
    refused(&hub, cache.path(), &["o/m has no file config.json"]);
    let hub = model.hub(&store, faithful);
    let client = Hub::new(config(&hub, cache.path())).unwrap();
    let error = client
        .fetch(&repo(), &["x.bin".into()], &[], &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("no file x.bin; it has config.json, {WEIGHTS}")),
        "{error}"
    );
    let without = HubConfig {
        token: None,
        ..config(&hub, cache.path())
    };
    let other: RepoId = "a/b".parse().unwrap();
    let error = Hub::new(without)
        .unwrap()
        .fetch(&other, &[], &[], &())
        .unwrap_err()
        .to_string();
    assert!(error.contains("set HF_TOKEN"), "{error}");

    let hub = model.hub(&store, faithful);
    let gone = TcpPort::unused();
    let nobody = HubConfig {
        endpoint: format!("http://127.0.0.1:{}", gone.0),
        ..config(&hub, cache.path())
    };
    let error = Hub::new(nobody)
        .unwrap()
        .fetch(&repo(), &[], &[], &())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("cannot be reached") && error.contains("check the network"),
        "{error}"
    );
}

/// A port that nobody listens at.
struct TcpPort(u16);

impl TcpPort {
    fn unused() -> Self {
        Self(
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
        )
    }
}

#[test]
fn answers_that_are_none_and_hostile_names_are_refused() {
    let store = Repo::new().store(faithful);
    let cache = tempfile::tempdir().unwrap();
    let file =
        |name: &str| format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"{name}"}}]}}"#);
    for (listing, expected) in [
        ("<html>".to_owned(), "no listing"),
        ("[".repeat(100_000), "no listing"),
        (r#"{"sha":"../../etc","siblings":[]}"#.into(), "as a commit"),
        (
            file("../../../home/.ssh/config.json"),
            "as the name of a file",
        ),
        (file("/etc/config.json"), "as the name of a file"),
        (file("a//config.json"), "as the name of a file"),
        (file("c:\\\\config.json"), "as the name of a file"),
        (
            file("README.md"),
            "has no file of weights; it has README.md",
        ),
    ] {
        let listed = listing.clone();
        let hub = Repo::new().hub(&store, move |_, _| Reply::status(200).body(listed.clone()));
        refused(&hub, cache.path(), &[expected]);
    }
    // A file without end, round in circles, and to another scheme.
    let endless = r#"{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"a.pth","size":1152921504606846976,"blobId":"0123456789abcdef0123456789abcdef01234567"}]}"#;
    let hub = Repo::new().hub(&store, move |_, _| Reply::status(200).body(endless));
    refused(&hub, cache.path(), &["no space for a.pth", "HF_HUB_CACHE"]);
    let hub = Repo::new().hub(&store, |r, _| {
        Reply::status(302).header("Location", r.path.clone())
    });
    refused(&hub, cache.path(), &["too many redirects"]);
    let hub = Repo::new().hub(&store, |_, _| {
        Reply::status(302).header("Location", "file:///etc/passwd")
    });
    fetch(&hub, cache.path()).0.unwrap_err();
    assert!(!cache.path().join("home").exists());
}

#[test]
fn two_clients_download_a_file_once() {
    let model = Repo::new();
    let store = model.store(|_, mut reply| {
        reply.stall = Some((1_000_000, Duration::from_millis(250)));
        reply
    });
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let logs = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| fetch(&hub, cache.path())))
            .collect();
        clients
            .into_iter()
            .map(|c| c.join().unwrap())
            .collect::<Vec<_>>()
    });
    let waited = logs
        .iter()
        .filter(|(_, log)| log.contains(&format!("waiting {WEIGHTS}")))
        .count();
    assert!(waited >= 1, "{logs:?}");
    for (done, log) in logs {
        done.unwrap_or_else(|e| panic!("{e}: {log:?}"));
    }
    complete(cache.path(), &model);
    assert_eq!(store.requests().len(), 1);
}

#[test]
fn a_stop_keeps_what_came() {
    struct StopAfter(AtomicUsize);
    impl Progress for StopAfter {
        fn event(&self, event: Event<'_>) {
            if let Event::Bytes {
                file: WEIGHTS,
                done,
                ..
            } = event
            {
                self.0.store(done as usize, Ordering::SeqCst);
            }
        }
        fn stop(&self) -> bool {
            self.0.load(Ordering::SeqCst) >= 500_000
        }
    }
    let model = Repo::new();
    let store = model.store(faithful);
    let hub = model.hub(&store, faithful);
    let cache = tempfile::tempdir().unwrap();
    let client = Hub::new(config(&hub, cache.path())).unwrap();
    let watch = StopAfter(AtomicUsize::new(0));
    let error = client.fetch(&repo(), &[], &[], &watch).unwrap_err();
    assert!(matches!(error, HubError::Cancelled));
    let came = watch.0.load(Ordering::SeqCst);
    assert!((500_000..3_000_000).contains(&came));
    fetch(&hub, cache.path()).0.unwrap();
    complete(cache.path(), &model);
    assert_eq!(store.requests()[1].from(), Some(came));
}

#[test]
fn names_of_repositories() {
    let good: RepoId = "google/ddpm-cat-256@refs/pr/3".parse().unwrap();
    assert_eq!(
        (good.name(), good.revision()),
        ("google/ddpm-cat-256", "refs/pr/3")
    );
    assert_eq!(good.to_string(), "google/ddpm-cat-256@refs/pr/3");
    assert_eq!("a/b".parse::<RepoId>().unwrap().to_string(), "a/b");
    for bad in [
        "", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b@", "a/b@../x", "a/b@/x", "a--b/c",
        "a/b c", "a/b@x@y", "-a/b",
    ] {
        assert!(bad.parse::<RepoId>().is_err(), "{bad}");
    }
    // What answers to a request that has no range is told from one that has.
    let request = server::Request {
        method: "GET".into(),
        path: "/".into(),
        headers: [("range".to_owned(), "bytes=2-".to_owned())].into(),
    };
    assert_eq!(ranged(&request, b"abc").body, b"c");
}
