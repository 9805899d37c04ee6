//! `wmgm regenerate`.

use super::device::{DeviceArgs, PrecisionArgs};
use super::say::{say, warn};
use super::{embedded, progress};
use nn_ops::precision;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use wmgm::data::{LoadOptions, LoadProgress, PictureSet};
use wmgm::error::{Error, Result};
use wmgm::picture;
use wmgm::pipeline::Wmgm;

/// Keep each picture's low band and make its details anew.
///
/// Shows what the detail generator does by itself: the low band is the picture's own. Pictures of any size are first
/// scaled and cropped to the model's. Names are kept, as PNG.
#[derive(Debug, clap::Args)]
pub struct RegenerateArgs {
    /// Folder of pictures, searched with its subfolders.
    folder: PathBuf,
    /// Folder to write to.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Side of the low band to keep; one of the model's levels.
    #[arg(long, value_name = "SIDE", default_value_t = 32)]
    low: usize,
    /// Folder of a bundle; the model inside the program unless given.
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// Seed of the details.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Pictures made at a time.
    #[arg(long, value_name = "B", default_value_t = 16, value_parser = super::at_least_1)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    dtype: PrecisionArgs,
}

/// The number that addresses a picture's noise: a hash of its name, so that it does not depend on its neighbours.
fn address(name: &Path) -> u64 {
    let text = name.to_string_lossy().replace('\\', "/");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ b as u64).wrapping_mul(0x0100_0000_01b3)
    });
    hash & ((1 << 48) - 1)
}

impl RegenerateArgs {
    pub fn run(self) -> Result<()> {
        if super::same_place(&self.folder, &self.out) {
            return Err(Error::Argument(format!(
                "--out {} is the folder of the pictures themselves, which would be overwritten; name another",
                self.out.display()
            )));
        }
        let device = self.device.open()?;
        let dtype = self.dtype.on(&device)?;
        let model = Wmgm::new(embedded::bundle(self.model.as_deref(), &device)?, &device);
        model.level_of(self.low)?;
        let stop = progress::stop_flag();
        let go_on = || match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let reading = progress::bar(0, "reading");
        let (set, broken) = PictureSet::load(
            &self.folder,
            model.bundle().config.size as u32,
            &LoadOptions::default(),
            &|p: LoadProgress| {
                reading.set_length(p.total as u64);
                reading.set_position(p.done as u64);
                go_on()
            },
        )?;
        reading.finish_and_clear();
        for broken in &broken {
            warn(&format!("skipped {broken}"));
        }
        let mut names = Vec::with_capacity(set.len());
        let mut outputs: BTreeMap<PathBuf, &Path> = BTreeMap::new();
        for i in 0..set.len() {
            let name = set.name(i)?;
            if let Some(other) = outputs.insert(name.with_extension("png"), name) {
                return Err(Error::Argument(format!(
                    "{} and {} would both become {}; rename one",
                    other.display(),
                    name.display(),
                    name.with_extension("png").display()
                )));
            }
            names.push(name.to_owned());
        }
        std::fs::create_dir_all(&self.out).map_err(|e| Error::io("create", &self.out, e))?;
        let bar = progress::bar(set.len() as u64, "details");
        for start in (0..set.len()).step_by(self.batch) {
            let part = start..(start + self.batch).min(set.len());
            let made = precision::with(dtype, || {
                let index = |i: usize| address(&names[i]);
                model.regenerate(&set, part.clone(), self.low, self.seed, index)
            })?;
            for (i, made) in part.zip(made) {
                let path = self.out.join(&names[i]).with_extension("png");
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
                }
                picture::save_png(&path, &made)?;
                bar.inc(1);
            }
            if go_on().is_break() {
                return Err(Error::Cancelled);
            }
        }
        bar.finish_and_clear();
        say(&format!(
            "written   {} pictures in {}\n",
            set.len(),
            self.out.display()
        ))
    }
}
