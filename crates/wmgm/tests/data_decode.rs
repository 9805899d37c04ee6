//! Files of every kind, and of none.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use wmgm::data::{DecodeError, Limits, decode, decode_file};

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name)
}

fn photo() -> Vec<u8> {
    std::fs::read(case("../../../../assets/pictures/pixabay_cat_001285.jpg")).unwrap()
}

fn read(bytes: &[u8]) -> Result<image::RgbImage, DecodeError> {
    decode(bytes, &Limits::default())
}

#[test]
fn every_lossless_format_gives_its_pixels() {
    let picture = ImageBuffer::from_fn(9, 7, |x, y| {
        Rgb([(x * 28) as u8, (y * 36) as u8, (x * y) as u8])
    });
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
    ] {
        assert_eq!(
            read(&encoded(picture.clone(), format)).unwrap(),
            picture,
            "{format:?}"
        );
    }
    let even = ImageBuffer::from_pixel(9, 7, Rgb([250u8, 10, 130]));
    let gif = encoded(
        DynamicImage::from(even.clone()).into_rgba8(),
        ImageFormat::Gif,
    );
    assert_eq!(read(&gif).unwrap(), even);
}

#[test]
fn grey_becomes_three_channels() {
    let grey = ImageBuffer::from_fn(5, 4, |x, y| Luma([(x * 50 + y) as u8]));
    let made = read(&encoded(grey.clone(), ImageFormat::Png)).unwrap();
    assert!(
        made.pixels()
            .zip(grey.pixels())
            .all(|(m, g)| m.0 == [g.0[0]; 3])
    );
    let jpeg = read(&encoded(
        ImageBuffer::from_pixel(8, 8, Luma([77u8])),
        ImageFormat::Jpeg,
    ))
    .unwrap();
    assert!(jpeg.pixels().all(|p| p.0 == [77; 3]));
}

#[test]
fn sixteen_bits_are_rounded() {
    let picture: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(2, 2, Rgb([0, 128 * 257 + 128, 65535]));
    assert_eq!(
        read(&encoded(picture, ImageFormat::Png))
            .unwrap()
            .get_pixel(1, 1)
            .0,
        [0, 128, 255]
    );
    let grey: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(2, 2, Luma([200 * 257]));
    assert_eq!(
        read(&encoded(grey, ImageFormat::Png))
            .unwrap()
            .get_pixel(0, 0)
            .0,
        [200; 3]
    );
}

#[test]
fn transparency_is_composed_on_white() {
    let made = |p: DynamicImage| {
        read(&encoded(p, ImageFormat::Png))
            .unwrap()
            .get_pixel(0, 0)
            .0
    };
    let rgba = |p| made(ImageBuffer::from_pixel(2, 2, Rgba::<u8>(p)).into());
    assert_eq!(rgba([10, 20, 30, 255]), [10, 20, 30]);
    assert_eq!(rgba([10, 20, 30, 0]), [255; 3]);
    assert_eq!(rgba([0, 100, 255, 128]), [127, 177, 255]); // 127.0, 177.2
    assert_eq!(
        made(ImageBuffer::from_pixel(2, 2, LumaA([0u8, 51])).into()),
        [204; 3]
    );
    let deep: ImageBuffer<Rgba<u16>, Vec<u16>> =
        ImageBuffer::from_pixel(2, 2, Rgba([0, 65535, 257 * 9, 32768]));
    assert_eq!(made(deep.into()), [127, 255, 132]);
}

#[test]
fn cmyk_is_converted() {
    let made = decode_file(case("cmyk.jpg"), &Limits::default()).unwrap();
    let [r, g, b] = made.get_pixel(8, 8).0;
    assert!(r >= 250 && g.abs_diff(127) <= 4 && b <= 5, "{r} {g} {b}");
}

#[test]
fn the_camera_is_turned_upright() {
    let made = decode_file(case("turned.jpg"), &Limits::default()).unwrap();
    assert_eq!(made.dimensions(), (16, 32));
    assert!(made.get_pixel(8, 4).0[0] > 240 && made.get_pixel(8, 28).0[2] > 240);
}

#[test]
fn the_contents_tell_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really-png.jpg");
    std::fs::write(
        &path,
        encoded(
            ImageBuffer::from_pixel(3, 3, Rgb([1u8, 2, 3])),
            ImageFormat::Png,
        ),
    )
    .unwrap();
    assert_eq!(
        decode_file(path, &Limits::default())
            .unwrap()
            .get_pixel(2, 2)
            .0,
        [1, 2, 3]
    );
}

