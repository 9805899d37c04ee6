//! `config.json` of a diffusion model on pixels.

use super::{NetworkConfig, ProcessConfig, Run};
use crate::bundle::Kind;
use score_sde::sampler::PredictorCorrector;
use serde::{Deserialize, Serialize};

/// The version of the format that this program writes and reads.
const FORMAT: u32 = 1;

/// Everything but the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgmConfig {
    /// `sgm`.
    pub kind: Kind,
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// Height and width of its pictures.
    pub size: [usize; 2],
    /// The network.
    pub network: NetworkConfig,
    /// What it was trained on.
    pub process: ProcessConfig,
    /// Default sampler.
    pub sample: SampleConfig,
    /// Where the weights come from, in words.
    pub provenance: String,
    /// Licence of the weights.
    pub licence: String,
    /// Whom the licence asks to name.
    pub attribution: String,
}

/// How to sample unless told otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    /// The sampler: `ddpm`, `ddim`, `predictor_corrector` or another of [`Run`].
    pub sampler: String,
    /// Its steps.
    pub steps: usize,
    /// Options of `predictor_corrector`; the last time is that of every sampler of a process in continuous time.
    #[serde(default)]
    pub predictor_corrector: PredictorCorrector,
}

impl SgmConfig {
    /// A model of this network, process and sampler; names and licence are to be filled in.
    pub fn new(
        size: [usize; 2],
        network: NetworkConfig,
        process: ProcessConfig,
        sample: SampleConfig,
    ) -> Self {
        Self {
            kind: Kind::Sgm,
            format: FORMAT,
            name: String::new(),
            size,
            network,
            process,
            sample,
            provenance: String::new(),
            licence: String::new(),
            attribution: String::new(),
        }
    }

    /// Whether a model can be built of it and sampled.
    ///
    /// # Errors
    /// The first field that cannot be meant, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT || self.kind != Kind::Sgm {
            return Err(format!(
                "kind is {:?} and format {}, this is read as sgm of format {FORMAT}",
                self.kind, self.format
            ));
        }
        self.network
            .tensors()
            .map_err(|e| format!("network: {e}"))?;
        let factor = self.network.factor();
        for side in self.size {
            if !(1..=4096).contains(&side) || !side.is_multiple_of(factor) {
                return Err(format!(
                    "size has a side of {side}, the network needs 1 to 4096, divisible by {factor}"
                ));
            }
        }
        let (channels, out) = self.network.channels();
        if channels != 1 && channels != 3 {
            return Err(format!(
                "network: {channels} channels in; pictures have 1 or 3"
            ));
        }
        self.process.check().map_err(|e| format!("process: {e}"))?;
        let twice = self.process.learns_variances();
        // A network with variances can be run without them.
        if out != 2 * channels && (twice || out != channels) {
            return Err(format!(
                "network: {channels} channels in and {out} out do not fit the process, which needs {}",
                if twice { 2 * channels } else { channels }
            ));
        }
        Run::new(self, None, None).map_err(|e| format!("sample: {e}"))?;
        Ok(())
    }
}
