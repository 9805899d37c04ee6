//! `nearest`: has a model learned its training pictures by heart?

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use wmgm::data::{LoadOptions, PictureSet, nearest_sheet, quiet};
use wmgm::picture::{Layout, save_png};

/// Arguments of the task.
#[derive(clap::Args)]
pub struct Nearest {
    /// Folder of pictures to look up
    samples: PathBuf,
    /// Folder of pictures to look among
    training: PathBuf,
    /// How many of the first folder, in the order of their names
    #[arg(long, default_value_t = 16)]
    count: usize,
    /// Side that all pictures are brought to
    #[arg(long, default_value_t = 128)]
    size: u32,
    /// The sheet: each picture with its neighbour to the right
    #[arg(long, value_name = "FILE", default_value = "nearest.png")]
    out: PathBuf,
}

/// Draws the sheet and names the neighbours.
pub fn run(arguments: &Nearest) -> Result<()> {
    let load = |folder: &PathBuf| -> Result<PictureSet> {
        let (set, broken) =
            PictureSet::load(folder, arguments.size, &LoadOptions::default(), &quiet)
                .with_context(|| format!("in {}", folder.display()))?;
        broken.iter().for_each(|b| eprintln!("skipped {b}"));
        Ok(set)
    };
    ensure!(arguments.count > 0, "--count is 0, it must be at least 1");
    let (samples, training) = (load(&arguments.samples)?, load(&arguments.training)?);
    let count = arguments.count.min(samples.len());
    let pictures = (0..count)
        .map(|i| samples.picture(i))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let (sheet, neighbours) = nearest_sheet(&pictures, &training, Layout::default())?;
    for (i, n) in neighbours.iter().enumerate() {
        println!(
            "{:30} {:30} {:6.2} of 255 at 32 x 32{}",
            samples.name(i)?.display(),
            training.name(n.index)?.display(),
            n.distance,
            if n.flipped { ", mirrored" } else { "" }
        );
    }
    save_png(&arguments.out, &sheet)?;
    println!("{}", arguments.out.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wmgm::picture::RgbImage;

    #[test]
    fn a_picture_is_nearest_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            std::fs::create_dir(folder(name)).unwrap();
        }
        for i in 0..3u8 {
            let picture = RgbImage::from_fn(16, 16, |x, y| {
                image::Rgb([40 * i, (x * 9) as u8, (y * 7) as u8])
            });
            save_png(folder("a").join(format!("{i}.png")), &picture).unwrap();
            save_png(folder("b").join(format!("{}.png", 2 - i)), &picture).unwrap();
        }
        let out = folder("sheet.png");
        let arguments = |count| Nearest {
            samples: folder("a"),
            training: folder("b"),
            count,
            size: 16,
            out: out.clone(),
        };
        run(&arguments(3)).unwrap();
        let sheet = image::open(&out).unwrap().to_rgb8();
        // Three pairs in a row, each of two equal pictures side by side.
        assert_eq!(sheet.dimensions(), (2 + 3 * (32 + 2), 2 + 16 + 2));
        for (x, y) in [(2, 2), (36, 2), (70, 2)] {
            let part = |x| image::imageops::crop_imm(&sheet, x, y, 16, 16).to_image();
            assert_eq!(part(x), part(x + 16));
        }
        assert!(run(&arguments(0)).is_err());
    }
}
