//! The scenarios as a program; what it does is in the library of the same name.

fn main() -> std::process::ExitCode {
    e2e::main()
}
