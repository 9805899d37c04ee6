//! The evaluation itself.

use super::features::{CHUNK, features, pictures};
use super::report::{Measured, Report, Run};
use super::{EvalEvent, EvalOptions, Progress, Reference, Samples};
use crate::data::{
    LoadOptions, LoadProgress, Neighbour, PictureSet, decode_file, find_pictures, nearest_sheet,
};
use crate::error::{Error, Result};
use crate::picture::{Layout, RgbImage};
use crate::pipeline::{Model, Pipeline, SampleEvent, SampleOptions};
use candle_core::Device;
use gen_metrics::net::Lpips;
use gen_metrics::{
    BandStatistics, Extractor, Features, Gaussian, Picture, Space, Statistics, frechet_distance,
    kernel_distance, lpips_diversity, manifold,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Pictures of a model's run where nobody says how many.
const DEFAULT_COUNT: usize = 1000;

/// What [`evaluate`] gives: the report, the reference's statistics in each space (to be kept), and the sheet of nearest
/// neighbours of the first run.
#[derive(Debug)]
pub struct Evaluation {
    /// The numbers.
    pub report: Report,
    /// Statistics of the reference, one for each space, in their order.
    pub reference: Vec<Statistics>,
    /// What samples of the first run are nearest to.
    pub nearest: Option<Nearest>,
}

/// Samples beside their nearest pictures of the reference.
#[derive(Debug)]
pub struct Nearest {
    /// Pair by pair.
    pub sheet: RgbImage,
    /// The names of the pictures, and how near they are.
    pub neighbours: Vec<(PathBuf, Neighbour)>,
}

/// Measures the samples against the reference.
///
/// The same pictures give the same numbers on any number of threads.
///
/// # Errors
/// Options out of range, pictures or weights that cannot be read, statistics of another space, too few pictures for a metric;
/// [`Error::Cancelled`] when `progress` stops it.
pub fn evaluate(
    samples: &Samples,
    reference: &Reference,
    options: &EvalOptions,
    device: &Device,
    progress: &dyn Progress,
) -> Result<Evaluation> {
    if options.nearest > 0 && matches!(reference, Reference::Statistics(..)) {
        return Err(Error::Argument(
            "nearest neighbours are looked for among the reference's pictures, not in statistics; name a folder".into(),
        ));
    }
    let plan = Plan {
        options,
        device,
        progress,
        size: size_of(samples, options)?,
    };
    let extractors = options
        .spaces
        .iter()
        .map(|s| Extractor::open(s.network, s.resize, &s.weights, device))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let lpips = options.lpips.as_deref().map(|file| plan.lpips(file));
    let lpips = lpips.transpose()?;
    let known = plan.reference(reference, &extractors)?;
    let mut runs = Vec::new();
    let mut nearest = None;
    let many = match samples {
        Samples::Folders(folders) => folders.len(),
        Samples::Model { seeds, .. } => seeds.len(),
    };
    if many == 0 {
        return Err(Error::Argument("evaluation: there are no samples".into()));
    }
    for i in 0..many {
        let (name, set) = plan.samples(samples, i)?;
        if i == 0 {
            nearest = plan.nearest(&set, known.set.as_ref())?;
        }
        runs.push(plan.run(name, &set, &known, &extractors, lpips.as_ref())?);
    }
    let report = Report::new(
        match samples {
            Samples::Folders(folders) => {
                let names: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
                names.join(", ")
            }
            Samples::Model { model, .. } => format!("a model of kind {}", kind(model)),
        },
        (known.name, known.pictures),
        plan.size,
        runs,
    );
    Ok(Evaluation {
        report,
        reference: known.statistics,
        nearest,
    })
}

fn kind(model: &Model) -> &'static str {
    match model {
        Model::Wmgm(_) => "wmgm",
        Model::Pair(_) => "wmgm, official",
        Model::Sgm(_) => "sgm",
        Model::Wsgm(_) => "wsgm",
        Model::Diffused(model) if model.config().levels == 0 => "sgm",
        Model::Diffused(_) => "wsgm",
    }
}

