//! `export-weights`: checkpoints of other programs as models of this one, and the way back.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use checkpoints::Parameters;
use checkpoints::safetensors::Precision;
use clap::ValueEnum;
use msal_gan::official::EightBit;
use wmgm::bundle::{PairConfig, Single, write_pair};
use wmgm::import::{self, Format, Imported, ImportedModel, ReadOptions};

/// Arguments of the task.
#[derive(clap::Args)]
#[command(after_help = "\
What tensors tell of their network is found out; what they do not tell is asked for by name, in the words of the program \
that wrote them. Every tensor is accounted for. Reading a pickle runs nothing.

An official generator becomes a model with --low, the bundle of a diffusion on pixels that was trained on the official \
program's low bands as pictures.

Exit codes: 0 done, 2 an error.")]
pub struct ExportWeights {
    /// Checkpoint (.pth, .pt, .bin, .safetensors), folder of diffusers, or bundle
    input: PathBuf,
    /// Folder of the bundle, or with --to the folder or file to write
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// What the input is
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = format)]
    format: Format,
    /// JSON or TOML with what the tensors do not tell, by the names of the input's own program
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Precision of the weights; as they are unless given
    #[arg(long, value_enum)]
    dtype: Option<DtypeChoice>,
    /// Which parameters, where a checkpoint has moving averages
    #[arg(long, value_enum, default_value = "averaged")]
    parameters: ParametersChoice,
    /// What to write
    #[arg(long, value_enum, default_value = "bundle")]
    to: Target,
    /// Bundle of the low band's diffusion, for an official generator
    #[arg(long, value_name = "BUNDLE")]
    low: Option<PathBuf>,
    /// Haar levels of an official generator with --low
    #[arg(long, value_name = "N", default_value_t = 2, requires = "low")]
    levels: usize,
    /// Rounding of low bands to bytes between the two stages of an official model, as if they had been files
    #[arg(long, value_enum, default_value = "none", requires = "low")]
    rounding: Rounding,
    /// Name of the model; the input's unless given
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights
    #[arg(long, default_value = "")]
    licence: String,
    /// Whom the licence asks to name
    #[arg(long, default_value = "")]
    attribution: String,
}

