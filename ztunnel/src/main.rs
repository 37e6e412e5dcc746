//! Entry point of the node proxy.

use std::process::ExitCode;

fn main() -> ExitCode {
    ztunnel::main(std::env::args_os())
}
