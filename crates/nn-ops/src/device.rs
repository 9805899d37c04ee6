//! Choosing and opening a device: what is asked for, what is there, and why not.

use candle_core::{Device, Tensor, bail};
use std::fmt;
use std::str::FromStr;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// The first CUDA device or Metal where the build has it and it works, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU by its number, from 0.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for Choice {
    type Err = String;

    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`.
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => (s.strip_prefix("cuda:"))
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("{s:?} is not one of auto, cpu, cuda, cuda:N, metal")),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    /// Why, in a line.
    pub reason: String,
}

/// An open device.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The device, ready for use.
    pub device: Device,
    /// Why it is the CPU, where [`Choice::Auto`] looked for something faster in this build.
    pub fallback: Option<String>,
}

/// Opens a device and tries it: its libraries, its kernels, one sum.
///
/// [`Choice::Auto`] takes the CPU where nothing else works, and says why if the build was made for more. On CUDA
/// devices one stream serves all threads, freed memory is kept for the next tensor, and the kernels of this crate are
/// compiled (about a second).
///
/// # Errors
/// A device that this build was not made for, or that cannot be used: a missing library, a driver too old, no such
/// device, no memory. Never a panic, though candle's own `Device::new_cuda` may.
pub fn open(choice: Choice) -> Result<Opened, Unusable> {
    let plain = |device| Opened {
        device,
        fallback: None,
    };
    match choice {
        Choice::Cpu => Ok(plain(Device::Cpu)),
        Choice::Cuda(n) => cuda(n).map(plain),
        Choice::Metal => metal().map(plain),
        Choice::Auto => {
            let mut reasons = vec![];
            if cfg!(feature = "cuda") {
                match cuda(0) {
                    Ok(device) => return Ok(plain(device)),
                    Err(e) => reasons.push(e.to_string()),
                }
            }
            if cfg!(feature = "metal") {
                match metal() {
                    Ok(device) => return Ok(plain(device)),
                    Err(e) => reasons.push(e.to_string()),
                }
            }
            Ok(Opened {
                device: Device::Cpu,
                fallback: (!reasons.is_empty()).then(|| reasons.join("; ")),
            })
        }
    }
}

fn unusable<R>(reason: impl Into<String>) -> Result<R, Unusable> {
    Err(Unusable {
        reason: reason.into(),
    })
}

fn metal() -> Result<Device, Unusable> {
    if !cfg!(feature = "metal") {
        return unusable(
            "this program was built without Metal; build it with --features metal on a Mac",
        );
    }
    quietly(|| tried(Device::new_metal(0)?))
        .or_else(|why| unusable(format!("Metal cannot be used: {}", first_line(&why))))
}

fn cuda(n: usize) -> Result<Device, Unusable> {
    if !cfg!(feature = "cuda") {
        return unusable(
            "this program was built without CUDA; build it with --features cuda,cudnn (docs/gpu.md tells how, with and \
             without a CUDA toolkit)",
        );
    }
    let open = || {
        let device = Device::new_cuda_with_stream(n)?;
        #[cfg(feature = "cuda")]
        crate::cuda::prepare(device.as_cuda_device()?)?;
        tried(device)
    };
    quietly(open).or_else(|why| {
        unusable(format!(
            "CUDA device {n} cannot be used: {}",
            explained(&why)
        ))
    })
}

/// What follows in an error's text may be a backtrace.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Adds two numbers there.
fn tried(device: Device) -> candle_core::Result<Device> {
    let one = Tensor::ones(1, candle_core::DType::F32, &device)?;
    match (&one + &one)?.to_vec1::<f32>()?[..] {
        [2.0] => Ok(device),
        ref other => bail!("it adds 1 and 1 to {other:?}"),
    }
}

/// The first line of what went wrong, and what it usually means.
fn explained(why: &str) -> String {
    // cudarc's words for a library that is not there: its name in quotes, then all names that were tried.
    if let Some(name) = (why.strip_prefix("Unable to dynamically load the \""))
        .and_then(|rest| rest.split('"').next())
    {
        return match name {
            "cuda" => "there is no NVIDIA driver here (libcuda.so)".into(),
            _ => format!("lib{name}.so is not found; LD_LIBRARY_PATH must name its folder"),
        };
    }
    let codes = [
        (
            "CUDA_ERROR_NO_DEVICE",
            "there is no NVIDIA GPU that the driver sees",
        ),
        (
            "CUDA_ERROR_INVALID_DEVICE",
            "there is no GPU of this number",
        ),
        ("CUDA_ERROR_OUT_OF_MEMORY", "its memory is full"),
        (
            "CUDA_ERROR_INSUFFICIENT_DRIVER",
            "the driver is too old for this program",
        ),
        (
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            "driver and kernel module have different versions",
        ),
        (
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            "the driver is too old for the kernels; update it",
        ),
        (
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
            "the kernels were built for newer cards (CUDA_COMPUTE_CAP)",
        ),
        (
            "CUDA_ERROR_INVALID_PTX",
            "the kernels were built for newer cards (CUDA_COMPUTE_CAP)",
        ),
        (
            "Missing symbol",
            "the driver or a library is too old for this program",
        ),
        (
            "CUDA_ERROR_STUB_LIBRARY",
            "an empty stub was found in place of the driver's library",
        ),
    ];
    match codes.iter().find(|(code, _)| why.contains(code)) {
        Some((code, meaning)) => format!("{meaning} ({code})"),
        None => first_line(why).into(),
    }
}

/// Runs `f`; its error or panic as text, the panic unprinted.
fn quietly<R>(f: impl FnOnce() -> candle_core::Result<R>) -> Result<R, String> {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
    use std::sync::Mutex;
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    // The hook is the process's: another thread's panic in these moments is not printed either, yet still a panic.
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let result = catch_unwind(AssertUnwindSafe(f));
    set_hook(hook);
    match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err((panic.downcast_ref::<String>().cloned())
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "a library failed without saying why".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda:0", Choice::Cuda(0)),
            ("cuda:3", Choice::Cuda(3)),
            ("metal", Choice::Metal),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "metal:0"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_missing_is_an_error_or_a_reason_and_never_a_panic() {
        for choice in [Choice::Cuda(0), Choice::Cuda(99), Choice::Metal] {
            match open(choice) {
                Ok(opened) => assert!(!opened.device.is_cpu() && opened.fallback.is_none()),
                Err(e) => {
                    let text = e.to_string();
                    assert!(!text.is_empty() && text.lines().count() == 1, "{text:?}");
                }
            }
        }
        let auto = open(Choice::Auto).expect("the CPU is always there");
        let built = cfg!(any(feature = "cuda", feature = "metal"));
        assert_eq!(auto.fallback.is_some(), built && auto.device.is_cpu());
        assert!(open(Choice::Cpu).expect("opens").device.is_cpu());
    }

    #[test]
    fn messages_of_drivers_and_loaders_are_explained() {
        let loader = "Unable to dynamically load the \"cudnn\" shared library - searched for [..]";
        assert_eq!(
            explained(loader),
            "libcudnn.so is not found; LD_LIBRARY_PATH must name its folder"
        );
        let driver = "DriverError(CUDA_ERROR_NO_DEVICE, \"no CUDA-capable device is detected\")";
        let text = explained(driver);
        assert!(text.starts_with("there is no NVIDIA GPU"), "{text}");
        assert_eq!(explained("first\nsecond"), "first");
        assert_eq!(
            quietly(|| -> candle_core::Result<()> { panic!("on purpose") }),
            Err("on purpose".into())
        );
    }
}
