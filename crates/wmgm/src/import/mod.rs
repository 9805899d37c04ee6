//! Checkpoints of other programs as models of this one, and the way back.
//!
//! [`read`] finds out what a file or folder holds: `checkpoints` tells the family by its names, the modules here what
//! architecture it is. What tensors cannot tell is asked for by name. Every tensor is accounted for.

mod cascade;
pub mod diffusers;
mod given;
mod improved_diffusion;
mod official;
mod score_sde;
mod score_sde_to_diffusers;
mod to_diffusers;

use crate::bundle::{self, Kind, Single, SingleConfig, WsgmConfig};
use crate::error::{Error, Result};
use crate::sgm::SgmConfig;
use candle_core::{DType, Device, Tensor};
use checkpoints::names::{Family, is_counter};
use checkpoints::safetensors::{self, Precision};
use checkpoints::{Checkpoint, Parameters};
use given::Given;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What an input is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// Whatever its contents say.
    #[default]
    Auto,
    /// The official program's generator or discriminator.
    WmgmOfficial,
    /// improved-diffusion's U-Net.
    ImprovedDiffusion,
    /// A network of score_sde.
    ScoreSde,
    /// A folder of diffusers.
    Diffusers,
    /// A cascade of cascaded-wavelet-diffusion.
    Cascade,
    /// A safetensors file of any of these networks.
    Safetensors,
}

impl Format {
    /// All formats with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("auto", Self::Auto),
        ("wmgm-official", Self::WmgmOfficial),
        ("improved-diffusion", Self::ImprovedDiffusion),
        ("score-sde", Self::ScoreSde),
        ("diffusers", Self::Diffusers),
        ("cascade", Self::Cascade),
        ("safetensors", Self::Safetensors),
    ];

    fn fits(self, family: Family) -> bool {
        use Family as F;
        match self {
            Self::Auto | Self::Safetensors => true,
            Self::WmgmOfficial => {
                matches!(family, F::OfficialGenerator | F::OfficialDiscriminator)
            }
            Self::ImprovedDiffusion => family == F::ImprovedDiffusion,
            Self::ScoreSde => family == F::ScoreSde,
            Self::Diffusers => family == F::Diffusers,
            Self::Cascade => family == F::Cascade,
        }
    }
}

/// How to read an input.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// What it is.
    pub format: Format,
    /// A file of JSON or TOML with what tensors cannot tell, in the words of the family's own program.
    pub config: Option<PathBuf>,
    /// Which parameters, where there are averages.
    pub parameters: Parameters,
}

/// What an input holds: a configuration and exactly the tensors that its network needs.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The configuration.
    pub model: ImportedModel,
    /// The tensors, not read yet.
    pub state: Checkpoint,
    /// What was left out or taken for granted, for people.
    pub notes: Vec<String>,
}

/// The configuration of an input.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ImportedModel {
    /// A diffusion on pixels.
    Sgm(Box<SgmConfig>),
    /// One network of the official program.
    Single(Box<SingleConfig>),
    /// A cascade of diffusions.
    Wsgm(Box<WsgmConfig>),
}

/// Finds out what a file or folder holds.
///
/// # Errors
/// A file that cannot be read, of no family known or not of the one said; options that its tensors do not tell, all
/// by name; tensors that are missing, left over or of another shape, all by name.
pub fn read(input: &Path, options: &ReadOptions) -> Result<Imported> {
    let given = Given::read(options.config.as_deref())?;
    if input.is_dir() {
        if diffusers::is_folder(input) {
            if !matches!(options.format, Format::Auto | Format::Diffusers) {
                return Err(wrong(input, "a folder of diffusers", options.format));
            }
            return diffusers::read(input, given);
        }
        if input.join("config.json").is_file() && options.format == Format::Auto {
            return read_bundle(input);
        }
    }
    let file = Checkpoint::open(input)?;
    if options.format == Format::Safetensors && file.format() == checkpoints::Format::Torch {
        return Err(wrong(input, "a file of torch.save", options.format));
    }
    let state = file.state_dict(options.parameters)?;
    let family = Family::of(&state)?;
    if !options.format.fits(family) {
        return Err(wrong(input, family.name(), options.format));
    }
    let counters = state.names().filter(|name| is_counter(name)).count();
    let state = state.filtered(|name| !is_counter(name))?;
    let mut imported = match family {
        Family::ImprovedDiffusion => improved_diffusion::read(state, given),
        Family::ScoreSde => score_sde::read(state, given),
        Family::Diffusers => diffusers::read_file(state, given),
        Family::OfficialGenerator => official::generator(state, given),
        Family::OfficialDiscriminator => official::discriminator(state, given),
        Family::Cascade => cascade::read(state, given),
        other => Err(Error::Argument(format!(
            "{}: {} cannot be exported",
            input.display(),
            other.name()
        ))),
    }?;
    if counters > 0 {
        imported.notes.push(format!(
            "left out {counters} counters of batches (num_batches_tracked), which no output depends on"
        ));
    }
    Ok(imported)
}

