//! Noise levels for samplers: pure functions in f64, and their composition by configuration.
//!
//! A grid is a falling list of sigma, the noise's standard deviation in x = clean + sigma * noise, whose last entry is
//! where sampling ends. [`karras`], [`exponential`] (evenly spaced in log-SNR) and [`flow`] give levels;
//! [`timesteps`] gives steps of a discrete process, and a [`NoiseTable`] turns steps into levels and back.
//! [`GridConfig`] joins them with diffusers' options, to a [`TimeGrid`] that also tells what time the network is shown.

mod config;
mod levels;
mod table;
mod timesteps;

pub use config::{FinalSigma, GridConfig, SigmaSpacing, TimeGrid, TimeRounding};
pub use levels::{exponential, flow, karras};
pub use table::NoiseTable;
pub(crate) use table::{index_of, sigma_of};
pub use timesteps::{Points, TimestepSpacing, timesteps};
