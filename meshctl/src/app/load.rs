//! Calls a URL again and again, a connection each time, and says how it went.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use http::{Method, Uri};

use super::http::fetch;

/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// Kinds of failure that are told; further ones are only counted.
const FAILURES_TOLD: usize = 5;

/// Call a URL again and again and say how it went.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Load {
    /// The URL, http only.
    url: Uri,
    /// How many calls.
    #[arg(long, short = 'n', default_value_t = 100)]
    calls: u32,
    /// How many at once.
    #[arg(long, short = 'c', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: u32,
}

pub(crate) async fn run(load: Load) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let callers: Vec<_> = (0..load.concurrency)
        .map(|number| {
            // The first callers take what does not divide evenly.
            let mine = load.calls / load.concurrency + u32::from(number < load.calls % load.concurrency);
            chassis::task::spawn("load", call(load.url.clone(), mine))
        })
        .collect();
    let (mut took, mut failures) = (Vec::new(), Vec::new());
    for caller in callers {
        let (well, badly) = caller.await.context("a caller ended")?;
        took.extend(well);
        failures.extend(badly);
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!("{} calls in {:.2} s, {} failed", load.calls, begun.elapsed().as_secs_f64(), failures.len());
    println!("half within {:.1} ms, 99 % within {:.1} ms", at(50), at(99));
    for failure in failures.iter().take(FAILURES_TOLD) {
        println!("failed: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn call(url: Uri, calls: u32) -> (Vec<Duration>, Vec<String>) {
    let (mut took, mut failures) = (Vec::new(), Vec::new());
    for _ in 0..calls {
        let begun = Instant::now();
        match tokio::time::timeout(CALL_DEADLINE, fetch(&Method::GET, &url, &[])).await {
            Ok(Ok((head, _))) if head.status.is_success() => took.push(begun.elapsed()),
            Ok(Ok((head, _))) => failures.push(head.status.to_string()),
            Ok(Err(error)) => failures.push(format!("{error:#}")),
            Err(_) => failures.push("no answer in time".to_owned()),
        }
    }
    (took, failures)
}
