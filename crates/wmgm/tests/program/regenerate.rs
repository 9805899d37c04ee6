//! `wmgm regenerate` and `wmgm info`.

use super::common::{TINY, contents, fails, names, ok, patterned, tiny_bundle, wmgm};
use std::fs;
use std::path::Path;
use wmgm::picture::RgbImage;

/// Three pictures, one below in a folder of its own.
fn pictures(at: &Path) {
    fs::create_dir_all(at.join("in/below")).unwrap();
    for (i, name) in ["a.png", "b.webp", "below/c.bmp"].iter().enumerate() {
        patterned(i as u32, 32, 32)
            .save(at.join("in").join(name))
            .unwrap();
    }
}

fn regenerate(at: &Path, out: &str, args: &[&str]) {
    let mut command = wmgm(at, ["regenerate", "in", "--model", "bundle", "--out", out]);
    command.args(args);
    ok(command);
}

/// Means of squares of side `by`, which an orthonormal Haar low band holds up to a factor.
fn means(picture: &RgbImage, by: u32) -> Vec<f32> {
    let mut sums = vec![0f32; (3 * 32 * 32 / (by * by)) as usize];
    for (x, y, pixel) in picture.enumerate_pixels() {
        for c in 0..3 {
            let at = (y / by * (32 / by) + x / by) as usize * 3 + c;
            sums[at] += f32::from(pixel.0[c]) / (by * by) as f32;
        }
    }
    sums
}

#[test]
fn the_low_band_is_kept_and_the_details_are_new() {
    let folder = tiny_bundle();
    let at = folder.path();
    pictures(at);
    for (low, by) in [("8", 4), ("16", 2)] {
        regenerate(at, "out", &["--low", low]);
        assert_eq!(names(&at.join("out")), ["a.png", "b.png", "below"]);
        for (name, from) in [("a", "a.png"), ("b", "b.webp"), ("below/c", "below/c.bmp")] {
            let open = |path| image::open(path).unwrap().into_rgb8();
            let true_one = open(at.join("in").join(from));
            let made = open(at.join(format!("out/{name}.png")));
            assert!(made != true_one);
            for (a, b) in means(&made, by).iter().zip(means(&true_one, by)) {
                assert!((a - b).abs() < 0.6, "{low} {name}: {a} {b}"); // rounding to bytes
            }
        }
    }
}

#[test]
fn a_picture_does_not_depend_on_its_company() {
    let folder = tiny_bundle();
    let at = folder.path();
    pictures(at);
    regenerate(at, "all", &["--low", "8"]);
    regenerate(at, "single", &["--low", "8", "--batch", "1"]);
    fs::remove_file(at.join("in/a.png")).unwrap();
    regenerate(at, "fewer", &["--low", "8"]);
    regenerate(at, "other", &["--low", "8", "--seed", "1"]);
    fs::remove_dir_all(at.join("all/below")).unwrap();
    fs::remove_dir_all(at.join("single/below")).unwrap();
    assert!(contents(&at.join("all")) == contents(&at.join("single")));
    let b = |out: &str| fs::read(at.join(out).join("b.png")).unwrap();
    assert!(b("all") == b("fewer"));
    assert!(b("all") != b("other"), "the seed must matter");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_written() {
    let folder = tiny_bundle();
    let at = folder.path();
    pictures(at);
    let run = |out: &str, low: &str| {
        wmgm(
            at,
            [
                "regenerate",
                "in",
                "--model",
                "bundle",
                "--out",
                out,
                "--low",
                low,
            ],
        )
    };
    fails(run("out", "32"), &["no low band of side 32", "16, 8"]);
    fails(
        run("./in", "8"),
        &["--out ./in is the folder of the pictures"],
    );
    fails(
        run("bundle/config.json/out", "8"),
        &["bundle/config.json/out"],
    );
    fs::copy(at.join("in/a.png"), at.join("in/a.jpg")).unwrap();
    fails(
        run("out", "8"),
        &["a.jpg and a.png would both become a.png"],
    );
    fs::remove_file(at.join("in/a.jpg")).unwrap();
    fs::write(at.join("in/broken.png"), "no picture").unwrap();
    fails(run("out", "8"), &["1 of 4 pictures", "broken.png"]);
    assert_eq!(names(at), ["bundle", "in"]);
}

#[test]
fn info_describes_a_bundle() {
    let folder = tiny_bundle();
    let text = ok(wmgm(folder.path(), ["info", "bundle"]));
    let model = wmgm::Wmgm::from_bundle(folder.path().join("bundle")).unwrap();
    let [score, generator] = model.bundle().parameters;
    assert!(TINY.contains("CC0"));
    for part in [
        "tiny\n",
        "32 x 32 RGB",
        "haar, 2 levels, periodization; low band 8 x 8",
        &format!("U-Net, {score} parameters: 32 channels x [1]"),
        "works at 4 x 4 on 12 channels",
        &format!("U-Net, {generator} parameters: widths [8, 16], 2 noise channels"),
        "dpmpp-2m, 4 steps",
        "level 2 LL    -0.1000     1.0000       3.00",
        "level 1 HH     0.0000     0.0300       3.00",
        "11 pictures (fingerprint 0123456789abcdef), seed 5",
        "score: 12 steps of 13; generator: 14 steps of 15",
        "licence      weights: CC0\n",
        "attribution  nobody\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    fails(
        wmgm(folder.path(), ["info", "nowhere"]),
        &["nowhere", "not a folder"],
    );
}

#[cfg(feature = "embedded")]
#[test]
fn the_embedded_model_is_described_with_its_licence() {
    let folder = tempfile::tempdir().unwrap();
    let info = ok(wmgm(folder.path(), ["info"]));
    assert!(
        info.contains("CC BY-NC 4.0") && info.contains("AFHQ"),
        "{info}"
    );
    assert!(info.contains("128 x 128 RGB"), "{info}");
    let version = ok(wmgm(folder.path(), ["--version"]));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(
        version.contains("CC BY-NC 4.0") && version.contains("MIT OR Apache-2.0"),
        "{version}"
    );
}
