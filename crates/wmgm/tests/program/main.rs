//! The program `wmgm` and the library behind it as their users meet them: real processes on tiny models.

mod analyze;
mod bundles;
mod carried;
mod common;
mod compare;
mod device;
mod diffused;
mod diffusers;
mod eval;
mod formula;
mod hub;
mod import;
mod interrupted;
mod library;
mod outputs;
mod regenerate;
mod sample;
mod train;
mod trajectory;
mod upscale;