fn format(text: &str) -> Result<Format, String> {
    let found = Format::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, format)| *format).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|(name, _)| *name).collect();
        format!("known are {}", names.join(", "))
    })
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DtypeChoice {
    /// 32 bits
    F32,
    /// 16 bits: 11 of precision, up to 65504
    F16,
    /// 16 bits: 8 of precision, the range of 32
    Bf16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ParametersChoice {
    /// Moving averages, which samples are made with
    Averaged,
    /// As trained
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// A model that `wmgm` samples from
    Bundle,
    /// A folder that diffusers loads
    Diffusers,
    /// A file by the network's own names, for plain PyTorch
    Safetensors,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rounding {
    /// Not at all
    None,
    /// To the nearest of 256 values
    Nearest,
    /// To the next below, as improved-diffusion writes bytes
    Below,
}

/// Reads, tells what was found, writes.
pub fn run(arguments: &ExportWeights) -> Result<()> {
    let options = ReadOptions {
        format: arguments.format,
        config: arguments.config.clone(),
        parameters: match arguments.parameters {
            ParametersChoice::Averaged => Parameters::Averaged,
            ParametersChoice::Raw => Parameters::Trained,
        },
    };
    let precision = arguments.dtype.map(|dtype| match dtype {
        DtypeChoice::F32 => Precision::F32,
        DtypeChoice::F16 => Precision::F16,
        DtypeChoice::Bf16 => Precision::BF16,
    });
    let mut imported = import::read(&arguments.input, &options)?;
    name(&mut imported, arguments);
    let mut made = match &imported.model {
        ImportedModel::Sgm(config) => {
            format!(
                "network   {}\nprocess   {}\n",
                config.network.describe(),
                config.process.describe()
            )
        }
        ImportedModel::Single(config) => format!("network   {:?}\n", config.network),
        ImportedModel::Wsgm(config) => {
            format!(
                "network   a cascade of {} levels\n",
                config.cascade.levels.len()
            )
        }
        _ => String::new(),
    };
    made += &format!("tensors   {}, all in use\n", imported.state.len());
    for note in &imported.notes {
        made += &format!("note      {note}\n");
    }
    let (out, shown) = (arguments.out.as_path(), arguments.out.display());
    match (arguments.to, &arguments.low) {
        (Target::Bundle, Some(low)) => pair(&imported, low, arguments, precision)?,
        (Target::Bundle, None) => imported.write_bundle(out, precision)?,
        (_, Some(_)) => bail!("--low makes a bundle, not what --to says"),
        (Target::Diffusers, None) => imported.write_diffusers(out, precision)?,
        (Target::Safetensors, None) => imported.write_safetensors(out, precision)?,
    }
    made += &format!("written   {shown}\n");
    let samples = arguments.low.is_some()
        || matches!(
            imported.model,
            ImportedModel::Sgm(_) | ImportedModel::Wsgm(_)
        );
    if samples && arguments.to != Target::Safetensors {
        made += &format!("sample    wmgm sample --model {shown}\n");
    }
    crate::fetch::say(&made)
}

impl ExportWeights {
    /// Licence and attribution, where they are given.
    fn license(&self, licence: &mut String, attribution: &mut String) {
        for (field, given) in [(licence, &self.licence), (attribution, &self.attribution)] {
            if !given.is_empty() {
                field.clone_from(given);
            }
        }
    }
}

/// Name, provenance and licence, where the user tells them or the input has none.
fn name(imported: &mut Imported, arguments: &ExportWeights) {
    let input = &arguments.input;
    let stem = input.file_stem().unwrap_or_default().to_string_lossy();
    let file = input.file_name().unwrap_or_default().to_string_lossy();
    let (name, provenance, licence, attribution) = match &mut imported.model {
        ImportedModel::Sgm(c) => (
            &mut c.name,
            &mut c.provenance,
            &mut c.licence,
            &mut c.attribution,
        ),
        ImportedModel::Wsgm(c) => (
            &mut c.name,
            &mut c.provenance,
            &mut c.licence,
            &mut c.attribution,
        ),
        ImportedModel::Single(c) => (
            &mut c.name,
            &mut c.provenance,
            &mut c.licence,
            &mut c.attribution,
        ),
        _ => return,
    };
    if let Some(given) = &arguments.name {
        name.clone_from(given);
    } else if name.is_empty() {
        *name = stem.into_owned();
    }
    if provenance.is_empty() {
        *provenance = format!("exported from {file}");
    }
    arguments.license(licence, attribution);
}

/// The official generator with a diffusion of low bands.
fn pair(
    imported: &Imported,
    low: &Path,
    arguments: &ExportWeights,
    precision: Option<Precision>,
) -> Result<()> {
    let generator = match &imported.model {
        ImportedModel::Single(config) => match &config.network {
            Single::OfficialGenerator(generator) => generator.clone(),
            other => bail!("--low is for an official generator; this is {other:?}"),
        },
        _ => bail!("--low is for an official generator; this is a model by itself"),
    };
    let low = import::read(low, &ReadOptions::default())?;
    let ImportedModel::Sgm(config) = &low.model else {
        bail!("--low: it is no diffusion on pixels");
    };
    let rounding = match arguments.rounding {
        Rounding::None => None,
        Rounding::Nearest => Some(EightBit::Nearest),
        Rounding::Below => Some(EightBit::Below),
    };
    let mut config = PairConfig::new((**config).clone(), generator, arguments.levels, rounding);
    if let Some(name) = &arguments.name {
        config.name.clone_from(name);
    }
    arguments.license(&mut config.licence, &mut config.attribution);
    let (score, generator) = (low.tensors()?, imported.tensors()?);
    Ok(write_pair(
        &arguments.out,
        &config,
        score,
        generator,
        precision,
    )?)
}
