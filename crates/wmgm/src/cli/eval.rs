//! `wmgm eval`.

use super::device::DeviceArgs;
use super::say::{say, warn};
use super::{place, progress};
use gen_metrics::Statistics;
use indicatif::ProgressBar;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wmgm::error::{Error, Result};
use wmgm::eval::{
    EvalEvent, EvalOptions, FeatureSpace, Network, Progress, Reference, Samples, evaluate,
    find_weights,
};
use wmgm::files::{check_writable, write_atomic};
use wmgm::{Model, picture};

/// Measure how good pictures are.
///
/// Compares samples with reference pictures: the Frechet distance and kernel distance of features, precision, recall, density
/// and coverage, LPIPS diversity, and the wavelet bands level by level. Samples are folders of pictures, one for each run, or a
/// model, which then makes pictures for every seed; the table shows mean and spread over the runs.
///
/// A number is called FID only with FID's own network and its own weights. docs/metrics.md defines every metric, and says where
/// weights come from.
#[derive(Debug, clap::Args)]
pub struct EvalArgs {
    /// Folders of pictures, searched with their subfolders, or one model as `wmgm sample` takes it; the model inside the
    /// program unless given.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    samples: Vec<PathBuf>,
    /// Folder of real pictures, or a file of statistics (from --save-stats, or an .npz of pytorch-fid).
    #[arg(long, value_name = "PATH")]
    reference: PathBuf,
    /// What to measure, separated by commas.
    #[arg(
        long,
        value_name = "LIST",
        value_enum,
        value_delimiter = ',',
        default_value = "bands,efficientnet-lite0"
    )]
    features: Vec<Feature>,
    /// A network's weights, as NETWORK=FILE; may be given several times [default: where `cargo xtask feature-weights` puts
    /// them, and for inception-v3 where pytorch-fid does].
    #[arg(long, value_name = "NETWORK=FILE", value_parser = super::weights::named)]
    weights: Vec<(String, PathBuf)>,
    /// How many seeds a model makes pictures for.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The first of these seeds.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Pictures of every run [default: 1000 of a model, all of a folder].
    #[arg(long, value_name = "N", value_parser = super::at_least_1)]
    count: Option<usize>,
    /// Side that all pictures are scaled and cut to before anything else [default: the samples'].
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// Sampler of a model [default: the model's].
    #[arg(long, value_name = "NAME")]
    sampler: Option<String>,
    /// Its steps [default: the model's].
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
    /// Pictures made at a time.
    #[arg(long, value_name = "B", default_value_t = 16, value_parser = super::at_least_1)]
    batch: usize,
    /// Neighbours that make a ball, for precision, recall, density and coverage.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = super::at_least_1)]
    neighbours: usize,
    /// The most vectors of either side that these are measured with; their values depend on it.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = super::at_least_1)]
    manifold: usize,
    /// Pairs of samples for LPIPS diversity.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = super::at_least_1)]
    pairs: usize,
    /// Write all numbers of all runs to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw samples of the first run beside the reference pictures they are nearest to.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// How many of them.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "sheet", value_parser = super::at_least_1)]
    sheet_count: usize,
    /// Keep the reference's statistics in this file, to be used as --reference: with features, or as .npz mean and covariance
    /// alone.
    #[arg(long, value_name = "FILE")]
    save_stats: Option<PathBuf>,
    /// Download a model of the hub that is not in its cache.
    #[arg(long, requires = "samples")]
    fetch: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Feature {
    /// The wavelet bands: how each differs in distribution and spectrum. Needs no weights.
    Bands,
    /// Features of EfficientNet-Lite0.
    EfficientnetLite0,
    /// Features of FID's Inception-v3, with pytorch-fid's resize.
    InceptionV3,
    /// The same with clean-fid's resize.
    InceptionV3Clean,
    /// LPIPS diversity.
    Lpips,
}

