//! Files and folders are written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use wmgm::files::{FileError, recover_folder, remove_stale, write_atomic, write_folder};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_error_while_writing_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let error = write_atomic(&path, |f| {
        f.write_all(&[1; 1 << 20])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    })
    .unwrap_err();
    assert!(
        error.to_string().contains("weights") && error.to_string().contains("storage"),
        "{error}"
    );
    assert!(names(folder.path()).is_empty());
    // ... and leaves what was there.
    fs::write(&path, "old").unwrap();
    write_atomic(&path, |_| Err(io::Error::other("no"))).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(names(folder.path()), ["weights"]);
}

#[test]
fn a_panic_while_writing_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("on purpose"))).is_err());
    assert!(names(folder.path()).is_empty());
}

/// A disk that is really full: `/dev/full` takes the place of the file.
#[cfg(target_os = "linux")]
#[test]
fn a_full_device_is_an_error() {
    let error = write_atomic("/dev/full", |f| f.write_all(b"x")).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot write /dev/full"),
        "{error}"
    );
    write_atomic("/dev/null", |f| f.write_all(b"x")).unwrap();
    assert!(
        !fs::metadata("/dev/null").unwrap().is_file(),
        "a device must not be replaced"
    );
}

#[test]
fn what_is_there_is_replaced_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, "old").unwrap();
    write_atomic(&path, |f| {
        f.write_all(b"new")?;
        f.flush()?;
        assert_eq!(fs::read_to_string(&path)?, "old", "seen before it is whole");
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(names(folder.path()), ["x"]);
}

#[test]
fn many_writers_of_one_name_leave_one_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::thread::scope(|s| {
        for i in 0..8u8 {
            let path = &path;
            s.spawn(move || {
                (0..10).for_each(|_| write_atomic(path, |f| f.write_all(&[i; 10_000])).unwrap())
            });
        }
    });
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.len() == 10_000 && bytes.iter().all(|b| *b == bytes[0]));
    assert_eq!(names(folder.path()), ["x"]);
}

#[test]
fn bad_places_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = write_atomic(folder.path().join("a/b"), |_| Ok(())).unwrap_err();
    assert!(
        matches!(&missing, FileError::NoFolder { folder, .. } if folder.ends_with("a")),
        "{missing}"
    );
    let error = write_atomic(folder.path(), |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
    assert!(write_atomic("", |_| Ok(())).is_err());
    assert!(write_atomic("..", |_| Ok(())).is_err());
    assert!(write_folder::<FileError, _>("..", "m", |_| Ok(())).is_err());
    let long = folder.path().join("x".repeat(250)); // the temporary's name must not be the longer one that fails
    write_atomic(&long, |_| Ok(())).unwrap();
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_permissions_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", &link).unwrap();
    write_atomic(&link, |f| f.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    assert_eq!(
        fs::metadata(&real).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

fn bundle(target: &Path, text: &str) -> Result<(), FileError> {
    write_folder(target, "config.json", |f| {
        write_atomic(f.join("config.json"), |w| w.write_all(text.as_bytes()))?;
        fs::create_dir(f.join("below")).unwrap();
        fs::write(f.join("below").join(text), text).unwrap();
        Ok(())
    })
}

#[test]
fn folders_come_and_are_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle");
    for text in ["one", "two", "three"] {
        bundle(&target, text).unwrap();
        assert_eq!(
            fs::read_to_string(target.join("config.json")).unwrap(),
            text
        );
        assert_eq!(names(&target.join("below")), [text]);
        assert_eq!(names(folder.path()), ["bundle"]);
    }
    // An empty folder is anybody's.
    fs::create_dir(folder.path().join("empty")).unwrap();
    bundle(&folder.path().join("empty"), "x").unwrap();
}

#[test]
fn a_failed_folder_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bundle");
    let fail = |f: &Path| -> Result<(), FileError> {
        fs::write(f.join("config.json"), "half").unwrap();
        write_atomic(
            f.join("weights"),
            |_| Err(io::ErrorKind::StorageFull.into()),
        )
    };
    write_folder(&target, "config.json", fail).unwrap_err();
    assert!(names(folder.path()).is_empty());
    bundle(&target, "old").unwrap();
    write_folder(&target, "config.json", fail).unwrap_err();
    assert_eq!(
        fs::read_to_string(target.join("config.json")).unwrap(),
        "old"
    );
    assert_eq!(names(folder.path()), ["bundle"]);
}

#[test]
fn a_foreign_folder_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years").unwrap();
    let error = bundle(folder.path(), "x").unwrap_err();
    assert!(
        matches!(error, FileError::NotOurs { .. }) && error.to_string().contains("config.json"),
        "{error}"
    );
    assert_eq!(names(folder.path()), ["thesis.txt"]);
    let file = folder.path().join("thesis.txt");
    assert!(bundle(&file, "x").is_err());
    assert_eq!(fs::read_to_string(file).unwrap(), "years");
}

/// What a process killed between the two renames of the fallback leaves behind is put right.
#[test]
fn an_interrupted_replacement_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let (target, previous) = (
        folder.path().join("bundle"),
        folder.path().join(".bundle.previous"),
    );
    bundle(&target, "old").unwrap();
    fs::rename(&target, &previous).unwrap();
    assert!(recover_folder(&target).unwrap());
    assert_eq!(
        fs::read_to_string(target.join("config.json")).unwrap(),
        "old"
    );
    assert!(!recover_folder(&target).unwrap());
    bundle(&previous, "older").unwrap();
    bundle(&target, "new").unwrap();
    assert_eq!(names(folder.path()), ["bundle"]);
}

#[test]
fn only_temporaries_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        ".a.b.12-3.tmp",
        ".x.1-0.tmp",
        ".a.tmp",
        "a.1-2.tmp",
        ".a.1-.tmp",
        ".a.x-2.tmp",
        "last.ckpt",
    ] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    fs::create_dir_all(folder.path().join(".bundle.7-7.tmp/below")).unwrap();
    assert_eq!(remove_stale(folder.path()).unwrap(), 3);
    assert_eq!(
        names(folder.path()),
        [
            ".a.1-.tmp",
            ".a.tmp",
            ".a.x-2.tmp",
            "a.1-2.tmp",
            "last.ckpt"
        ]
    );
    assert!(
        remove_stale(folder.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("none")
    );
}