#[test]
fn one_pixel_and_a_long_line() {
    for (w, h) in [(1, 1), (20_000, 1), (1, 20_000)] {
        let made = read(&encoded(
            ImageBuffer::from_pixel(w, h, Rgb([9u8; 3])),
            ImageFormat::Png,
        ))
        .unwrap();
        assert_eq!(made.dimensions(), (w, h));
    }
}

#[test]
fn no_picture_at_all() {
    assert!(matches!(read(&[]), Err(DecodeError::Empty)));
    assert!(matches!(
        read(b"Dear diary, today I am a cat."),
        Err(DecodeError::UnknownFormat)
    ));
    assert!(matches!(read(b"x"), Err(DecodeError::UnknownFormat)));
    assert!(read(&[0xff, 0xd8]).is_err());
    assert!(matches!(
        decode_file("no/such.png", &Limits::default()),
        Err(DecodeError::Io(_))
    ));
}

/// A JPEG decoder fills up what is missing with grey: wherever it is cut, that must not pass for a picture.
#[test]
fn jpegs_cut_anywhere_are_broken() {
    for bytes in [
        photo(),
        std::fs::read(case("progressive.jpg")).unwrap(),
        std::fs::read(case("turned.jpg")).unwrap(),
    ] {
        read(&bytes).unwrap();
        for end in (0..bytes.len())
            .step_by(7)
            .chain(bytes.len() - 16..bytes.len())
        {
            assert!(
                read(&bytes[..end]).is_err(),
                "cut at {end} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn other_formats_cut_in_the_middle_are_broken() {
    let picture = decode(&photo(), &Limits::default()).unwrap();
    for format in [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::Tiff,
        ImageFormat::WebP,
        ImageFormat::Gif,
    ] {
        let picture = DynamicImage::from(picture.clone());
        let picture = if format == ImageFormat::Gif {
            picture.into_rgba8().into()
        } else {
            picture
        };
        let bytes = encoded(picture, format);
        for percent in [10, 30, 50, 70, 90] {
            assert!(
                read(&bytes[..bytes.len() * percent / 100]).is_err(),
                "{format:?} cut at {percent} %"
            );
        }
    }
}

/// Rubbish in the middle may decode or not, but never panics.
#[test]
fn damaged_files_do_no_harm() {
    let jpeg = photo();
    let png = encoded(decode(&jpeg, &Limits::default()).unwrap(), ImageFormat::Png);
    let mut state = 1u32;
    for _ in 0..200 {
        for source in [&jpeg, &png] {
            let mut bytes = source.clone();
            for _ in 0..8 {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                let at = state as usize % bytes.len();
                bytes[at] = (state >> 24) as u8;
            }
            let _ = read(&bytes);
        }
    }
}

/// A file of a few bytes that claims 60000 x 60000 pixels is refused before memory is taken.
#[test]
fn bombs_are_refused() {
    let mut bytes = encoded(
        ImageBuffer::from_pixel(1, 1, Rgb([0u8; 3])),
        ImageFormat::Bmp,
    );
    bytes[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bytes[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    let error = read(&bytes).unwrap_err();
    assert!(
        matches!(error, DecodeError::TooLarge(60_000, 60_000, _)),
        "{error}"
    );

    let bytes = encoded(
        ImageBuffer::from_pixel(100, 100, Rgb([0u8; 3])),
        ImageFormat::Png,
    );
    let few = Limits {
        pixels: 9_999,
        ..Limits::default()
    };
    assert!(matches!(
        decode(&bytes, &few),
        Err(DecodeError::TooLarge(100, 100, 9_999))
    ));
    let tight = Limits {
        memory: 20_000,
        ..Limits::default()
    };
    assert!(decode(&bytes, &tight).is_err());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), &bytes).unwrap();
    let small = Limits {
        file_bytes: 10,
        ..Limits::default()
    };
    assert!(matches!(
        decode_file(folder.path().join("a"), &small),
        Err(DecodeError::FileTooLarge(_, 10))
    ));
}

/// Colours by number, the last of them transparent.
#[test]
fn palettes_are_looked_up() {
    let picture = decode_file(case("palette.png"), &Limits::default()).unwrap();
    assert_eq!(picture.dimensions(), (24, 40));
    for (x, y, colour) in [
        (0, 0, [200, 30, 30]),
        (6, 0, [20, 200, 60]),
        (12, 9, [40, 40, 220]),
        (18, 0, [255, 255, 255]),
        (0, 10, [20, 200, 60]),
    ] {
        assert_eq!(picture.get_pixel(x, y).0, colour, "{x} {y}");
    }
}
