//! The control plane as a program of its own.

fn main() -> std::process::ExitCode {
    istiod_lite::main(std::env::args_os())
}
