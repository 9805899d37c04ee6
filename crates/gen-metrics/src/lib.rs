//! How near generated pictures are to real ones: metrics, and the networks whose features they compare.
#![doc = include_str!("../README.md")]

mod bands;
mod diversity;
mod error;
mod extract;
mod features;
mod frechet;
mod kid;
mod linalg;
mod manifold;
pub mod net;
mod picture;
mod resize;
mod stats;
pub mod weights;

pub use bands::{BandDistance, BandStatistics};
pub use diversity::{Diversity, lpips_diversity};
pub use error::{Error, Result};
pub use extract::{Extractor, Network, Space};
pub use features::Features;
pub use frechet::{Gaussian, frechet_distance};
pub use kid::{KernelDistance, KernelOptions, KernelReference, kernel_distance, mmd2};
pub use manifold::{Manifold, manifold};
pub use picture::Picture;
pub use resize::Resize;
pub use stats::Statistics;
