//! The device that a parity suite runs on; included by the suites of the crates above, too.

use candle_core::Device;
use std::io::Write;

/// The device under test; `None`, said aloud, if it is not there.
pub fn device() -> Option<Device> {
    let name = std::env::var("WMGM_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: nn_ops::device::Choice = name.parse().expect("WMGM_TEST_DEVICE names a device");
    match nn_ops::device::open(choice) {
        Ok(opened) => Some(opened.device),
        Err(e) => {
            // Past the test harness, which keeps what passing tests print.
            let _ = writeln!(std::io::stderr(), "\nSKIPPED on {name}: {e}");
            None
        }
    }
}