/// The side that pictures are brought to.
fn size_of(samples: &Samples, options: &EvalOptions) -> Result<u32> {
    if let Some(size) = options.size {
        return Ok(size);
    }
    match samples {
        Samples::Model { model, .. } => match model.size() {
            [height, width] if height == width => Ok(width as u32),
            [height, width] => Err(Error::Argument(format!(
                "this model's pictures are {width} x {height}; say by --size to which square they are to be cut"
            ))),
        },
        Samples::Folders(folders) => {
            let folder = folders
                .first()
                .ok_or_else(|| Error::Argument("evaluation: there are no samples".into()))?;
            let limits = LoadOptions::default().limits;
            let files = find_pictures(folder)?;
            let whole = files
                .iter()
                .find_map(|file| decode_file(folder.join(file), &limits).ok());
            whole.map(|p| p.width().min(p.height())).ok_or_else(|| {
                Error::Argument(format!(
                    "{}: none of its {} pictures can be read",
                    folder.display(),
                    files.len()
                ))
            })
        }
    }
}

/// What does not change from run to run.
struct Plan<'a> {
    options: &'a EvalOptions,
    device: &'a Device,
    progress: &'a dyn Progress,
    size: u32,
}

/// What is known of the reference.
struct Known {
    name: String,
    pictures: Option<u64>,
    set: Option<PictureSet>,
    statistics: Vec<Statistics>,
    bands: Option<BandStatistics>,
}

