//! What the rules and links really do, on the kernel of this machine.
//!
//! The whole program runs in a network namespace of its own; without root in a
//! user namespace of its own too. That has to happen before the first thread
//! starts, which is why this is not the usual test harness. It never skips: a
//! machine where it cannot run fails, with the reason.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod agent;
mod crowd;
mod nat;
mod redirect;
mod world;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// A true sentence and what shows it.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let cases: Vec<Case> = [world::CASES, redirect::CASES, crowd::CASES, nat::CASES, &agent::cases()].concat();
    if std::env::args().any(|arg| arg == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = world::enter() {
        eprintln!("these tests need a network namespace, and this machine gives none: {reason}");
        return ExitCode::FAILURE;
    }
    let mut failed = 0;
    let mut run = 0;
    for (name, case) in cases {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        let passed = catch_unwind(case).is_ok();
        println!("test {name} ... {} ({} ms)", if passed { "ok" } else { "FAILED" }, started.elapsed().as_millis());
        run += 1;
        failed += usize::from(!passed);
    }
    println!("\ntest result: {}. {} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" }, run - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
