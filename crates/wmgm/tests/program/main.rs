//! The program `wmgm` and the library behind it as their users meet them: real processes on tiny models.

mod bundles;
mod common;
mod compare;
mod diffused;
mod diffusers;
mod formula;
mod import;
mod interrupted;
mod library;
mod outputs;
mod regenerate;
mod sample;
mod train;
