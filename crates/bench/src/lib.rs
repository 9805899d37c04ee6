//! Benchmarks beside PyTorch: the same tensors on both sides, outputs compared first, the two run by turns.
//!
//! `cargo bench -p bench` prints every table. WMGM_PYTHON names a Python that has torch and numpy (default python3);
//! without one the tables of operators have our figures alone.

mod peaks;
mod peer;
mod timing;

pub use peaks::{Peaks, peaks};
pub use peer::{Mode, Peer};
pub use timing::{Side, Spread, TURNS, ratios, spread, timed, turns, turns_on};

/// The repository: WMGM_ROOT, for a benchmark carried to another machine, else where it was built.
pub fn root() -> std::path::PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    std::env::var_os("WMGM_ROOT").map_or_else(|| built.into(), Into::into)
}

/// The largest memory this process has held, in MiB; 0 where the system does not tell.
pub fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Sets the peak back to what this process holds now, where the system can.
pub fn forget_peak() {
    // Refused, the peak stays what it was: a larger figure, never a smaller one.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
