//! The proxy between real applications: pods are network namespaces with redirection in place, and
//! two nodes' proxies run in this process, with a fake authority and a view of fixed text.
//!
//! Like `namespaces`, it enters a namespace before its first thread starts, and it never skips.

mod cases;
mod drain;
mod mesh_of_pods;
mod own;
mod policy;
mod zds;

#[path = "../namespaces/world.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "shared with another test program, which uses the rest")]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A true sentence and what shows it; the type that `world` names its own cases by.
type Case = (&'static str, fn());

/// One case may take this long; all together take a few seconds.
const CASE_DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let cases: Vec<Case> = [cases::CASES, policy::CASES, drain::CASES, zds::CASES, own::CASES].concat();
    if std::env::args().any(|arg| arg == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = world::enter() {
        eprintln!("these tests need a network namespace, and this machine gives none: {reason}");
        return ExitCode::FAILURE;
    }
    if std::env::args().any(|arg| arg == "--log") {
        mesh_of_pods::log_to_standard_error();
    }
    let (mut run, mut failed) = (0, 0);
    for (name, case) in cases {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(case)).is_ok();
        println!("test {name} ... {} ({} ms)", if passed { "ok" } else { "FAILED" }, started.elapsed().as_millis());
        run += 1;
        failed += usize::from(!passed);
    }
    println!("\ntest result: {}. {} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" }, run - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case's story to its end, on a runtime of its own.
fn tell(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let in_time = async { tokio::time::timeout(CASE_DEADLINE, story).await.expect("the case takes too long") };
    runtime.expect("a runtime").block_on(in_time);
}
