//! The tour: does what a mesh is for, one thing after another, and shows what
//! was seen. Nothing is taken on trust: each step looks at evidence that the
//! mesh could not fake to it, and the tour is well only if each was so.

mod evidence;
mod steps;

use std::time::{Duration, Instant};

use super::client::{self, Lab};

/// How long the certificates of a lab with a tour live, so that one can be
/// seen being renewed. Long enough to start, short enough to wait for.
const CERTIFICATE_LIFE: &str = "30s";
/// How long a step waits for what it expects to see.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the mesh's programs need to be told for the tour; what a person sets
/// comes later and wins.
pub(crate) fn settings() -> Vec<(String, String, String)> {
    vec![("ztunnel".to_owned(), "SECRET_TTL".to_owned(), CERTIFICATE_LIFE.to_owned())]
}

/// What a step saw, or what was not so.
type Seen = Result<Vec<String>, String>;
/// One thing to do and to look at.
type Step = fn(&Lab) -> Seen;

/// Goes through all steps; whether each was so.
pub(crate) fn run(lab: &Lab) -> bool {
    let steps: [(&str, Step); 5] = [
        ("A request between two nodes, and who was at its ends", steps::request),
        ("The bytes of a request on the wire between the nodes", steps::wire),
        ("A policy: a call is refused, an open connection closed", steps::policy),
        ("A certificate, its end, and the next one before that", steps::renewal),
        ("The metrics, as Prometheus would scrape them", steps::metrics),
    ];
    println!("\nA tour of the mesh\n");
    let mut failed = 0;
    for (number, (title, step)) in steps.iter().enumerate() {
        println!("{}. {title}", number + 1);
        match step(lab) {
            Ok(seen) => {
                for line in seen {
                    println!("   {line}");
                }
                println!("   ok\n");
            }
            Err(reason) => {
                failed += 1;
                for line in reason.lines() {
                    println!("   {line}");
                }
                println!("   NOT SO\n");
            }
        }
    }
    match failed {
        0 => println!("Everything was as it should be."),
        1 => println!("One thing was not as it should be."),
        more => println!("{more} things were not as they should be."),
    }
    failed == 0
}

/// Looks until something is there, for a limited time.
fn wait_for<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(format!("waited {} s in vain for {what}", patience.as_secs()));
        }
        client::pause();
    }
}
