//! `--device` and `--dtype`: where to compute, and in what.

use super::say::warn;
use candle_core::Device;
use nn_ops::Precision;
use nn_ops::device::{Choice, open};
use wmgm::error::{Error, Result};

/// Where to compute.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DeviceArgs {
    /// Where to compute: auto, cpu, cuda, cuda:N (the N-th NVIDIA GPU, from 0) or metal. auto takes a GPU if this program was
    /// built for one and it works, else the CPU.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = choice)]
    device: Choice,
}

fn choice(text: &str) -> std::result::Result<Choice, String> {
    text.parse()
}

impl DeviceArgs {
    /// Opens it. Where a program made for a GPU has to take the CPU, it says why.
    pub fn open(self) -> Result<Device> {
        let opened = open(self.device).map_err(|e| {
            Error::Argument(format!(
                "--device {}: {e}; or use --device cpu",
                self.device
            ))
        })?;
        if let Some(why) = opened.fallback {
            warn(&format!("note: using the CPU: {why}"));
        }
        Ok(opened.device)
    }
}

/// What to compute in.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PrecisionArgs {
    /// What networks compute in: f32, tf32 (CUDA alone), bf16 or f16. Meant for GPUs; on the CPU bf16 and f16 round like a
    /// GPU's and gain nothing.
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = precision)]
    dtype: Precision,
}

fn precision(text: &str) -> std::result::Result<Precision, String> {
    text.parse()
}

impl PrecisionArgs {
    /// It, if the device knows it.
    pub fn on(self, device: &Device) -> Result<Precision> {
        known(self.dtype, device)
            .map(|()| self.dtype)
            .map_err(|e| Error::Argument(format!("--dtype {}: {e}", self.dtype)))
    }
}

/// Whether a device computes in `precision`.
fn known(precision: Precision, device: &Device) -> std::result::Result<(), &'static str> {
    match precision {
        Precision::Tf32 if !device.is_cuda() => {
            Err("only NVIDIA's tensor cores know it, and this is not a CUDA device; use f32")
        }
        _ => Ok(()),
    }
}
