//! How good a model's pictures are: samples against a reference, metric by metric, with the spread over seeds.
//!
//! [`evaluate`] makes or reads the samples and puts `gen-metrics` to work; [`Report`] is what it found.

mod features;
mod report;
mod run;
mod weights;

pub(crate) use features::features;
pub use report::{Measured, Report, Run, Summary};
pub use run::{Evaluation, Nearest, evaluate};
pub use weights::{Network, find_weights, weights_folder};

use crate::error::{Error, Result};
use crate::pipeline::Model;
use gen_metrics::{KernelOptions, Resize, Statistics};
use std::path::{Path, PathBuf};

/// What is judged.
#[derive(Debug)]
pub enum Samples {
    /// Folders of pictures, one for each run.
    Folders(Vec<PathBuf>),
    /// Pictures that a model makes, anew for every seed.
    Model {
        /// The model.
        model: Box<Model>,
        /// One run for each.
        seeds: Vec<u64>,
        /// Pictures at a time.
        batch: usize,
        /// Sampler; the model's unless given.
        sampler: Option<String>,
        /// Its steps; the model's unless given.
        steps: Option<usize>,
    },
}

/// What it is judged by.
#[derive(Debug)]
pub enum Reference {
    /// A folder of pictures.
    Folder(PathBuf),
    /// Statistics of earlier features, for one network, and where they come from.
    Statistics(Box<Statistics>, PathBuf),
}

/// A network whose features are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureSpace {
    /// The network.
    pub network: gen_metrics::Network,
    /// How pictures are brought to its size.
    pub resize: Resize,
    /// The file of its weights.
    pub weights: PathBuf,
}

impl FeatureSpace {
    /// Names of the spaces: networks, and where there are two, the resize.
    pub const NAMES: [&str; 3] = ["efficientnet-lite0", "inception-v3", "inception-v3-clean"];

    /// The space of that name. Its weights are those that `given` names for the network, or where [`find_weights`] finds them.
    ///
    /// # Errors
    /// A name that is none of [`FeatureSpace::NAMES`], weights that are not there.
    pub fn find<'a>(name: &str, given: impl Fn(&str) -> Option<&'a Path>) -> Result<Self> {
        let (network, resize) = match name {
            "efficientnet-lite0" => (gen_metrics::Network::EfficientNetLite0, Resize::Bicubic),
            "inception-v3" => (gen_metrics::Network::InceptionV3, Resize::Bilinear),
            "inception-v3-clean" => (gen_metrics::Network::InceptionV3, Resize::Bicubic),
            _ => {
                return Err(Error::Argument(format!(
                    "there are no features named {name:?}, only {}",
                    Self::NAMES.join(", ")
                )));
            }
        };
        Ok(Self {
            network,
            resize,
            weights: find_weights(Network::Features(network), given(network.name()))?,
        })
    }
}

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct EvalOptions {
    /// Networks whose features are compared.
    pub spaces: Vec<FeatureSpace>,
    /// Whether the wavelet bands are.
    pub bands: bool,
    /// The weights of LPIPS, to measure how different the samples are from each other.
    pub lpips: Option<PathBuf>,
    /// Pairs of samples for that.
    pub lpips_pairs: usize,
    /// Pictures of a run; of folders all unless given, of models 1,000.
    pub count: Option<usize>,
    /// The side that all pictures are brought to first; the model's or that of the first sample unless given.
    pub size: Option<u32>,
    /// Neighbours that make a ball, for precision, recall, density and coverage.
    pub neighbours: usize,
    /// Vectors that these are measured with, at most: the first of either side.
    pub manifold: usize,
    /// Subsets of the kernel distance; no larger than the sets are.
    pub kernel: KernelOptions,
    /// Pairs of a sample and its nearest picture of the reference to draw; 0 for none.
    pub nearest: usize,
}

impl Default for EvalOptions {
    /// The wavelet bands alone; k = 3 among 2,000 vectors; 100 subsets of 1,000; 200 pairs.
    fn default() -> Self {
        Self {
            spaces: Vec::new(),
            bands: true,
            lpips: None,
            lpips_pairs: 200,
            count: None,
            size: None,
            neighbours: 3,
            manifold: 2000,
            kernel: KernelOptions::default(),
            nearest: 0,
        }
    }
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvalEvent<'a> {
    /// A part begins, of so many pictures.
    Part {
        /// What is done.
        what: &'a str,
        /// Pictures.
        total: u64,
    },
    /// So many of them are done.
    Done(u64),
    /// A file is left out.
    Skipped(&'a crate::data::Broken),
    /// Something that the numbers do not say.
    Note(&'a str),
}

/// Listens to an evaluation, and may end it.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: EvalEvent<'_>);
    /// Whether to stop; asked often.
    fn stop(&self) -> bool {
        false
    }
}

/// Listens to nothing.
impl Progress for () {
    fn event(&self, _: EvalEvent<'_>) {}
}
