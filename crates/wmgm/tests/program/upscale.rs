//! `wmgm upscale`.

use super::common::{fails, names, ok, patterned, tiny_bundle, wmgm};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use wmgm::picture::RgbImage;
use wmgm::upscale::UpscaleOptions;
use wmgm::{Error, Wmgm};

/// The tiny bundle, and a picture that no tile divides.
fn place(width: u32, height: u32) -> tempfile::TempDir {
    let folder = tiny_bundle();
    patterned(3, width, height)
        .save(folder.path().join("in.webp"))
        .unwrap();
    folder
}

fn upscale(at: &Path, out: &str, threads: &str, args: &[&str]) -> RgbImage {
    let mut command = wmgm(
        at,
        ["upscale", "in.webp", "--model", "bundle", "--out", out],
    );
    command.args(args).env("RAYON_NUM_THREADS", threads);
    let text = ok(command);
    assert!(text.contains(out) && text.contains("written   "), "{text}");
    image::open(at.join(out)).unwrap().into_rgb8()
}

/// Mean over squares of side `by` at a pixel of the smaller picture.
fn mean(picture: &RgbImage, x: u32, y: u32, by: u32) -> [f32; 3] {
    let mut sum = [0f32; 3];
    for k in 0..by * by {
        let pixel = picture.get_pixel(x * by + k % by, y * by + k / by).0;
        (0..3).for_each(|c| sum[c] += f32::from(pixel[c]) / (by * by) as f32);
    }
    sum
}

#[test]
fn any_size_grows_and_averages_to_what_it_was() {
    // One pixel, less than the network's unit, one tile, many.
    for (width, height, levels) in [(1, 1, 3), (7, 3, 2), (16, 16, 1), (45, 37, 2)] {
        let folder = place(width, height);
        let at = folder.path();
        let made = upscale(at, "out.png", "2", &["--levels", &levels.to_string()]);
        assert_eq!(made.dimensions(), (width << levels, height << levels));
        let small = image::open(at.join("in.webp")).unwrap().into_rgb8();
        let mut differs = false;
        for (x, y, pixel) in small.enumerate_pixels() {
            for (got, want) in mean(&made, x, y, 1 << levels).iter().zip(pixel.0) {
                assert!((got - f32::from(want)).abs() < 0.6, "{got} {want}");
            }
            differs |= made.get_pixel(x << levels, y << levels) != pixel;
        }
        assert!(differs, "details must be there");
    }
}

#[test]
fn neither_batch_nor_threads_matter_and_the_seed_does() {
    let folder = place(45, 37);
    let at = folder.path();
    let one = upscale(at, "a.png", "1", &["--batch", "1"]);
    assert!(one == upscale(at, "b.png", "3", &["--batch", "7"]));
    assert!(one != upscale(at, "c.png", "2", &["--seed", "1"]));
    assert!(one != upscale(at, "d.png", "2", &["--noise", "0.5"]));
    let still = upscale(at, "e.png", "2", &["--noise", "0"]);
    assert!(still == upscale(at, "f.png", "2", &["--noise", "0", "--seed", "1"]));
    // As large a tile as the picture: another way to cut it, not another picture.
    let whole = upscale(at, "g.png", "2", &["--tile", "96"]);
    let off = one.as_raw().iter().zip(whole.as_raw());
    let off = off
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum::<f64>();
    let small = image::open(at.join("in.webp")).unwrap().into_rgb8();
    let plain = image::imageops::resize(&small, 180, 148, image::imageops::FilterType::Nearest);
    let details = one.as_raw().iter().zip(plain.as_raw());
    let details = details
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum::<f64>();
    assert!(off < 0.5 * details, "{off} of {details}");
}

#[test]
fn what_cannot_be_enlarged_is_named() {
    let folder = place(45, 37);
    let at = folder.path();
    patterned(1, 1000, 1000).save(at.join("large.png")).unwrap();
    fs::write(at.join("text.png"), "no picture").unwrap();
    for (args, expected) in [
        (&["nowhere.png"][..], "nowhere.png: cannot be read"),
        (&["text.png"], "text.png: not a picture"),
        (&["in.webp", "--levels", "0"], "levels is 0"),
        (&["in.webp", "--levels", "9"], "levels is 9"),
        (&["large.png", "--levels", "3"], "8000 x 8000"),
        (&["in.webp", "--noise", "-1"], "-1"),
        (&["in.webp", "--noise", "nan"], "noise is NaN"),
        (&["in.webp", "--tile", "1"], "tile is 1"),
        (&["in.webp", "--tile", "99999"], "tile is 99999"),
        (&["in.webp", "--batch", "0"], "at least 1"),
        (&["in.webp", "--out", "./in.webp"], "the picture itself"),
        (&["in.webp", "--out", "missing/a.png"], "missing"),
        (&["in.webp", "--model", "text.png"], "text.png"),
    ] {
        let mut command = wmgm(at, ["upscale"]);
        command.args(args);
        if !args.contains(&"--model") {
            command.args(["--model", "bundle"]);
        }
        fails(command, &[expected]);
    }
    assert_eq!(names(at), ["bundle", "in.webp", "large.png", "text.png"]);
}

#[test]
fn the_library_tells_how_far_it_is_and_stops() {
    let folder = place(45, 37);
    let model = Wmgm::from_bundle(folder.path().join("bundle")).unwrap();
    let picture = patterned(3, 45, 37);
    let options = UpscaleOptions::default();
    let seen = std::cell::RefCell::new(Vec::new());
    let watch = |p| {
        seen.borrow_mut().push(p);
        ControlFlow::Continue(())
    };
    model.upscale(&picture, &options, &watch).unwrap();
    let seen = seen.into_inner();
    let last = seen.last().unwrap();
    assert!(seen.len() > 4 && last.done == last.total, "{seen:?}");
    assert!(seen.windows(2).all(|w| w[0].done < w[1].done));
    let error = model.upscale(&picture, &options, &|_| ControlFlow::Break(()));
    assert!(matches!(error, Err(Error::Cancelled)));
    let none = RgbImage::new(0, 5);
    let error = model.upscale(&none, &options, &|_| ControlFlow::Continue(()));
    assert!(error.unwrap_err().to_string().contains("no pixels"));
}