impl Plan<'_> {
    fn go_on(&self) -> Result<()> {
        match self.progress.stop() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    fn lpips(&self, file: &Path) -> Result<Lpips> {
        let (weights, _) = gen_metrics::weights::open(file, self.device)?;
        Lpips::new(weights.builder(self.device)).map_err(|e| {
            Error::Argument(format!("{}: not the weights of LPIPS: {e}", file.display()))
        })
    }

    fn load(&self, folder: &Path, what: &str) -> Result<PictureSet> {
        self.progress.event(EvalEvent::Part { what, total: 0 });
        let (set, broken) = PictureSet::load(
            folder,
            self.size,
            &LoadOptions::default(),
            &|p: LoadProgress| {
                if p.done == 1 {
                    let total = p.total as u64;
                    self.progress.event(EvalEvent::Part { what, total });
                }
                self.progress.event(EvalEvent::Done(p.done as u64));
                match self.progress.stop() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        )?;
        for broken in &broken {
            self.progress.event(EvalEvent::Skipped(broken));
        }
        Ok(set)
    }

    fn reference(&self, reference: &Reference, extractors: &[Extractor]) -> Result<Known> {
        match reference {
            Reference::Folder(folder) => {
                let set = self.load(folder, "reading the reference")?;
                let mut statistics = Vec::new();
                for extractor in extractors {
                    let features = self.features(extractor, &set, "reference")?;
                    statistics.push(Statistics::of(features, extractor.space().name())?);
                }
                let bands = self.bands(&set)?;
                if self.options.bands && bands.is_none() {
                    self.progress.event(EvalEvent::Note(
                        "pictures of this size are too small or too odd for wavelet bands: they are not compared",
                    ));
                }
                Ok(Known {
                    name: folder.display().to_string(),
                    pictures: Some(set.len() as u64),
                    bands,
                    set: Some(set),
                    statistics,
                })
            }
            Reference::Statistics(statistics, path) => {
                let [extractor] = extractors else {
                    return Err(Error::Argument(format!(
                        "{} holds statistics for one network; name one with --features",
                        path.display()
                    )));
                };
                same_space(statistics, extractor.space(), path)?;
                if statistics.space.is_none() {
                    self.progress.event(EvalEvent::Note(
                        "the statistics do not say which network and resize they are of; those asked for are believed",
                    ));
                }
                if statistics.features.is_none() {
                    self.progress.event(EvalEvent::Note(
                        "the statistics hold no features: the Frechet distance is all that can be measured",
                    ));
                }
                if self.options.bands {
                    self.progress.event(EvalEvent::Note(
                        "the statistics hold no pictures: the wavelet bands are not compared",
                    ));
                }
                Ok(Known {
                    name: path.display().to_string(),
                    pictures: statistics.count,
                    set: None,
                    statistics: vec![statistics.as_ref().clone()],
                    bands: None,
                })
            }
        }
    }

    /// The pictures of run `i`, and its name.
    fn samples(&self, samples: &Samples, i: usize) -> Result<(String, PictureSet)> {
        match samples {
            Samples::Folders(folders) => {
                let folder = folders
                    .get(i)
                    .ok_or_else(|| Error::Argument("evaluation: there are no samples".into()))?;
                let set = self.load(folder, "reading the samples")?;
                let count = self.options.count.unwrap_or(usize::MAX);
                if self.options.count.is_some_and(|count| set.len() < count) {
                    return Err(Error::Argument(format!(
                        "{} has {} pictures, {count} were asked for",
                        folder.display(),
                        set.len()
                    )));
                }
                let first = (0..set.len().min(count))
                    .map(|i| Ok((set.name(i)?.to_owned(), set.picture(i)?)))
                    .collect::<Result<Vec<_>>>()?;
                let set = PictureSet::from_pictures(self.size, first)?;
                Ok((folder.display().to_string(), set))
            }
            Samples::Model {
                model,
                seeds,
                batch,
                sampler,
                steps,
            } => {
                let seed = seeds
                    .get(i)
                    .copied()
                    .ok_or_else(|| Error::Argument("evaluation: there are no seeds".into()))?;
                let count = self.options.count.unwrap_or(DEFAULT_COUNT) as u64;
                let options = SampleOptions {
                    seed,
                    pictures: 0..count,
                    batch: *batch,
                    sampler: sampler.clone(),
                    steps: *steps,
                    class: None,
                };
                let what = format!("sampling seed {seed}");
                let (what, total) = (what.as_str(), count);
                self.progress.event(EvalEvent::Part { what, total });
                let mut made = Vec::new();
                let watch = |event: SampleEvent| {
                    if let SampleEvent::Done { done, .. } = event {
                        self.progress.event(EvalEvent::Done(done));
                    }
                    match self.progress.stop() {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                };
                model.sample_each(&options, &watch, &mut |i, picture| {
                    let name = PathBuf::from(format!("seed {seed}, picture {i}"));
                    made.push((name, crate::picture::resize_crop(&picture, self.size)));
                    Ok(())
                })?;
                let set = PictureSet::from_pictures(self.size, made)?;
                Ok((format!("seed {seed}"), set))
            }
        }
    }

    fn features(&self, extractor: &Extractor, set: &PictureSet, of: &str) -> Result<Features> {
        let what = format!("{} of the {of}", extractor.space().network.name());
        let (what, total) = (what.as_str(), set.len() as u64);
        self.progress.event(EvalEvent::Part { what, total });
        features(extractor, set, &|done| {
            self.progress.event(EvalEvent::Done(done as u64));
            self.go_on()
        })
    }

    fn bands(&self, set: &PictureSet) -> Result<Option<BandStatistics>> {
        let size = [self.size as usize; 2];
        let Some(levels) = BandStatistics::levels_for(size).filter(|_| self.options.bands) else {
            return Ok(None);
        };
        let mut bands = BandStatistics::new(size, levels)?;
        for start in (0..set.len()).step_by(CHUNK) {
            self.go_on()?;
            bands.add(&pictures(set, start..(start + CHUNK).min(set.len()))?)?;
        }
        Ok(Some(bands))
    }

    fn nearest(
        &self,
        samples: &PictureSet,
        reference: Option<&PictureSet>,
    ) -> Result<Option<Nearest>> {
        let count = self.options.nearest.min(samples.len());
        let Some(reference) = reference.filter(|_| count > 0) else {
            return Ok(None);
        };
        let (what, total) = ("nearest neighbours", reference.len() as u64);
        self.progress.event(EvalEvent::Part { what, total });
        let first = (0..count)
            .map(|i| samples.picture(i))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let (sheet, found) = nearest_sheet(&first, reference, Layout::default())?;
        let neighbours = found
            .into_iter()
            .map(|n| Ok((reference.name(n.index)?.to_owned(), n)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Some(Nearest { sheet, neighbours }))
    }

    fn run(
        &self,
        name: String,
        set: &PictureSet,
        known: &Known,
        extractors: &[Extractor],
        lpips: Option<&Lpips>,
    ) -> Result<Run> {
        let mut values = Vec::new();
        for (extractor, reference) in extractors.iter().zip(&known.statistics) {
            let features = self.features(extractor, set, "samples")?;
            self.measure(extractor.space(), &features, reference, &mut values)?;
        }
        if let Some(net) = lpips {
            values.push(self.diversity(net, set)?);
        }
        let bands = match &known.bands {
            Some(reference) => {
                (self.bands(set)?).map_or(Ok(Vec::new()), |bands| bands.distances(reference))?
            }
            None => Vec::new(),
        };
        Ok(Run {
            name,
            pictures: set.len(),
            values,
            bands,
        })
    }

    /// Everything that features tell.
    fn measure(
        &self,
        space: &Space,
        samples: &Features,
        reference: &Statistics,
        values: &mut Vec<Measured>,
    ) -> Result<()> {
        let (what, total) = ("measuring", 3);
        self.progress.event(EvalEvent::Part { what, total });
        let mut push = |metric: String, value, spread| {
            values.push(Measured {
                metric,
                space: space.name(),
                value,
                spread,
            });
        };
        let distance = frechet_distance(&Gaussian::of(samples)?, &reference.gaussian)?;
        push(space.frechet_name(), distance, None);
        self.progress.event(EvalEvent::Done(1));
        self.go_on()?;
        let Some(reference) = &reference.features else {
            return Ok(());
        };
        let mut kernel = self.options.kernel;
        kernel.size = kernel.size.min(samples.count()).min(reference.count());
        let found = kernel_distance(samples, reference, kernel)?;
        push(
            format!("kernel distance ({} x {})", kernel.subsets, kernel.size),
            found.mean,
            Some(found.std),
        );
        self.progress.event(EvalEvent::Done(2));
        self.go_on()?;
        let EvalOptions {
            neighbours: k,
            manifold: most,
            ..
        } = *self.options;
        let found = manifold(&samples.head(most), &reference.head(most), k)?;
        for (metric, value) in [
            ("precision", found.precision),
            ("recall", found.recall),
            ("density", found.density),
            ("coverage", found.coverage),
        ] {
            push(format!("{metric} (k = {k})"), value, None);
        }
        self.progress.event(EvalEvent::Done(3));
        self.go_on()
    }

    fn diversity(&self, net: &Lpips, set: &PictureSet) -> Result<Measured> {
        let pairs = self.options.lpips_pairs.min(set.len() / 2);
        let (what, total) = ("LPIPS", pairs as u64);
        self.progress.event(EvalEvent::Part { what, total });
        // Half a set apart: neighbours in a folder may be neighbours otherwise, too.
        let half = set.len() / 2;
        let all = pictures(set, 0..set.len())?;
        let all: Vec<[Picture<'_>; 2]> = all
            .iter()
            .zip(&all[half.min(all.len())..])
            .take(pairs)
            .map(|(a, b)| [*a, *b])
            .collect();
        self.go_on()?;
        let found = lpips_diversity(net, &all, self.device)?;
        self.progress.event(EvalEvent::Done(total));
        Ok(Measured {
            metric: format!("LPIPS diversity ({} pairs)", found.pairs),
            space: "lpips vgg16 0.1".into(),
            value: found.mean,
            spread: Some(found.error),
        })
    }
}

/// Errs if the statistics say that they are of another space.
fn same_space(statistics: &Statistics, space: &Space, path: &Path) -> Result<()> {
    let fail = |reason: String| Err(Error::Argument(format!("{}: {reason}", path.display())));
    match &statistics.space {
        Some(other) if *other != space.name() => fail(format!(
            "the statistics are of {other}, the samples would be of {}; features of two networks, resizes or weights cannot be \
             compared",
            space.name()
        )),
        _ if statistics.gaussian.dim() != space.network.dim() => fail(format!(
            "the statistics have {} dimensions, {} has {}",
            statistics.gaussian.dim(),
            space.network.name(),
            space.network.dim()
        )),
        _ => Ok(()),
    }
}
