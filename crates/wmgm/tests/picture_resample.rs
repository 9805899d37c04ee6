//! Resampling against Pillow, byte by byte, and its properties for any sizes.

use std::path::Path;

use proptest::prelude::*;
use wmgm::data::{Limits, decode_file};
use wmgm::picture::{RgbImage, resize, resize_crop};

#[derive(serde::Deserialize)]
struct Cases {
    cases: Vec<Case>,
    photos: Vec<Photo>,
}

#[derive(serde::Deserialize)]
struct Case {
    kind: String,
    seed: u32,
    from: (u32, u32),
    to: (u32, u32),
    hex: String,
}

#[derive(serde::Deserialize)]
struct Photo {
    file: String,
    to: (u32, u32),
    hex: String,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("cases/resample.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

/// The generator of make_cases.py.
fn noise(seed: u32, width: u32, height: u32) -> RgbImage {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    };
    let bytes = std::iter::repeat_with(next)
        .take(3 * (width * height) as usize)
        .collect();
    RgbImage::from_raw(width, height, bytes).unwrap()
}

#[test]
fn the_same_bytes_as_pillow() {
    for case in cases().cases {
        let source = noise(case.seed, case.from.0, case.from.1);
        let made = match case.kind.as_str() {
            "crop" => resize_crop(&source, case.to.0),
            "resize" => resize(&source, case.to.0, case.to.1),
            other => panic!("unknown case {other}"),
        };
        assert_eq!(made.dimensions(), case.to);
        assert_eq!(
            made.as_raw(),
            &bytes(&case.hex),
            "{} {:?} -> {:?}",
            case.kind,
            case.from,
            case.to
        );
    }
}

/// Real photographs: decoders may differ in the last bit, two levels after the reduction is the limit.
#[test]
fn photographs_within_two_levels_of_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/pictures");
    let photos = cases().photos;
    assert_eq!(photos.len(), 4);
    for photo in photos {
        let picture = decode_file(folder.join(&photo.file), &Limits::default()).unwrap();
        let made = resize(&picture, photo.to.0, photo.to.1);
        let worst = made
            .as_raw()
            .iter()
            .zip(bytes(&photo.hex))
            .map(|(a, b)| a.abs_diff(b))
            .max();
        assert!(worst <= Some(2), "{}: {worst:?} levels", photo.file);
    }
}

#[test]
fn the_size_asked_for_changes_nothing() {
    let source = noise(7, 128, 128);
    assert_eq!(resize_crop(&source, 128), source);
    assert_eq!(resize(&source, 128, 128), source);
}

/// Only the centre of 60000 x 1 is computed: the whole, scaled, would be 3 GB.
#[test]
fn a_very_wide_picture_costs_no_memory() {
    let wide = RgbImage::from_fn(60_000, 1, |x, _| image::Rgb([(x / 240) as u8; 3]));
    let made = resize_crop(&wide, 128);
    assert_eq!(made.dimensions(), (128, 128));
    let centre = made.get_pixel(64, 64).0[0];
    assert!((124..=126).contains(&centre), "{centre}");
    assert_eq!(
        resize_crop(&RgbImage::new(1, 60_000), 4).dimensions(),
        (4, 4)
    );
}

#[test]
fn nothing_gives_nothing() {
    assert_eq!(resize(&noise(1, 4, 4), 0, 3).dimensions(), (0, 3));
    assert_eq!(resize_crop(&noise(1, 4, 4), 0).dimensions(), (0, 0));
    assert_eq!(resize_crop(&RgbImage::new(0, 0), 2).dimensions(), (2, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Any size gives the size asked for; an even colour stays that very colour.
    #[test]
    fn even_colours_stay(w in 1u32..300, h in 1u32..300, size in 1u32..100, colour: [u8; 3]) {
        let made = resize_crop(&RgbImage::from_pixel(w, h, image::Rgb(colour)), size);
        prop_assert_eq!(made.dimensions(), (size, size));
        prop_assert!(made.pixels().all(|p| p.0 == colour));
    }

    /// Cutting out while scaling is scaling, then cutting out.
    #[test]
    fn cut_out_is_part_of_the_whole(w in 1u32..60, h in 1u32..60, size in 1u32..40, seed: u32) {
        let source = noise(seed, w, h);
        let short = w.min(h);
        let (long_w, long_h) = ((2 * w * size + short) / (2 * short), (2 * h * size + short) / (2 * short));
        let whole = resize(&source, long_w, long_h);
        let (x, y) = ((long_w - size) / 2, (long_h - size) / 2);
        let expected = image::imageops::crop_imm(&whole, x, y, size, size).to_image();
        prop_assert_eq!(resize_crop(&source, size), expected);
    }

    /// The transposed picture gives the transposed result, up to the rounding between the two passes. (Of middling
    /// values: what the first pass clamps depends on which is first.)
    #[test]
    fn rows_and_columns_are_alike(w in 1u32..40, h in 1u32..40, seed: u32) {
        let mut source = noise(seed, w, h);
        source.iter_mut().for_each(|u| *u = 64 + *u / 2);
        let expected = transposed(&resize(&source, 11, 23));
        let made = resize(&transposed(&source), 23, 11);
        let worst = made.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
        prop_assert!(worst <= Some(3), "{:?}", worst);
    }
}

fn transposed(picture: &RgbImage) -> RgbImage {
    RgbImage::from_fn(picture.height(), picture.width(), |x, y| {
        *picture.get_pixel(y, x)
    })
}
