//! Folders of pictures as sets.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use image::Rgb;
use wmgm::data::{
    DataError, LoadOptions, LoadProgress, PictureSet, PictureStream, find_pictures, nearest,
    nearest_sheet, quiet,
};
use wmgm::picture::{Layout, PictureError, RgbImage, save_png, to_values};

fn patterned(seed: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let v = seed
            .wrapping_mul(2654435761)
            .wrapping_add(x * 40503 + y * 9973 + x * y * seed);
        Rgb([(v >> 3) as u8, (v >> 7) as u8, (v >> 11) as u8])
    })
}

/// Sixty pictures of many sizes, with `broken` more files of text.
fn folder(broken: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    for i in 0..60u32 {
        let name = ["", "b/", "b/c/"][i as usize % 3].to_owned() + &format!("{i:02}.png");
        save_png(
            folder.path().join(name),
            &patterned(i, 10 + i % 17, 10 + i % 23),
        )
        .unwrap();
    }
    for i in 0..broken {
        fs::write(
            folder.path().join(format!("broken{i}.jpg")),
            "not a picture",
        )
        .unwrap();
    }
    folder
}

fn load(
    folder: &Path,
    max_broken: f64,
) -> Result<(PictureSet, Vec<wmgm::data::Broken>), DataError> {
    PictureSet::load(
        folder,
        8,
        &LoadOptions {
            max_broken,
            ..LoadOptions::default()
        },
        &quiet,
    )
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = folder(2);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| load(folder.path(), 0.1).unwrap())
    };
    let (one, broken) = with(1);
    assert_eq!((one.len(), one.size(), broken.len()), (60, 8, 2));
    for threads in [2, 7] {
        let (other, also) = with(threads);
        assert_eq!(broken, also);
        assert_eq!(one.fingerprint(), other.fingerprint());
        for i in 0..one.len() {
            assert_eq!(
                (one.name(i).unwrap(), one.rgb(i).unwrap()),
                (other.name(i).unwrap(), other.rgb(i).unwrap())
            );
        }
    }
}

#[test]
fn pictures_are_found_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "b.JPG",
        "a/z.png",
        "a.png",
        "a-b/x.gif",
        "B.jpeg",
        "notes.txt",
        ".hidden.png",
        ".git/x.png",
        "a/a/a.tif",
    ] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let expected = [
        "B.jpeg",
        "a-b/x.gif",
        "a.png",
        "a/a/a.tif",
        "a/z.png",
        "b.JPG",
    ]
    .map(PathBuf::from);
    assert_eq!(find_pictures(folder.path()).unwrap(), expected);
}

#[cfg(unix)]
#[test]
fn links_are_followed_without_going_round() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    save_png(folder.path().join("real/x.png"), &patterned(1, 8, 8)).unwrap();
    symlink("real", folder.path().join("again")).unwrap();
    symlink("..", folder.path().join("real/round")).unwrap();
    symlink("real/x.png", folder.path().join("y.png")).unwrap();
    symlink("nowhere", folder.path().join("z.png")).unwrap();
    let expected = ["again/x.png", "y.png", "z.png"].map(PathBuf::from);
    assert_eq!(find_pictures(folder.path()).unwrap(), expected);
    let (set, broken) = load(folder.path(), 0.5).unwrap();
    assert_eq!(
        (set.len(), broken[0].path.as_path()),
        (2, Path::new("z.png"))
    );
    assert!(broken[0].reason.contains("cannot be read"), "{}", broken[0]);
}

#[test]
fn broken_pictures_are_named_and_too_many_stop() {
    let folder = folder(1);
    let (set, broken) = load(folder.path(), 0.02).unwrap(); // 1 of 61 is 1.6 %
    assert_eq!((set.len(), broken.len()), (60, 1));
    assert_eq!(broken[0].path, Path::new("broken0.jpg"));
    assert!((0..set.len()).all(|i| set.name(i).unwrap() != Path::new("broken0.jpg")));
    // The gap is closed: the picture after the broken one is its own.
    let last = set.picture(59).unwrap();
    assert_eq!(set.name(59).unwrap(), Path::new("b/c/59.png"));
    assert_eq!(
        last,
        wmgm::picture::resize_crop(&patterned(59, 10 + 59 % 17, 10 + 59 % 23), 8)
    );

    let error = load(folder.path(), 0.01).unwrap_err().to_string();
    assert!(
        error.contains("1 of 61") && error.contains("broken0.jpg") && error.contains("1.000 %"),
        "{error}"
    );
    assert!(load(folder.path(), f64::NAN).is_err());
}

#[test]
fn an_empty_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("readme.md"), "").unwrap();
    let error = load(folder.path(), 1.0).unwrap_err().to_string();
    assert!(
        error.contains(&folder.path().display().to_string()) && error.contains("1 other files"),
        "{error}"
    );
    assert!(matches!(
        load(&folder.path().join("none"), 1.0),
        Err(DataError::Folder { .. })
    ));
    assert!(matches!(
        load(&folder.path().join("readme.md"), 1.0),
        Err(DataError::Folder { .. })
    ));
    fs::write(folder.path().join("empty.png"), "").unwrap();
    let error = load(folder.path(), 1.0).unwrap_err().to_string(); // even where all may be broken
    assert!(error.contains("empty.png (the file is empty)"), "{error}");
}

#[test]
fn impossible_sizes_are_refused() {
    let folder = folder(0);
    for size in [0, 100_000] {
        let error =
            PictureSet::load(folder.path(), size, &LoadOptions::default(), &quiet).unwrap_err();
        assert!(matches!(error, DataError::Resolution { .. }), "{error}");
    }
}

