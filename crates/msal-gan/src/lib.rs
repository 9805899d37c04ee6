//! Multi-scale adversarial generation of wavelet details: generators, discriminators, losses.

pub mod detail;

pub use detail::{DetailDiscriminator, DetailGenerator};
