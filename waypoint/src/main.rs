//! The waypoint.

fn main() -> std::process::ExitCode {
    waypoint::main(std::env::args_os())
}
