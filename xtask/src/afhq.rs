//! `prepare-afhq`: the pictures that the shipped model is trained on, from the original files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use wmgm::data::{Limits, decode_file, find_pictures};
use wmgm::files::write_folder;
use wmgm::picture::resize;

use crate::split::{self, Part};

/// Side of the original pictures.
const ORIGINAL: u32 = 512;
/// Side of the prepared pictures.
const SIZE: u32 = 128;
/// JPEG quality; chroma is stored in full (4:4:4).
const QUALITY: u8 = 95;
/// Marks a folder as one of ours, which may be replaced.
const MARKER: &str = "README.txt";

/// Arguments of the task.
#[derive(clap::Args)]
pub struct PrepareAfhq {
    /// Folder with the original 512x512 pictures, such as afhq/train/cat; searched with all folders below it
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The list of training and held-out pictures
    #[arg(
        long,
        value_name = "FILE",
        default_value = "assets/data/afhq-cat-split.txt"
    )]
    split: PathBuf,
    /// Folder to write: train/, heldout/ and README.txt
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on without pictures that are listed but not found (version 2 of AFHQ lacks some of version 1)
    #[arg(long)]
    allow_missing: bool,
}

/// Prepares all pictures or, on any fault, writes nothing.
pub fn run(arguments: &PrepareAfhq) -> Result<()> {
    let PrepareAfhq {
        from,
        split,
        out,
        allow_missing,
    } = arguments;
    let list = fs::read_to_string(split)
        .with_context(|| format!("cannot read the list {}", split.display()))?;
    let parts = split::parse(&list).with_context(|| format!("in the list {}", split.display()))?;
    let found = locate(from, &parts)?;
    let missing: Vec<&str> = parts
        .keys()
        .map(String::as_str)
        .filter(|n| !found.contains_key(n))
        .collect();
    ensure!(
        *allow_missing || missing.is_empty(),
        "{} of {} pictures of the list are not in {}: {}; --allow-missing goes on without",
        missing.len(),
        parts.len(),
        from.display(),
        some(&missing)
    );
    ensure!(
        !found.is_empty(),
        "none of the {} pictures of the list are in {}",
        parts.len(),
        from.display()
    );
    eprintln!("preparing {} pictures at {SIZE}x{SIZE}", found.len());
    write_folder(out, MARKER, |folder| -> Result<()> {
        for part in Part::ALL {
            fs::create_dir(folder.join(part.name()))?;
        }
        found.par_iter().try_for_each(|(name, path)| {
            let to = folder.join(parts[*name].name()).join(format!("{name}.jpg"));
            prepare(path, &to).with_context(|| format!("{}", path.display()))
        })?;
        fs::write(folder.join(MARKER), readme(&parts, &found)).context("cannot write README.txt")
    })?;
    eprintln!("{}: {}", out.display(), counts(&parts, &found));
    if !missing.is_empty() {
        eprintln!("missing: {} ({})", missing.len(), some(&missing));
    }
    Ok(())
}

/// The file of each listed name below `from`.
fn locate<'a>(
    from: &Path,
    parts: &'a BTreeMap<String, Part>,
) -> Result<BTreeMap<&'a str, PathBuf>> {
    let mut found: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for relative in find_pictures(from)? {
        let stem = relative
            .file_stem()
            .and_then(|s| s.to_str())
            .unwrap_or_default();
        if let Some((name, _)) = parts.get_key_value(stem) {
            let path = from.join(relative);
            if let Some(other) = found.insert(name, path.clone()) {
                anyhow::bail!(
                    "{} and {} have one name; give --from a folder with one of them",
                    other.display(),
                    path.display()
                );
            }
        }
    }
    Ok(found)
}

/// One picture: antialiased Lanczos to 128x128, JPEG.
fn prepare(from: &Path, to: &Path) -> Result<()> {
    let picture = decode_file(from, &Limits::default())?;
    let (width, height) = picture.dimensions();
    ensure!(
        (width, height) == (ORIGINAL, ORIGINAL),
        "{width}x{height} pixels, but the originals have {ORIGINAL}x{ORIGINAL}"
    );
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode_image(&resize(&picture, SIZE, SIZE))?;
    fs::write(to, jpeg).with_context(|| format!("cannot write {}", to.display()))
}