#[test]
fn progress_counts_up_and_can_stop() {
    let folder = folder(0);
    let seen = Mutex::new(Vec::new());
    let record = |p: LoadProgress| {
        seen.lock().unwrap().push((p.done, p.total));
        ControlFlow::Continue(())
    };
    PictureSet::load(folder.path(), 8, &LoadOptions::default(), &record).unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        (1..=60).map(|i| (i, 60)).collect::<Vec<_>>()
    );
    let stop = |p: LoadProgress| {
        if p.done == 5 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let error = PictureSet::load(folder.path(), 8, &LoadOptions::default(), &stop).unwrap_err();
    assert!(matches!(error, DataError::Cancelled));
}

#[test]
fn values_are_planes_and_flip() {
    let picture = patterned(3, 4, 4);
    let set = PictureSet::from_pictures(4, [("x".into(), picture.clone())]).unwrap();
    let (mut plain, mut flipped) = (vec![0.0; 48], vec![0.0; 48]);
    set.fill_f32(0, false, &mut plain).unwrap();
    set.fill_f32(0, true, &mut flipped).unwrap();
    assert_eq!(plain, to_values(&picture));
    assert_eq!(
        flipped,
        to_values(&image::imageops::flip_horizontal(&picture))
    );
    assert!(matches!(
        set.fill_f32(1, false, &mut plain),
        Err(DataError::Index { index: 1, len: 1 })
    ));
    assert!(matches!(
        set.fill_f32(usize::MAX, false, &mut plain),
        Err(DataError::Index { .. })
    ));
    assert!(matches!(
        set.fill_f32(0, false, &mut plain[1..]),
        Err(DataError::Values { found: 47, .. })
    ));
    assert!(set.name(1).is_err());
    let error = PictureSet::from_pictures(5, [("cat.png".into(), picture)])
        .unwrap_err()
        .to_string();
    assert!(error.contains("cat.png"), "{error}");
}

/// 128x128 pictures pass through unchanged: what was prepared is what is learned.
#[test]
fn real_pictures_load_unchanged() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/pictures");
    let (set, broken) = PictureSet::load(&folder, 128, &LoadOptions::default(), &quiet).unwrap();
    assert_eq!((set.len(), broken.len()), (4, 0));
    for i in 0..4 {
        let decoded = image::open(folder.join(set.name(i).unwrap()))
            .unwrap()
            .into_rgb8();
        assert_eq!(set.picture(i).unwrap(), decoded);
    }
}

#[test]
fn the_nearest_picture_is_found_mirrored_too() {
    let pictures = (0..9).map(|i| (format!("{i}.png").into(), patterned(i + 1, 48, 48)));
    let set = PictureSet::from_pictures(48, pictures).unwrap();
    let mut noisy = set.picture(2).unwrap();
    noisy
        .pixels_mut()
        .for_each(|p| p.0[0] = p.0[0].saturating_add(3));
    let samples = [
        image::imageops::flip_horizontal(&set.picture(6).unwrap()),
        noisy,
    ];
    let (sheet, found) = nearest_sheet(
        &samples,
        &set,
        Layout {
            columns: Some(1),
            gap: 0,
            background: [0; 3],
        },
    )
    .unwrap();
    assert_eq!((found[0].index, found[0].flipped), (6, true));
    assert!(found[0].distance < 1.0, "{}", found[0].distance); // resampling the mirror image rounds alike, or nearly
    assert_eq!((found[1].index, found[1].flipped), (2, false));
    assert!(
        found[1].distance > 0.5 && found[1].distance < 4.0,
        "{}",
        found[1].distance
    );
    assert_eq!(sheet.dimensions(), (96, 96));
    assert_eq!(sheet.get_pixel(50, 3), sheet.get_pixel(2, 3)); // beside it, mirrored as it is
    let error = nearest(&[patterned(1, 32, 32)], &set).unwrap_err();
    assert!(
        matches!(error, PictureError::Size { picture: 0, .. }),
        "{error}"
    );
}

/// The pictures of a stream are those of a set, in its order, whatever the batch, and as often as asked.
#[test]
fn a_stream_reads_in_order_and_leaves_broken_files_out() {
    let folder = folder(1);
    let options = |max_broken| LoadOptions {
        max_broken,
        ..LoadOptions::default()
    };
    let (set, skipped) = load(folder.path(), 0.05).unwrap();
    let stream = PictureStream::open(folder.path(), &options(0.05)).unwrap();
    assert_eq!((stream.len(), stream.is_empty()), (61, false));
    for batch in [0, 1, 7, 100] {
        let mut seen = Vec::new();
        let counts = Mutex::new(Vec::new());
        let broken = stream
            .read(
                batch,
                &|p: LoadProgress| {
                    counts.lock().unwrap().push(p.done);
                    ControlFlow::Continue(())
                },
                |i, picture| Ok::<_, DataError>((i, wmgm::picture::resize_crop(&picture, 8))),
                |made| {
                    seen.extend(made);
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(broken, skipped);
        assert_eq!(seen.len(), 60);
        for (k, (i, (j, picture))) in seen.iter().enumerate() {
            assert!(i == j && *picture == set.picture(k).unwrap(), "{batch} {k}");
        }
        let counts = counts.into_inner().unwrap();
        assert!(counts.is_sorted() && counts.last() == Some(&61));
    }
    let read = |max_broken, stop| {
        let go_on = move |_| match stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let stream = PictureStream::open(folder.path(), &options(max_broken)).unwrap();
        let map = |_, _| Ok::<_, DataError>(());
        stream.read(8, &go_on, map, |_| Ok(())).unwrap_err()
    };
    assert!(matches!(
        read(0.0, false),
        DataError::TooManyBroken { found: 61, .. }
    ));
    assert!(matches!(read(0.05, true), DataError::Cancelled));
}
