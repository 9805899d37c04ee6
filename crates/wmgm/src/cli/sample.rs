//! `wmgm sample`.

use super::device::{DeviceArgs, PrecisionArgs};
use super::place::{GuideArgs, ModelArgs};
use super::progress;
use super::say::say;
use nn_ops::precision;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use wmgm::error::{Error, Result};
use wmgm::files::check_writable;
use wmgm::picture;
use wmgm::pipeline::{COLUMNS, Model, Pipeline, Plan, SampleEvent, SampleOptions};

/// Make pictures.
///
/// Picture i of a seed is the same whatever the batch, the shard and the number of threads.
#[derive(Debug, clap::Args)]
pub struct SampleArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    guide: GuideArgs,
    /// Number of pictures.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1 << 48))]
    count: u64,
    /// Seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Steps of the sampler [default: the model's].
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
    /// Sampler: heun (2 evaluations a step), dpmpp-2m, euler and others, which a wrong name lists; of models of other programs
    /// also those of their processes, such as ddpm and predictor-corrector [default: the model's].
    #[arg(long, value_name = "NAME")]
    sampler: Option<String>,
    /// Class of all pictures, for models that have classes [default: each in turn].
    #[arg(long, value_name = "K")]
    class: Option<usize>,
    /// Pictures made at a time.
    #[arg(long, value_name = "B", default_value_t = 16, value_parser = super::at_least_1)]
    batch: usize,
    /// File of the sheet, or folder of the files [default: samples.png, or samples with --files].
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// All pictures on one sheet (the default).
    #[arg(long, conflicts_with = "files")]
    sheet: bool,
    /// One PNG per picture, named by its number.
    #[arg(long)]
    files: bool,
    /// In place of the pictures draw how they come about, a row each: the low band as it is seen at up to 16 steps of the
    /// sampler, then with the details of one level more each; of diffusions on pixels the noisy pictures [default file:
    /// trajectory.png].
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "trajectory.png", conflicts_with_all = ["files", "sheet", "out"])]
    trajectory: Option<PathBuf>,
    /// Make only the i-th of n parts of the pictures, counting from 1.
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<(u64, u64)>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    dtype: PrecisionArgs,
}

fn parse_shard(text: &str) -> std::result::Result<(u64, u64), String> {
    let parse = || {
        let (i, n) = text.split_once('/')?;
        let (i, n): (u64, u64) = (i.parse().ok()?, n.parse().ok()?);
        (1..=n).contains(&i).then_some((i, n))
    };
    parse().ok_or_else(|| format!("{text:?} is not I/N with 1 <= I <= N, such as 2/4"))
}

/// The part of 0..count that is shard i (from 1) of n.
fn part(count: u64, (i, n): (u64, u64)) -> Range<u64> {
    let at = |i: u64| (count as u128 * i as u128 / n as u128) as u64;
    at(i - 1)..at(i)
}

impl SampleArgs {
    pub fn run(self) -> Result<()> {
        let pictures = part(self.count, self.shard.unwrap_or((1, 1)));
        if pictures.is_empty() {
            return Err(Error::Argument(format!(
                "--shard: this part of {} pictures is empty; use fewer parts",
                self.count
            )));
        }
        let device = self.device.open()?;
        let dtype = self.dtype.on(&device)?;
        let model = self.guide.guided(self.model.open(&device)?, &device)?;
        let options = SampleOptions {
            seed: self.seed,
            pictures: pictures.clone(),
            batch: self.batch,
            sampler: self.sampler.clone(),
            steps: self.steps,
            class: self.class,
        };
        let Plan {
            sampler,
            steps,
            work,
        } = model.plan(&options)?;
        let usual = if self.files { "samples" } else { "samples.png" };
        let out = self.trajectory.as_ref().or(self.out.as_ref());
        let out = out.cloned().unwrap_or_else(|| usual.into());
        // An output that cannot be written should say so before the work, not after it.
        if self.files {
            std::fs::create_dir_all(&out).map_err(|e| Error::io("create", &out, e))?;
            check_writable(out.join(file_name(pictures.start)))?;
        } else {
            check_writable(&out)?;
            self.check_sheet(pictures.end - pictures.start, &model, steps)?;
        }

        let stop = progress::stop_flag();
        let bar = progress::bar(pictures.end - pictures.start, "sampling");
        let watch = |event: SampleEvent| {
            if let SampleEvent::Done { done, .. } = event {
                bar.set_position(done);
            }
            match stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let start = Instant::now();
        if self.files {
            precision::with(dtype, || {
                model.sample_each(&options, &watch, &mut |i, p| {
                    Ok(picture::save_png(out.join(file_name(i)), &p)?)
                })
            })?;
        } else if self.trajectory.is_some() {
            let rows = precision::with(dtype, || model.trajectory(&options, &watch))?;
            let layout = picture::Layout {
                columns: rows.first().map(Vec::len),
                ..picture::Layout::default()
            };
            picture::save_png(&out, &picture::sheet(&rows.concat(), layout)?)?;
        } else {
            let made = precision::with(dtype, || model.sample_with(&options, &watch))?;
            picture::save_png(&out, &picture::sheet(&made, picture::Layout::default())?)?;
        }
        bar.finish_and_clear();
        let count = pictures.end - pictures.start;
        let each = start.elapsed().as_secs_f64() * 1e3 / count as f64;
        say(&format!(
            "seed      {}, pictures {} to {}\n\
             sampler   {sampler}, {steps} steps: {work}\n\
             time      {each:.0} ms per picture ({count} pictures in {:.2} s)\n\
             written   {}\n",
            self.seed,
            pictures.start,
            pictures.end - 1,
            each * count as f64 / 1e3,
            shown(&out),
        ))
    }

    /// A sheet that would be too large should say so before the work.
    fn check_sheet(&self, count: u64, model: &Model, steps: usize) -> Result<()> {
        let [height, width] = model.size().map(|side| side as u64 + 2);
        let most = match self.trajectory {
            None => picture::MAX_PIXELS / (height * width),
            Some(_) => {
                // Levels are at most eight.
                let row = (steps.min(COLUMNS) as u64 + 8) * width;
                (picture::MAX_PIXELS / (height * row)).min((1 << 16) / height - 1)
            }
        };
        if count > most {
            let (what, instead) = match self.trajectory {
                None => ("for one sheet", "; write --files"),
                Some(_) => ("to draw a trajectory of", ""),
            };
            return Err(Error::Argument(format!(
                "--count: {count} pictures of {} x {} are too many {what}, at most {most} fit{instead}",
                width - 2,
                height - 2
            )));
        }
        Ok(())
    }
}

/// The name of picture `i`, sorted as its number up to a million.
fn file_name(i: u64) -> String {
    format!("{i:06}.png")
}

fn shown(path: &Path) -> String {
    std::path::absolute(path)
        .unwrap_or_else(|_| path.into())
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_picture_once() {
        for (count, n) in [(16, 3), (5, 5), (7, 2), (3, 8)] {
            let all: Vec<u64> = (1..=n).flat_map(|i| part(count, (i, n))).collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
        assert!(
            parse_shard("0/3").is_err() && parse_shard("4/3").is_err() && parse_shard("x").is_err()
        );
        assert_eq!(parse_shard("2/3"), Ok((2, 3)));
    }
}
