//! Any model that makes pictures.

use super::{Cost, Diffused, OnStep, Pair, Pipeline, Plan, SampleOptions, Sgm, Wmgm};
use crate::bundle::{self, Head, Kind, Variant};
use crate::error::{Error, Result};
use crate::import::diffusers;
use crate::wsgm::Wsgm;
use candle_core::{Device, Tensor};
use std::path::Path;

/// A model of any kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Model {
    /// A low band's diffusion and a generator of details.
    Wmgm(Box<Wmgm>),
    /// The same of the official program.
    Pair(Box<Pair>),
    /// A diffusion on pixels.
    Sgm(Box<Sgm>),
    /// A cascade of diffusions.
    Wsgm(Box<Wsgm>),
    /// A diffusion on pixels, or of every band, trained by this program.
    Diffused(Box<Diffused>),
}

impl Model {
    /// Opens a folder: a bundle of any kind, or one of diffusers.
    ///
    /// # Errors
    /// A folder that is neither, and what its kind's reader finds.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        if diffusers::is_folder(folder) {
            let model = diffusers::open(folder, device)?;
            return Ok(Self::Sgm(Box::new(model)));
        }
        match bundle::head(folder)? {
            Head {
                kind: Kind::Wmgm,
                variant: Some(Variant::Official),
            } => Ok(Self::Pair(Box::new(Pair::read(folder, device)?))),
            Head {
                kind: Kind::Wmgm, ..
            } => Ok(Self::Wmgm(Box::new(Wmgm::from_bundle_on(folder, device)?))),
            Head {
                kind: Kind::Sgm | Kind::Wsgm,
                variant: Some(Variant::Edm),
            } => Ok(Self::Diffused(Box::new(Diffused::read(folder, device)?))),
            Head {
                kind: Kind::Sgm, ..
            } => Ok(Self::Sgm(Box::new(Sgm::read(folder, device)?))),
            Head {
                kind: Kind::Wsgm, ..
            } => Ok(Self::Wsgm(Box::new(Wsgm::read(folder, device)?))),
            Head {
                kind: Kind::Network,
                ..
            } => Err(Error::Bundle {
                path: folder.into(),
                reason: "holds one network, which makes no pictures by itself; a generator becomes a model with \
                         `cargo xtask export-weights GENERATOR --low BUNDLE --out MODEL`"
                    .into(),
            }),
        }
    }

    /// The same model, guided by a worse one; see [`Wmgm::guided`].
    ///
    /// # Errors
    /// A pair of models that are not both of kind wmgm, trained by this program; those of [`Wmgm::guided`].
    pub fn guided(self, worse: &Self, weight: f64) -> Result<Self> {
        match (self, worse) {
            (Self::Wmgm(model), Self::Wmgm(worse)) => {
                Ok(Self::Wmgm(Box::new(model.guided(worse, weight)?)))
            }
            _ => Err(Error::Argument(
                "guide: both models must be of kind wmgm, trained by this program".into(),
            )),
        }
    }

    /// The number of parameters of all its networks.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Wmgm(model) => model.bundle().parameters.iter().sum(),
            Self::Pair(model) => model.parameters().iter().sum(),
            Self::Sgm(model) => model.parameters(),
            Self::Wsgm(model) => model.cascade().parameters(),
            Self::Diffused(model) => model.parameters(),
        }
    }

    fn pipeline(&self) -> &dyn Pipeline {
        match self {
            Self::Wmgm(model) => model.as_ref(),
            Self::Pair(model) => model.as_ref(),
            Self::Sgm(model) => model.as_ref(),
            Self::Wsgm(model) => model.as_ref(),
            Self::Diffused(model) => model.as_ref(),
        }
    }
}

impl Pipeline for Model {
    fn size(&self) -> [usize; 2] {
        self.pipeline().size()
    }

    fn plan(&self, options: &SampleOptions) -> Result<Plan> {
        self.pipeline().plan(options)
    }

    fn cost(&self, options: &SampleOptions) -> Result<Option<Cost>> {
        self.pipeline().cost(options)
    }

    fn make(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_step: OnStep<'_>,
    ) -> Result<Tensor> {
        self.pipeline().make(options, indices, on_step)
    }
    fn frames(
        &self,
        options: &SampleOptions,
        indices: &[u64],
        on_frame: &mut dyn FnMut(&Tensor) -> Result<()>,
        on_step: OnStep<'_>,
    ) -> Result<()> {
        self.pipeline().frames(options, indices, on_frame, on_step)
    }
}
