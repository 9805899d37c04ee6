//! Talking to the user without falling over: `println!` panics where nobody listens (`wmgm info | head -1`) or the disk
//! is full.

use std::io::{ErrorKind, Write};
use std::path::Path;
use wmgm::error::{Error, Result};

/// Writes to standard output. A reader who has gone is no error, a full disk is.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("write", Path::new("standard output"), e))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error; there is nobody left to tell if that fails.
pub fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
