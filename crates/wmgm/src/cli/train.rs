//! `wmgm train` and `wmgm bundle`.

use super::device::DeviceArgs;
use super::progress::{TrainBars, stop_flag};
use super::say::say;
use std::path::PathBuf;
use wmgm::bundle::Precision;
use wmgm::config::RunConfig;
use wmgm::error::Result;
use wmgm::train::{StageChoice, TrainOptions, train, write_bundle};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// The diffusion model of the low band; of kind sgm, that of the pixels.
    Low,
    /// The generator of details; of kind wsgm, the diffusion models of all levels' details.
    High,
    /// All.
    All,
}

/// Train a model on a folder of pictures.
///
/// The configuration's `kind` says which: wmgm (the default), or the baselines sgm, a diffusion on pixels, and wsgm, one of
/// every band of a wavelet transform.
///
/// Pictures of any size are scaled and cropped; broken ones are skipped and named. Checkpoints, metrics (JSON lines and a
/// chart of them) and preview sheets go to the run's folder. Ctrl-C and SIGTERM save and stop, with exit code 130; --resume goes on as if
/// nothing had happened, also after a crash. Once all networks are trained their averaged weights are in OUT/bundle.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Configuration (TOML).
    config: PathBuf,
    /// Folder of pictures, searched with its subfolders.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which networks to train.
    #[arg(long, value_enum, default_value = "all")]
    stage: Stage,
    /// Go on from the last checkpoint.
    #[arg(long)]
    resume: bool,
    /// Start from the weights of a bundle (of the same networks) instead of random ones, to refine a model or to adapt it to
    /// other pictures.
    #[arg(long, value_name = "BUNDLE")]
    init: Option<PathBuf>,
    /// Bundle of a worse model, for configurations with [low.guide]: the network learns what that of --init says when it is
    /// led away from this one.
    #[arg(long, value_name = "BUNDLE")]
    guide: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl TrainArgs {
    pub fn run(self) -> Result<()> {
        let config = RunConfig::read(&self.config)?;
        let options = TrainOptions {
            data: &self.data,
            out: &self.out,
            stage: match self.stage {
                Stage::Low => StageChoice::Low,
                Stage::High => StageChoice::High,
                Stage::All => StageChoice::All,
            },
            resume: self.resume,
            init: self.init.as_deref(),
            guide: self.guide.as_deref(),
            finished: &[],
        };
        let bars = TrainBars::new(stop_flag());
        train(&config, options, &self.device.open()?, &bars)?;
        say(&bars.summary())
    }
}

/// Write the averaged weights of a run as a bundle.
#[derive(Debug, clap::Args)]
pub struct BundleArgs {
    /// Folder of the run; all its networks must have a checkpoint, or --rest must hold the other.
    run: PathBuf,
    /// Folder of the bundle; an older bundle there is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Bundle of the network that the run did not train, made from the same pictures.
    #[arg(long, value_name = "BUNDLE")]
    rest: Option<PathBuf>,
    /// Store 32-bit floats instead of 16-bit ones.
    #[arg(long)]
    f32: bool,
}

impl BundleArgs {
    pub fn run(self) -> Result<()> {
        let precision = if self.f32 {
            Precision::F32
        } else {
            Precision::F16
        };
        write_bundle(&self.run, &self.out, precision, self.rest.as_deref())?;
        say(&format!("bundle    {}\n", self.out.display()))
    }
}
