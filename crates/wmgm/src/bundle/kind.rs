//! What a bundle is, told by its `config.json` before anything else of it is read.

use serde::{Deserialize, Serialize};

/// The kinds of bundle. Without the field `kind` it is `wmgm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A low band's diffusion and a generator of details.
    #[default]
    Wmgm,
    /// A diffusion on pixels.
    Sgm,
    /// A cascade of diffusions, of a coarse picture and of details.
    Wsgm,
    /// One network by itself, which makes no pictures.
    Network,
}

/// The variants of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Variant {
    /// WMGM of the official program: any diffusion of 8-bit low bands and the official generator.
    Official,
    /// SGM or WSGM of this program: EDM's diffusion of pixels, or of every band of a wavelet transform.
    Edm,
}

/// The fields that tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The kind.
    pub kind: Kind,
    /// Its variant, if it has any.
    pub variant: Option<Variant>,
}

impl Kind {
    /// Whether it is the kind that needs no name.
    pub(crate) fn is_wmgm(&self) -> bool {
        *self == Self::Wmgm
    }
}
