//! The program `wmgm` and the library behind it as their users meet them: real processes on tiny models.

mod bundles;
mod carried;
mod common;
mod diffusers;
mod formula;
mod hub;
mod import;
mod interrupted;
mod library;
mod outputs;
mod regenerate;
mod sample;
mod train;
