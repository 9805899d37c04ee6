//! Features of pictures.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::net::{EfficientNetLite0, InceptionV3, efficientnet, inception};
use crate::picture::Picture;
use crate::resize::Resize;
use crate::weights::{self, Origin};
use candle_core::{Device, Module, Tensor};
use candle_nn::VarBuilder;
use rayon::prelude::*;
use std::path::Path;

/// A network whose features are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Network {
    /// EfficientNet-Lite0, 1,280 numbers. Its weights come with a Python package.
    EfficientNetLite0,
    /// FID's Inception-v3, 2,048 numbers.
    InceptionV3,
}

impl Network {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::EfficientNetLite0, Self::InceptionV3];

    /// Its name in options, files and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "efficientnet-lite0",
            Self::InceptionV3 => "inception-v3",
        }
    }

    /// The network of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|n| n.name() == name)
    }

    /// Numbers in a feature vector.
    pub fn dim(self) -> usize {
        match self {
            Self::EfficientNetLite0 => efficientnet::DIM,
            Self::InceptionV3 => inception::DIM,
        }
    }

    /// Height and width of its pictures.
    pub fn size(self) -> usize {
        match self {
            Self::EfficientNetLite0 => efficientnet::SIZE,
            Self::InceptionV3 => inception::SIZE,
        }
    }
}

/// Where features live: those of two spaces cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The network.
    pub network: Network,
    /// How pictures are brought to its size.
    pub resize: Resize,
    /// Where its weights come from.
    pub origin: Origin,
}

impl Space {
    /// In one line, such as `efficientnet-lite0 bicubic-antialias sha256:5793...`.
    pub fn name(&self) -> String {
        format!(
            "{} {} {}",
            self.network.name(),
            self.resize.name(),
            self.origin
        )
    }

    /// What the Frechet distance of these features may be called: FID only with the real network and its real weights,
    /// and with which resize.
    pub fn frechet_name(&self) -> String {
        match (self.network, self.origin.is_fid(), self.resize) {
            (Network::InceptionV3, true, Resize::Bilinear) => "FID (pytorch-fid's resize)".into(),
            (Network::InceptionV3, true, Resize::Bicubic) => "FID (clean-fid's resize)".into(),
            _ => format!("Frechet distance ({})", self.short_name()),
        }
    }

    /// Network and resize in a word; the resize that a network is used with most is not said: `efficientnet-lite0`,
    /// `inception-v3`, `inception-v3-clean`. It does not tell one file of weights from another.
    pub fn short_name(&self) -> String {
        let network = self.network.name();
        match (self.network, self.resize) {
            (Network::EfficientNetLite0, Resize::Bicubic)
            | (Network::InceptionV3, Resize::Bilinear) => network.into(),
            (Network::EfficientNetLite0, Resize::Bilinear) => format!("{network}-bilinear"),
            (Network::InceptionV3, Resize::Bicubic) => format!("{network}-clean"),
        }
    }
}

/// A network ready to look at pictures.
#[derive(Debug, Clone)]
pub struct Extractor {
    space: Space,
    net: Net,
    device: Device,
}

#[derive(Debug, Clone)]
enum Net {
    EfficientNetLite0(Box<EfficientNetLite0>),
    InceptionV3(InceptionV3),
}

impl Extractor {
    /// Reads a network's weights from a file: safetensors or PyTorch's, with the names of the network's own program.
    ///
    /// # Errors
    /// A file that cannot be read; the first tensor that is missing, misshapen or not finite.
    pub fn open(network: Network, resize: Resize, file: &Path, device: &Device) -> Result<Self> {
        let (found, origin) = weights::open(file, device)?;
        Self::new(network, resize, found.builder(device), origin, device).map_err(|e| match e {
            Error::Candle(e) => {
                Error::file(file, format!("not the weights of {}: {e}", network.name()))
            }
            other => other,
        })
    }

    /// From weights at hand.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(
        network: Network,
        resize: Resize,
        vb: VarBuilder,
        origin: Origin,
        device: &Device,
    ) -> Result<Self> {
        let net = match network {
            Network::EfficientNetLite0 => {
                Net::EfficientNetLite0(Box::new(EfficientNetLite0::new(vb)?))
            }
            Network::InceptionV3 => Net::InceptionV3(InceptionV3::new(vb)?),
        };
        Ok(Self {
            space: Space {
                network,
                resize,
                origin,
            },
            net,
            device: device.clone(),
        })
    }

    /// Where the features live.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Features (N, D) of pictures of any sizes.
    ///
    /// On the CPU each picture is one task, so the same picture has the same features in any company and on any number of
    /// threads.
    ///
    /// # Errors
    /// A network that gives values that are not finite.
    pub fn extract(&self, pictures: &[Picture<'_>]) -> Result<Features> {
        let values: Vec<f32> = if self.device.is_cpu() {
            let each = pictures.par_iter().map(|p| self.of_batch(&[*p]));
            each.collect::<Result<Vec<_>>>()?.concat()
        } else {
            let batches = pictures.chunks(32).map(|some| self.of_batch(some));
            batches.collect::<Result<Vec<_>>>()?.concat()
        };
        Features::new(values, self.space.network.dim())
    }

    fn of_batch(&self, pictures: &[Picture<'_>]) -> Result<Vec<f32>> {
        let size = self.space.network.size();
        let planes: Vec<Vec<f32>> = pictures.par_iter().map(|p| self.prepared(p)).collect();
        let shape = (pictures.len(), 3, size, size);
        let x = Tensor::from_vec(planes.concat(), shape, &self.device)?;
        let y = match &self.net {
            Net::EfficientNetLite0(net) => net.forward(&x)?,
            Net::InceptionV3(net) => net.forward(&x)?,
        };
        Ok(y.flatten_all()?.to_vec1()?)
    }

    /// A picture as the network's own program hands it over: (3, size, size).
    fn prepared(&self, picture: &Picture<'_>) -> Vec<f32> {
        let Space {
            network, resize, ..
        } = self.space;
        let to = [network.size(); 2];
        let scaled = |scale| resize.apply(&picture.planes(scale, 0.0), picture.size(), to);
        match (network, resize) {
            (Network::EfficientNetLite0, _) => {
                const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
                const STD: [f32; 3] = [0.229, 0.224, 0.225];
                let mut x = scaled(1.0 / 255.0);
                for (c, plane) in x.chunks_exact_mut(to[0] * to[1]).enumerate() {
                    plane.iter_mut().for_each(|v| *v = (*v - MEAN[c]) / STD[c]);
                }
                x
            }
            // clean-fid: on bytes' own scale, what overshoots cut off.
            (Network::InceptionV3, Resize::Bicubic) => {
                let mut x = scaled(1.0);
                x.iter_mut()
                    .for_each(|v| *v = (v.clamp(0.0, 255.0) - 128.0) / 128.0);
                x
            }
            // pytorch-fid.
            (Network::InceptionV3, Resize::Bilinear) => {
                let mut x = scaled(1.0 / 255.0);
                x.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
                x
            }
        }
    }
}
