//! Values to bytes and back, sheets, PNG files.

use wmgm::picture::{Layout, PictureError, RgbImage, from_values, save_png, sheet, to_values};

#[test]
fn every_byte_comes_back() {
    let picture = RgbImage::from_fn(16, 16, |x, y| {
        image::Rgb([(16 * y + x) as u8, (x * 16) as u8, 255 - (16 * y + x) as u8])
    });
    let values = to_values(&picture);
    assert_eq!(values[..2], [-1.0, 1.0 / 127.5 - 1.0]); // first plane: red
    assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
    assert_eq!(from_values(&values, 16, 16, 0).unwrap(), vec![picture]);
}

#[test]
fn halves_go_away_from_zero_and_excess_is_clamped() {
    // 0 is 127.5; -1 + 1/255 is just about half a level
    let values = [0.0, -1.5, 1.5, f32::MAX, f32::MIN, -1.0 + 0.9 / 255.0];
    let made = from_values(&values, 2, 1, 0).unwrap();
    assert_eq!(made[0].as_raw(), &[128, 255, 0, 0, 255, 0]);
}

#[test]
fn nan_names_the_picture_and_the_place() {
    let mut values = vec![0.0; 2 * 3 * 4 * 5];
    values[60 + 20 + 2 * 5 + 3] = f32::NAN;
    let error = from_values(&values, 5, 4, 30).unwrap_err();
    assert!(
        matches!(
            error,
            PictureError::NotFinite {
                picture: 31,
                channel: 1,
                row: 2,
                column: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("picture 31") && error.to_string().contains("NaN"),
        "{error}"
    );
    values[60 + 20 + 2 * 5 + 3] = f32::INFINITY;
    assert!(from_values(&values, 5, 4, 0).is_err());
}

#[test]
fn a_wrong_number_of_values_is_refused() {
    for (count, w, h) in [(11, 2, 2), (12, 0, 2), (12, 5, 1)] {
        let error = from_values(&vec![0.0; count], w, h, 0).unwrap_err();
        assert!(error.to_string().contains(&count.to_string()), "{error}");
    }
    assert!(from_values(&[], 2, 2, 0).unwrap().is_empty());
}

fn even(count: usize) -> Vec<RgbImage> {
    (0..count)
        .map(|i| RgbImage::from_pixel(3, 2, image::Rgb([i as u8; 3])))
        .collect()
}

#[test]
fn a_sheet_goes_row_by_row() {
    let made = sheet(
        &even(5),
        Layout {
            columns: Some(3),
            gap: 1,
            background: [200, 0, 0],
        },
    )
    .unwrap();
    assert_eq!(made.dimensions(), (1 + 3 * 4, 1 + 2 * 3));
    for i in 0..5u32 {
        let (x, y) = (1 + (i % 3) * 4, 1 + (i / 3) * 3);
        assert_eq!(made.get_pixel(x, y).0, [i as u8; 3]);
        assert_eq!(made.get_pixel(x + 2, y + 1).0, [i as u8; 3]);
        assert_eq!(made.get_pixel(x + 3, y).0, [200, 0, 0]);
    }
    assert_eq!(made.get_pixel(10, 4).0, [200, 0, 0]); // the place left over
}

#[test]
fn columns_are_near_square() {
    let columns = |n| Layout::default().columns_for(n);
    assert_eq!(
        [1, 2, 3, 4, 6, 7, 8, 9, 12, 16, 64, 65].map(columns),
        [1, 2, 3, 2, 3, 3, 4, 3, 4, 4, 8, 9]
    );
    assert_eq!(
        Layout {
            columns: Some(0),
            ..Layout::default()
        }
        .columns_for(4),
        1
    );
    assert_eq!(
        Layout {
            columns: Some(99),
            ..Layout::default()
        }
        .columns_for(4),
        4
    );
    assert_eq!(columns(0), 1);
}

#[test]
fn odd_sheets_are_refused() {
    assert!(matches!(
        sheet(&[], Layout::default()),
        Err(PictureError::Empty)
    ));
    let mut pictures = even(4);
    pictures[2] = RgbImage::new(5, 5);
    let error = sheet(&pictures, Layout::default()).unwrap_err().to_string();
    assert_eq!(error, "picture 2 is 5x5, but 3x2 was expected");
    let wide = Layout {
        gap: u32::MAX,
        ..Layout::default()
    };
    assert!(matches!(
        sheet(&even(4), wide),
        Err(PictureError::TooLarge { .. })
    ));
}

#[test]
fn png_files_hold_the_picture_and_are_repeatable() {
    let folder = tempfile::tempdir().unwrap();
    let picture = RgbImage::from_fn(37, 21, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8])
    });
    let [a, b] = ["a.png", "b.png"].map(|n| folder.path().join(n));
    save_png(&a, &picture).unwrap();
    save_png(&b, &picture).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    assert_eq!(image::open(&a).unwrap().into_rgb8(), picture);
    let error = save_png(folder.path().join("no/such.png"), &picture)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("such.png") && error.contains("does not exist"),
        "{error}"
    );
    // An empty picture is none that PNG can hold: an error, and no file.
    let none = folder.path().join("none.png");
    assert!(save_png(&none, &RgbImage::new(0, 0)).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