fn counts(parts: &BTreeMap<String, Part>, found: &BTreeMap<&str, PathBuf>) -> String {
    let count = |part| found.keys().filter(|n| parts[**n] == part).count();
    Part::ALL
        .map(|part| format!("{} {}", part.name(), count(part)))
        .join(", ")
}

fn readme(parts: &BTreeMap<String, Part>, found: &BTreeMap<&str, PathBuf>) -> String {
    format!(
        "AFHQ-Cat, {SIZE}x{SIZE}: {}\n\n\
         From the Animal Faces-HQ data set by NAVER Corporation, released with Y. Choi, Y. Uh, J. Yoo, J.-W. Ha,\n\
         \"StarGAN v2: Diverse Image Synthesis for Multiple Domains\", CVPR 2020, arXiv 1912.01865,\n\
         under Creative Commons BY-NC 4.0 (https://creativecommons.org/licenses/by-nc/4.0/): non-commercial use, with\n\
         this attribution.\n\n\
         Changes: reduced from {ORIGINAL}x{ORIGINAL} with an antialiased Lanczos filter, JPEG quality {QUALITY} with 4:4:4 chroma.\n",
        counts(parts, found)
    )
}

/// The first few names.
fn some(names: &[&str]) -> String {
    let more = if names.len() > 5 { ", ..." } else { "" };
    names.iter().take(5).copied().collect::<Vec<_>>().join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    /// A folder as the original's: two cats in place, one picture that no list names.
    fn original(size: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let cats = folder.path().join("train/cat");
        fs::create_dir_all(&cats).unwrap();
        let picture = RgbImage::from_fn(size, size, |x, y| Rgb([(x / 2) as u8, (y / 2) as u8, 90]));
        for name in ["cat_1.png", "cat_2.png", "dog_1.png"] {
            picture.save(cats.join(name)).unwrap();
        }
        fs::write(
            folder.path().join("list.txt"),
            "[train]\ncat_1\n[heldout]\ncat_2\n",
        )
        .unwrap();
        folder
    }

    fn arguments(folder: &Path) -> PrepareAfhq {
        let (from, split, out) = (
            folder.join("train"),
            folder.join("list.txt"),
            folder.join("out"),
        );
        PrepareAfhq {
            from,
            split,
            out,
            allow_missing: false,
        }
    }

    #[test]
    fn parts_go_where_the_list_says() {
        let folder = original(ORIGINAL);
        for _ in 0..2 {
            run(&arguments(folder.path())).unwrap(); // the second replaces the first
        }
        let out = folder.path().join("out");
        assert!(
            fs::read_to_string(out.join(MARKER))
                .unwrap()
                .contains("train 1, heldout 1")
        );
        for name in ["train/cat_1.jpg", "heldout/cat_2.jpg"] {
            let made = image::open(out.join(name)).unwrap().into_rgb8();
            assert_eq!(made.dimensions(), (SIZE, SIZE));
            assert!(
                made.get_pixel(64, 64)
                    .0
                    .iter()
                    .zip([128, 128, 90])
                    .all(|(a, b)| a.abs_diff(b) <= 3)
            );
        }
        assert_eq!(find_pictures(&out).unwrap().len(), 2);
    }

    #[test]
    fn any_fault_leaves_nothing() {
        let folder = original(64);
        let error = format!("{:#}", run(&arguments(folder.path())).unwrap_err());
        assert!(error.contains("cat_") && error.contains("64x64"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn missing_and_double_pictures_are_named() {
        let folder = original(ORIGINAL);
        let mut arguments = arguments(folder.path());
        fs::write(&arguments.split, "[train]\ncat_1\ncat_9\n").unwrap();
        let error = run(&arguments).unwrap_err().to_string();
        assert!(
            error.contains("1 of 2") && error.contains("cat_9"),
            "{error}"
        );
        arguments.allow_missing = true;
        run(&arguments).unwrap();
        fs::copy(
            folder.path().join("train/cat/cat_1.png"),
            folder.path().join("train/cat_1.png"),
        )
        .unwrap();
        let error = run(&arguments).unwrap_err().to_string();
        assert!(error.contains("have one name"), "{error}");
    }
}
