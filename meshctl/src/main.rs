//! Entry point of the multi-call program; everything is in the library.
use std::process::ExitCode;

fn main() -> ExitCode {
    meshctl::main(std::env::args_os().skip(1).collect())
}
