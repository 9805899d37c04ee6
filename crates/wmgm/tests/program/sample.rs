//! `wmgm sample`.

use super::common::{contents, names, ok, shipped, tiny_bundle, wmgm, write_bundle};
use std::path::Path;
use wmgm::picture;

/// The pictures 0 to `count` - 1 as files, by this way of making them.
fn files(folder: &Path, threads: &str, count: u64, args: &[&str]) -> Vec<(String, Vec<u8>)> {
    let out = folder.join("files");
    let count = count.to_string();
    let mut command = wmgm(
        folder,
        ["sample", "--model", "bundle", "--seed", "7", "--files"],
    );
    command
        .args(["--count", &count, "--out"])
        .arg(&out)
        .args(args);
    command.env("RAYON_NUM_THREADS", threads);
    ok(command);
    let made = contents(&out);
    std::fs::remove_dir_all(out).unwrap();
    made
}

/// The promise of the counter-based noise, on the very shape that is shipped: a batch, a shard, a thread change nothing.
#[test]
fn a_picture_does_not_depend_on_its_company() {
    let folder = tempfile::tempdir().unwrap();
    write_bundle(&folder.path().join("bundle"), &shipped());
    let files = |threads, args: &[&str]| files(folder.path(), threads, 5, args);
    let all = files("2", &["--steps", "3", "--batch", "5"]);
    assert_eq!(all.len(), 5);
    for (i, (name, bytes)) in all.iter().enumerate() {
        assert_eq!(name, &format!("{i:06}.png"));
        assert!(all[..i].iter().all(|(_, other)| other != bytes));
    }
    assert!(all == files("1", &["--steps", "3", "--batch", "1"]));
    assert!(all == files("3", &["--steps", "3", "--batch", "2"]));
    let mut shards = files("1", &["--steps", "3", "--batch", "4", "--shard", "1/3"]);
    shards.extend(files(
        "2",
        &["--steps", "3", "--batch", "16", "--shard", "2/3"],
    ));
    shards.extend(files(
        "3",
        &["--steps", "3", "--batch", "1", "--shard", "3/3"],
    ));
    assert!(all == shards);
    assert!(
        all != files("2", &["--steps", "4"]),
        "the number of steps must matter"
    );
}

#[test]
fn every_sampler_keeps_the_promise_and_differs() {
    let folder = tiny_bundle();
    let mut made = Vec::new();
    for sampler in wmgm::model::SAMPLERS {
        let one = files(
            folder.path(),
            "1",
            3,
            &["--sampler", sampler, "--batch", "1"],
        );
        let all = files(folder.path(), "3", 3, &["--sampler", sampler]);
        assert!(one == all, "{sampler}");
        assert!(!made.contains(&one), "{sampler} gives what another gives");
        made.push(one);
    }
}

#[test]
fn the_sheet_holds_the_pictures_of_the_files() {
    let folder = tiny_bundle();
    let at = folder.path();
    ok(wmgm(
        at,
        ["sample", "--model", "bundle", "--files", "--count", "6"],
    ));
    ok(wmgm(
        at,
        ["sample", "--model", "bundle", "--sheet", "--count", "6"],
    ));
    let files = names(&at.join("samples"));
    assert_eq!(files.len(), 6);
    let open = |path| image::open(path).unwrap().into_rgb8();
    let pictures: Vec<_> = files
        .iter()
        .map(|f| open(at.join("samples").join(f)))
        .collect();
    let sheet = picture::sheet(&pictures, picture::Layout::default()).unwrap();
    assert!(open(at.join("samples.png")) == sheet);
    assert_eq!(names(at), ["bundle", "samples", "samples.png"]);
}

#[test]
fn what_was_done_is_printed() {
    let folder = tiny_bundle();
    let args = ["sample", "--model", "bundle", "--seed", "3", "--count", "2"];
    let mut command = wmgm(folder.path(), args);
    command.args([
        "--sampler",
        "heun",
        "--steps",
        "5",
        "--device",
        "cpu",
        "--out",
        "a.png",
    ]);
    let text = ok(command);
    let path = folder.path().canonicalize().unwrap().join("a.png");
    for part in [
        "seed      3, pictures 0 to 1\n",
        "sampler   heun, 5 steps: 9 evaluations of the low band's network at 8 x 8, folded to 4 x 4, 2 generator passes\n",
        " ms per picture (2 pictures in ",
        &format!("written   {}\n", path.display()),
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(path.is_file());
}

/// The first command of a fresh clone, with less of it.
#[cfg(feature = "embedded")]
#[test]
fn the_embedded_model_samples() {
    let folder = tempfile::tempdir().unwrap();
    let text = ok(wmgm(
        folder.path(),
        ["sample", "--count", "2", "--steps", "2"],
    ));
    assert!(text.contains("samples.png"), "{text}");
    assert_eq!(names(folder.path()), ["samples.png"]);
    let sheet = image::open(folder.path().join("samples.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (2 * 130 + 2, 132));
}
