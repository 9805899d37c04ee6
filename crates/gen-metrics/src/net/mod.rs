//! The networks whose features the metrics compare: as their programs have them, with their programs' tensor names.
//!
//! All are for inference: batch normalisations are folded into the convolutions before them.

pub mod efficientnet;
pub mod inception;
mod layers;
pub mod lpips;
mod pool;
pub mod vgg;

pub use efficientnet::EfficientNetLite0;
pub use inception::InceptionV3;
pub use lpips::Lpips;
pub use vgg::Vgg16;
