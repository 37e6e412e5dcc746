//! The control plane as a program of its own.

#[global_allocator]
static ALLOCATOR: chassis::memory::Allocator = chassis::memory::ALLOCATOR;

fn main() -> std::process::ExitCode {
    istiod_lite::main(std::env::args_os())
}
