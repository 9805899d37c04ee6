//! `wmgm upscale`.

use super::device::DeviceArgs;
use super::say::say;
use super::{embedded, progress};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;
use wmgm::Wmgm;
use wmgm::data::{Limits, decode_file};
use wmgm::error::{Error, Result};
use wmgm::files::check_writable;
use wmgm::picture;
use wmgm::upscale::{UpscaleOptions, UpscaleProgress};

/// Enlarge a picture by 2, 4, 8 ..., with details that the generator makes up.
///
/// The picture, of any size and kind, is taken for the low band of a larger one. Averaged down again the result is the
/// picture itself (of a Haar model, but for rounding and clipping). Large pictures are done in overlapping tiles; the same seed gives
/// the same result whatever the batch and the number of threads.
#[derive(Debug, clap::Args)]
pub struct UpscaleArgs {
    /// The picture.
    #[arg(value_name = "IN")]
    picture: PathBuf,
    /// Levels of details: sides grow by 2^K, 1 to 8.
    #[arg(long, value_name = "K", default_value_t = 2)]
    levels: usize,
    /// PNG to write.
    #[arg(long, value_name = "FILE", default_value = "upscaled.png")]
    out: PathBuf,
    /// Folder of a bundle; the model inside the program unless given.
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// Seed of the details.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Strength of the generator's noise, 0 to 2: 1 as trained, 0 the same details for every seed.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    noise: f64,
    /// Side of the tiles, in pixels before each doubling [default: half the size of the model's pictures].
    #[arg(long, value_name = "SIDE")]
    tile: Option<usize>,
    /// Tiles made at a time.
    #[arg(long, value_name = "B", default_value_t = 4, value_parser = super::at_least_1)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

impl UpscaleArgs {
    pub fn run(self) -> Result<()> {
        let picture = decode_file(&self.picture, &Limits::default())
            .map_err(|e| Error::Argument(format!("{}: {e}", self.picture.display())))?;
        if super::same_place(&self.picture, &self.out) {
            return Err(Error::Argument(format!(
                "--out {} is the picture itself, which would be overwritten; name another",
                self.out.display()
            )));
        }
        check_writable(&self.out)?;
        let device = self.device.open()?;
        let model = Wmgm::new(embedded::bundle(self.model.as_deref(), &device)?, &device);
        let stop = progress::stop_flag();
        let bar = progress::bar(0, "tiles");
        let watch = |p: UpscaleProgress| {
            bar.set_length(p.total as u64);
            bar.set_position(p.done as u64);
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let options = UpscaleOptions {
            levels: self.levels,
            seed: self.seed,
            noise: self.noise,
            tile: self.tile,
            batch: self.batch,
        };
        let start = Instant::now();
        let made = model.upscale(&picture, &options, &watch)?;
        bar.finish_and_clear();
        picture::save_png(&self.out, &made)?;
        say(&format!(
            "written   {} x {} from {} x {} in {:.2} s: {}\n",
            made.width(),
            made.height(),
            picture.width(),
            picture.height(),
            start.elapsed().as_secs_f64(),
            self.out.display()
        ))
    }
}
