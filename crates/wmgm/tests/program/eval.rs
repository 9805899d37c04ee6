//! `wmgm eval`: folders and models against pictures and statistics.

use super::common::{fails, names, ok, stderr, tiny_bundle, wmgm, write_pictures, write_weights};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The program, which finds no weights but those in `folder`.
fn eval(folder: &Path, args: &[&str]) -> Command {
    let mut command = wmgm(folder, ["eval"]);
    command
        .args(args)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("TORCH_HOME", folder.join("torch"));
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_over_two_seeds_by_its_bands() {
    let folder = tiny_bundle();
    let at = folder.path();
    write_pictures(at, 9);
    let args = [
        "--samples",
        "bundle",
        "--reference",
        "pictures",
        "--features",
        "bands",
        "--seeds",
        "2",
        "--seed",
        "5",
        "--count",
        "6",
        "--steps",
        "2",
        "--json",
        "eval.json",
        "--sheet",
        "nearest.png",
        "--sheet-count",
        "4",
    ];
    let table = ok(eval(at, &args));
    for part in [
        "wavelet bands",
        "3 LL",
        "+-",
        "nearest pictures",
        "6, 6 pictures",
        "9 pictures",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let report = json(&at.join("eval.json"));
    assert_eq!(report["size"], 32);
    assert_eq!(report["reference_pictures"], 9);
    assert_eq!(report["runs"][1]["name"], "seed 6");
    let bands = |run: usize| report["runs"][run]["bands"].as_array().unwrap();
    assert_eq!(bands(0).len(), 10);
    assert_ne!(bands(0), bands(1));
    let sheet = image::open(at.join("nearest.png")).unwrap();
    assert_eq!(
        (sheet.width(), sheet.height()),
        (2 + 2 * (64 + 2), 2 + 2 * (32 + 2))
    );
    // On one thread, in other batches, the same numbers.
    let again = [&args[..14], &["--json", "again.json", "--batch", "1"]].concat();
    let mut command = eval(at, &again);
    command.env("RAYON_NUM_THREADS", "1");
    ok(command);
    assert_eq!(json(&at.join("again.json")), report);
}

#[test]
fn features_statistics_and_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_pictures(at, 7);
    write_weights(at);
    let own = [
        "--samples",
        "pictures",
        "--reference",
        "pictures",
        "--features",
        "efficientnet-lite0",
    ];
    let table = ok(eval(
        at,
        &[
            &own[..],
            &["--save-stats", "kept.safetensors", "--json", "a.json"],
        ]
        .concat(),
    ));
    assert!(
        table.contains("Frechet distance (efficientnet-lite0)") && !table.contains("FID"),
        "{table}"
    );
    let value = |file: &str, metric: &str| {
        let report = json(&at.join(file));
        let summary = report["summary"].as_array().unwrap().iter();
        let found = summary.filter(|s| s["metric"].as_str().unwrap().starts_with(metric));
        found
            .map(|s| s["mean"].as_f64().unwrap())
            .collect::<Vec<_>>()
    };
    // A set beside itself.
    assert!(value("a.json", "Frechet")[0].abs() < 1e-3);
    for (metric, want) in [("precision", 1.0), ("recall", 1.0), ("coverage", 1.0)] {
        assert_eq!(value("a.json", metric), [want], "{metric}");
    }
    // Two folders are two runs.
    let two = [
        "--samples",
        "pictures",
        "pictures",
        "--reference",
        "pictures",
        "--count",
        "5",
        "--features",
        "efficientnet-lite0",
    ];
    ok(eval(at, &[&two[..], &["--json", "b.json"]].concat()));
    assert_eq!(
        json(&at.join("b.json"))["runs"].as_array().unwrap().len(),
        2
    );
    // Statistics stand for the folder, and as .npz for its Frechet distance.
    let against = |stats, out| {
        [
            "--samples",
            "pictures",
            "--features",
            "efficientnet-lite0",
            "--reference",
            stats,
            "--count",
            "5",
            "--json",
            out,
        ]
    };
    ok(eval(at, &against("kept.safetensors", "c.json")));
    assert_eq!(value("c.json", ""), value("b.json", ""));
    ok(eval(
        at,
        &[&own[..], &["--save-stats", "kept.npz"]].concat(),
    ));
    // The bands are a default that statistics cannot serve, and that is told.
    let mut both = eval(
        at,
        &[&against("kept.npz", "d.json")[..], &["--features", "bands"]].concat(),
    );
    let told = stderr(&both.output().unwrap());
    assert!(
        told.contains("the wavelet bands are not compared"),
        "{told}"
    );
    let (npz, all) = (value("d.json", "Frechet"), value("b.json", "Frechet"));
    assert!((npz[0] - all[0]).abs() < 1e-9 && value("d.json", "").len() == 1);
    let before = names(at);

    let bands = ["--samples", "pictures", "--features", "bands"];
    for (args, expected) in [
        (vec!["--reference", "nowhere"], vec!["nowhere"]),
        (vec![], vec!["--reference"]),
        (
            vec!["--reference", "pictures", "--count", "8"],
            vec!["7 pictures", "8"],
        ),
        (
            vec!["--reference", "pictures", "--count", "0"],
            vec!["at least 1"],
        ),
        (vec!["--reference", "pictures", "--size", "0"], vec!["size"]),
        (
            vec!["--reference", "pictures", "--weights", "x=y"],
            vec!["efficientnet-lite0"],
        ),
        (
            vec!["--reference", "pictures", "--json", "no/where.json"],
            vec!["no"],
        ),
        (
            vec!["--reference", "pictures", "--save-stats", "s.npz"],
            vec!["one network"],
        ),
        (vec!["--reference", "kept.npz"], vec!["one network"]),
        (
            vec!["--reference", "pictures", "--steps", "4"],
            vec!["are for models"],
        ),
        (vec!["--reference", "a.json"], vec!["a.json"]),
    ] {
        fails(eval(at, &[&bands[..], &args].concat()), &expected);
    }
    let features = [
        "--samples",
        "pictures",
        "--reference",
        "pictures",
        "--features",
    ];
    for (args, expected) in [
        (
            vec!["lpips"],
            vec!["cargo xtask feature-weights lpips", "--weights lpips=FILE"],
        ),
        (
            vec!["inception-v3"],
            vec!["pt_inception-2015-12-05-6726825d.pth"],
        ),
        (
            vec!["lpips", "--weights", "lpips=pictures/000.png"],
            vec!["000.png"],
        ),
        (
            vec![
                "inception-v3",
                "--weights",
                "inception-v3=cache/wmgm/metrics/efficientnet-lite0.safetensors",
            ],
            vec!["not the weights of inception-v3", "Conv2d_1a_3x3"],
        ),
        (
            vec!["efficientnet-lite0", "--neighbours", "7"],
            vec!["precision and recall", "7", "8"],
        ),
        (
            vec!["efficientnet-lite0", "--count", "1"],
            vec!["at least 2"],
        ),
        (vec!["magic"], vec!["magic", "inception-v3-clean"]),
    ] {
        fails(eval(at, &[&features[..], &args].concat()), &expected);
    }
    // Statistics of other weights, and neighbours of nothing.
    let mut changed = std::fs::read(at.join("kept.safetensors")).unwrap();
    let place = changed.windows(9).position(|w| w == b"antialias").unwrap();
    changed[place] = b'A';
    std::fs::write(at.join("other.safetensors"), changed).unwrap();
    fails(
        eval(at, &against("other.safetensors", "e.json")),
        &["bicubic-Antialias", "cannot be compared"],
    );
    fails(
        eval(
            at,
            &[
                &against("kept.safetensors", "e.json")[..],
                &["--sheet", "s.png"],
            ]
            .concat(),
        ),
        &["name a folder"],
    );
    std::fs::remove_file(at.join("other.safetensors")).unwrap();
    assert_eq!(names(at), before, "nothing is written by what fails");
}