impl EvalArgs {
    pub fn run(self) -> Result<()> {
        // An output that cannot be written should say so before the work, not after it.
        for out in [&self.json, &self.sheet, &self.save_stats]
            .into_iter()
            .flatten()
        {
            check_writable(out)?;
        }
        let options = self.options()?;
        if self.save_stats.is_some() && options.spaces.len() != 1 {
            return Err(Error::Argument(
                "--save-stats: a file holds statistics for one network; name one with --features"
                    .into(),
            ));
        }
        let device = self.device.open()?;
        let reference = self.reference()?;
        let samples = self.samples(&device)?;
        let bars = Bars::new(progress::stop_flag());
        let done = evaluate(&samples, &reference, &options, &device, &bars);
        bars.clear();
        let mut done = done?;
        if let Samples::Model { .. } = samples {
            done.report.samples = match self.samples.first() {
                Some(model) => model.display().to_string(),
                None => "the model inside the program".into(),
            };
        }
        let mut text = done.report.table();
        if let (Some(path), Some(statistics)) = (&self.save_stats, done.reference.first()) {
            let npz = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("npz"));
            let bytes = match npz {
                true => statistics.to_npz(),
                false => statistics.to_safetensors()?,
            };
            write_atomic(path, |file| file.write_all(&bytes))?;
            text += &format!("\nstatistics {}\n", path.display());
        }
        if let (Some(path), Some(nearest)) = (&self.sheet, &done.nearest) {
            picture::save_png(path, &nearest.sheet)?;
            text += "\nnearest pictures of the reference, RMS difference at 32 x 32 of 255\n";
            for (i, (name, n)) in nearest.neighbours.iter().enumerate() {
                let flipped = if n.flipped { ", mirrored" } else { "" };
                text += &format!("  {i:3} {:6.2} {}{flipped}\n", n.distance, name.display());
            }
            text += &format!("sheet      {}\n", path.display());
        }
        if let Some(path) = &self.json {
            let json = serde_json::to_vec_pretty(&done.report)
                .map_err(|e| Error::Argument(format!("--json: {e}")))?;
            write_atomic(path, |file| file.write_all(&json))?;
            text += &format!("json       {}\n", path.display());
        }
        say(&text)
    }

    fn options(&self) -> Result<EvalOptions> {
        let mut options = EvalOptions {
            bands: self.features.contains(&Feature::Bands),
            lpips_pairs: self.pairs,
            count: self.count,
            size: self.size,
            neighbours: self.neighbours,
            manifold: self.manifold,
            nearest: if self.sheet.is_some() {
                self.sheet_count
            } else {
                0
            },
            ..EvalOptions::default()
        };
        let given = |name: &str| super::weights::file(&self.weights, name);
        for feature in &self.features {
            let name = match feature {
                Feature::Bands => continue,
                Feature::Lpips => {
                    let lpips = Network::Lpips;
                    options.lpips = Some(find_weights(lpips, given(lpips.name()))?);
                    continue;
                }
                Feature::EfficientnetLite0 => "efficientnet-lite0",
                Feature::InceptionV3 => "inception-v3",
                Feature::InceptionV3Clean => "inception-v3-clean",
            };
            let space = FeatureSpace::find(name, given)?;
            if !options.spaces.contains(&space) {
                options.spaces.push(space);
            }
        }
        Ok(options)
    }

    fn reference(&self) -> Result<Reference> {
        let path = &self.reference;
        if path.is_file() {
            let statistics = Statistics::open(path)?;
            return Ok(Reference::Statistics(Box::new(statistics), path.clone()));
        }
        Ok(Reference::Folder(path.clone()))
    }

    fn samples(&self, device: &candle_core::Device) -> Result<Samples> {
        let first = self.samples.first();
        if first.is_some_and(|path| is_pictures(path)) {
            if let Some(model) = self.samples.iter().find(|path| !is_pictures(path)) {
                return Err(Error::Argument(format!(
                    "--samples: {} is no folder of pictures, the first is; give folders alone or one model",
                    model.display()
                )));
            }
            if self.sampler.is_some() || self.steps.is_some() {
                return Err(Error::Argument(
                    "--sampler and --steps are for models; these samples are pictures already"
                        .into(),
                ));
            }
            return Ok(Samples::Folders(self.samples.clone()));
        }
        if self.samples.len() > 1 {
            return Err(Error::Argument(
                "--samples: give one model, or folders of pictures".into(),
            ));
        }
        let model = match first {
            Some(path) => Model::open(&place::folder(path, self.fetch)?, device)?,
            None => place::embedded_model(device)?,
        };
        let last = self.seed.checked_add(self.seeds - 1);
        let last = last.ok_or_else(|| {
            Error::Argument("--seed: the last seed would be larger than there are".into())
        })?;
        Ok(Samples::Model {
            model: Box::new(model),
            seeds: (self.seed..=last).collect(),
            batch: self.batch,
            sampler: self.sampler.clone(),
            steps: self.steps,
        })
    }
}

/// Whether a folder holds pictures and no model.
fn is_pictures(path: &Path) -> bool {
    let model = ["config.json", "model_index.json"];
    path.is_dir() && !model.iter().any(|name| path.join(name).exists())
}

/// A bar for each part.
struct Bars {
    shown: Mutex<ProgressBar>,
    stop: Arc<AtomicBool>,
}

impl Bars {
    fn new(stop: Arc<AtomicBool>) -> Self {
        Self {
            shown: Mutex::new(ProgressBar::hidden()),
            stop,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ProgressBar> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        self.lock().finish_and_clear();
    }
}

impl Progress for Bars {
    fn event(&self, event: EvalEvent<'_>) {
        let mut shown = self.lock();
        match event {
            EvalEvent::Part { what, total } => {
                shown.finish_and_clear();
                *shown = progress::bar(total, what);
            }
            EvalEvent::Done(done) => shown.set_position(done),
            EvalEvent::Skipped(broken) => shown.suspend(|| warn(&format!("skipped {broken}"))),
            EvalEvent::Note(note) => shown.suspend(|| warn(&format!("note: {note}"))),
            _ => {}
        }
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
