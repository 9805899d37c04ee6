//! PyTorch in a process of its own, which times itself on request.

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use nn_ops::Precision;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// How PyTorch runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it comes: eager, NCHW.
    Eager,
    /// Eager, channels last.
    ChannelsLast,
    /// torch.compile (needs a C++ compiler).
    Compile,
}

impl Mode {
    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::ChannelsLast => "channels_last",
            Self::Compile => "compile",
        }
    }
}

/// The process; it ends when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    answers: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Peer {
    /// Starts `scripts/peer.py` on a case: what to run, in JSON, and its tensors.
    ///
    /// # Errors
    /// No Python, or one without torch; what it said is in the message.
    pub fn start(case: &Value, tensors: &HashMap<String, Tensor>, mode: Mode) -> Result<Self> {
        Self::start_on(case, tensors, mode, "cpu", Precision::F32)
    }

    /// The same on a device by PyTorch's name for it, in a precision (bf16: autocast).
    ///
    /// # Errors
    /// As [`Peer::start`].
    pub fn start_on(
        case: &Value,
        tensors: &HashMap<String, Tensor>,
        mode: Mode,
        device: &str,
        precision: Precision,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (json, weights) = (
            folder.path().join("case.json"),
            folder.path().join("tensors.safetensors"),
        );
        std::fs::write(&json, serde_json::to_vec(case)?)?;
        candle_core::safetensors::save(tensors, &weights)?;
        let python = std::env::var("WMGM_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut child = Command::new(&python)
            .arg(crate::root().join("crates/bench/scripts/peer.py"))
            .args([&json, &weights])
            .arg(rayon::current_num_threads().to_string())
            .args([mode.name(), device, &precision.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| python.clone())?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let mut peer = Self {
            child,
            answers,
            _folder: folder,
        };
        match peer.line()?.as_str() {
            "ready" => Ok(peer),
            other => {
                bail!("{python} said {other:?}; does it have torch and numpy? Set WMGM_PYTHON")
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().into())
    }

    /// Milliseconds of one `infer`, `step`, `forward`, `input`, `weight` or `backward` of so many in a row.
    ///
    /// # Errors
    /// A process that has died.
    pub fn time(&mut self, what: &str, times: usize) -> Result<f64> {
        self.ask(&format!("{what} {times}"))
    }

    /// A number: for `output` the largest difference from the tensor `y`, relative to its largest
    /// value; for `memory` the peak in MiB since the start or the last `forget`, which answers 0.
    ///
    /// # Errors
    /// A process that has died.
    pub fn ask(&mut self, what: &str) -> Result<f64> {
        let stdin = self.child.stdin.as_mut().context("no input")?;
        writeln!(stdin, "{what}")?;
        let line = self.line()?;
        line.parse().with_context(|| format!("{what}: {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