fn wrong(input: &Path, what: &str, format: Format) -> Error {
    let said = Format::ALL.iter().find(|(_, f)| *f == format);
    Error::Argument(format!(
        "{}: it is {what}, not what --format {} says",
        input.display(),
        said.map_or("auto", |(name, _)| name)
    ))
}

/// A bundle of this project, for the way back.
fn read_bundle(folder: &Path) -> Result<Imported> {
    let (model, weights) = match bundle::head(folder)?.kind {
        Kind::Sgm => {
            let (config, ..) = bundle::read_sgm(folder, &Device::Cpu)?;
            (ImportedModel::Sgm(Box::new(config)), "score.safetensors")
        }
        Kind::Network => {
            let (config, _) = bundle::read_single(folder)?;
            let config = ImportedModel::Single(Box::new(config));
            (config, "network.safetensors")
        }
        Kind::Wsgm => {
            let (config, _) = bundle::read_wsgm(folder, &Device::Cpu)?;
            (ImportedModel::Wsgm(Box::new(config)), bundle::CASCADE)
        }
        Kind::Wmgm => {
            return Err(Error::Argument(format!(
                "{}: it is a WMGM bundle already; its networks are the safetensors files in it",
                folder.display()
            )));
        }
    };
    Ok(Imported {
        model,
        state: Checkpoint::open(folder.join(weights))?,
        notes: Vec::new(),
    })
}

impl Imported {
    /// Its tensors, as they are stored.
    ///
    /// # Errors
    /// Damage.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        Ok(self.state.tensors(&Device::Cpu)?)
    }

    /// Writes a bundle, whole or not at all.
    ///
    /// # Errors
    /// Values that the precision cannot hold or that are not finite, an unwritable folder, or one that holds something
    /// else.
    pub fn write_bundle(&self, out: &Path, precision: Option<Precision>) -> Result<()> {
        let mut tensors = self.tensors()?;
        // Models compute in 32 bits; score_sde's table of noise levels comes in 64.
        for tensor in tensors.values_mut().filter(|t| t.dtype() == DType::F64) {
            *tensor = tensor.to_dtype(DType::F32)?;
        }
        match &self.model {
            ImportedModel::Sgm(config) => bundle::write_sgm(out, config, tensors, precision),
            ImportedModel::Single(config) => bundle::write_single(out, config, tensors, precision),
            ImportedModel::Wsgm(config) => bundle::write_wsgm(out, config, tensors, precision),
        }
    }

    /// Writes a safetensors file by the network's own names, which plain PyTorch loads.
    ///
    /// # Errors
    /// As [`Imported::write_bundle`].
    pub fn write_safetensors(&self, out: &Path, precision: Option<Precision>) -> Result<()> {
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        Ok(safetensors::write(
            out,
            self.tensors()?,
            precision,
            Some(metadata),
        )?)
    }

    /// Writes a folder that diffusers loads, whole or not at all.
    ///
    /// # Errors
    /// A network that diffusers' `UNet2DModel` cannot be, with the reason; and as [`Imported::write_bundle`].
    pub fn write_diffusers(&self, out: &Path, precision: Option<Precision>) -> Result<()> {
        match &self.model {
            ImportedModel::Sgm(config) => {
                to_diffusers::write(config, self.tensors()?, precision, out)
            }
            other => {
                let what = match other {
                    ImportedModel::Single(config) => match config.network {
                        Single::OfficialGenerator(_) => Family::OfficialGenerator,
                        Single::OfficialDiscriminator(_) => Family::OfficialDiscriminator,
                    },
                    _ => Family::Cascade,
                };
                Err(Error::Argument(format!(
                    "{} is no network of diffusers; use --to safetensors",
                    what.name()
                )))
            }
        }
    }
}
