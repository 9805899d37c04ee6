//! `wmgm sample --trajectory`.

use super::common::{fails, names, ok, tiny_bundle, wmgm};
use image::GenericImageView;
use std::path::Path;
use wmgm::picture::RgbImage;
use wmgm::{Pipeline, SampleOptions, Wmgm};

fn draw(at: &Path, args: &[&str]) -> String {
    let mut command = wmgm(at, ["sample", "--model", "bundle", "--trajectory"]);
    command.args(args);
    ok(command)
}

/// Picture `column` of row `row` on a sheet of 32 x 32 pictures.
fn tile(sheet: &RgbImage, row: u32, column: u32) -> RgbImage {
    sheet.view(2 + 34 * column, 2 + 34 * row, 32, 32).to_image()
}

#[test]
fn steps_then_levels_end_at_the_very_pictures() {
    let folder = tiny_bundle();
    let at = folder.path();
    let text = draw(at, &["--count", "3", "--seed", "7"]);
    assert!(text.contains("trajectory.png"), "{text}");
    assert_eq!(names(at), ["bundle", "trajectory.png"]);
    let sheet = image::open(at.join("trajectory.png")).unwrap().into_rgb8();
    // Four steps and two levels.
    assert_eq!(sheet.dimensions(), (6 * 34 + 2, 3 * 34 + 2));
    let options = SampleOptions {
        seed: 7,
        pictures: 0..3,
        ..SampleOptions::default()
    };
    let model = Wmgm::from_bundle(at.join("bundle")).unwrap();
    let pictures = model.sample(&options).unwrap();
    for (row, picture) in (0..).zip(&pictures) {
        assert!(tile(&sheet, row, 5) == *picture);
        let frames: Vec<RgbImage> = (0..6).map(|c| tile(&sheet, row, c)).collect();
        for (i, frame) in frames.iter().enumerate() {
            assert!(frames[..i].iter().all(|other| other != frame), "{row} {i}");
            // A Haar low band without details is flat in squares: of 4 in steps, of 2 after one level.
            let flat = |by: u32| {
                frame
                    .enumerate_pixels()
                    .all(|(x, y, p)| p == frame.get_pixel(x / by * by, y / by * by))
            };
            assert_eq!((flat(4), flat(2)), (i < 4, i < 5), "{row} {i}");
        }
    }
    // The low band of the last step is what the details are added to.
    let rows = model
        .trajectory(&options, &|_| std::ops::ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[2][4] == tile(&sheet, 2, 4));
}

#[test]
fn every_sampler_shows_every_step_and_batches_do_not_matter() {
    let folder = tiny_bundle();
    let at = folder.path();
    let mut made = Vec::new();
    for sampler in wmgm::model::SAMPLERS {
        let common = ["one.png", "--count", "3", "--sampler", sampler];
        draw(at, &[&common[..], &["--batch", "1"]].concat());
        let one = std::fs::read(at.join("one.png")).unwrap();
        draw(at, &[&common[..], &["--batch", "3"]].concat());
        assert!(one == std::fs::read(at.join("one.png")).unwrap());
        let sheet = image::load_from_memory(&one).unwrap();
        assert_eq!(sheet.dimensions(), (6 * 34 + 2, 3 * 34 + 2));
        assert!(!made.contains(&one));
        made.push(one);
    }
    // In bf16 as the pictures are.
    draw(at, &["half.png", "--count", "2", "--dtype", "bf16"]);
    let half = image::open(at.join("half.png")).unwrap().into_rgb8();
    ok(wmgm(
        at,
        [
            "sample", "--model", "bundle", "--files", "--count", "2", "--dtype", "bf16",
        ],
    ));
    for row in 0..2 {
        let file = at.join(format!("samples/{row:06}.png"));
        assert!(tile(&half, row, 5) == image::open(file).unwrap().into_rgb8());
    }
    // Many steps are shown in part.
    draw(at, &["many.png", "--count", "1", "--steps", "50"]);
    let sheet = image::open(at.join("many.png")).unwrap();
    assert_eq!(sheet.dimensions(), (18 * 34 + 2, 36));
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let folder = tiny_bundle();
    let at = folder.path();
    for (args, expected) in [
        (&["--files"][..], "cannot be used with"),
        (&["--out", "a.png"], "cannot be used with"),
        (&["--count", "99999"], "too many to draw a trajectory of"),
    ] {
        let mut command = wmgm(at, ["sample", "--model", "bundle", "--trajectory"]);
        command.args(args);
        fails(command, &[expected]);
    }
    fails(
        wmgm(
            at,
            ["sample", "--model", "bundle", "--trajectory", "no/a.png"],
        ),
        &["no/a.png"],
    );
    assert_eq!(names(at), ["bundle"]);
}

#[test]
fn a_diffusion_on_pixels_shows_its_own_steps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/diffusers/flat");
    let run = |args: &[&str]| {
        let mut command = wmgm(at, ["sample", "--count", "2", "--model"]);
        command.arg(&model).args(args);
        command
    };
    ok(run(&["--trajectory"]));
    ok(run(&["--out", "samples.png"]));
    let open = |name| image::open(at.join(name)).unwrap().into_rgb8();
    let (sheet, samples) = (open("trajectory.png"), open("samples.png"));
    // Twenty steps in sixteen columns, of pictures of 8 x 8; the last are the samples.
    assert_eq!(sheet.dimensions(), (16 * 10 + 2, 2 * 10 + 2));
    for i in 0..2 {
        let last = sheet.view(2 + 15 * 10, 2 + 10 * i, 8, 8).to_image();
        assert!(last == samples.view(2 + 10 * i, 2, 8, 8).to_image());
        let first = sheet.view(2, 2 + 10 * i, 8, 8).to_image();
        assert!(first != last);
    }
}
