//! The node proxy, wired.

use std::{ffi::OsString, process::ExitCode};

/// Runs the node proxy to its end. The arguments are those of the process, program name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    drop(args.into_iter());
    ExitCode::FAILURE
}
