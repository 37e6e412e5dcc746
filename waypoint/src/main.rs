//! The waypoint.

#[global_allocator]
static ALLOCATOR: chassis::memory::Allocator = chassis::memory::ALLOCATOR;

fn main() -> std::process::ExitCode {
    waypoint::main(std::env::args_os())
}
