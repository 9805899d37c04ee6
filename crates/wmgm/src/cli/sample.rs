//! `wmgm sample`, `wmgm regenerate` and `wmgm info`.

use wmgm::error::{Error, Result};

/// Make pictures.
#[derive(Debug, clap::Args)]
pub struct SampleArgs {}
impl SampleArgs {
    pub fn run(self) -> Result<()> { Err(Error::Argument("later".into())) }
}
/// Details anew.
#[derive(Debug, clap::Args)]
pub struct RegenerateArgs {}
impl RegenerateArgs {
    pub fn run(self) -> Result<()> { Err(Error::Argument("later".into())) }
}
/// Describe.
#[derive(Debug, clap::Args)]
pub struct InfoArgs {}
impl InfoArgs {
    pub fn run(self) -> Result<()> { Err(Error::Argument("later".into())) }
}
