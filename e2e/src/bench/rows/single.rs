//! What one core does by itself, without a lab: certificates that are signed, views that are replaced.
//!
//! Both are examples of their packages, and print what they measured.

use super::OURS;
use crate::bench::{
    figure::{Figure, Target, Unit},
    load,
    rig::Rig,
};
use anyhow::{Context, Result};

/// Certificates that one core signs in a second.
const SIGNED_MIN: f64 = 3000.0;
/// One endpoint that moves, in a mesh of 100,000.
const ONE_MAX: f64 = 50e-6;
/// A thousand of them at once.
const THOUSAND_MAX: f64 = 20e-3;

/// Signing.
pub(super) fn certificates(rig: &mut Rig) -> Result<Vec<Figure>> {
    let mut figure = Figure::new("certificates signed on one core", Unit::PerSecond, &[Target::NoLess(SIGNED_MIN)]);
    for _ in 0..rig.rounds {
        let text = rig.here("pki", "sign", &[])?;
        let rate =
            text.split(", ").find_map(|part| part.trim().strip_suffix(" a second")).context("it tells no rate")?;
        figure.add(OURS, rate.parse()?);
    }
    Ok(vec![figure])
}

/// Replacing a view.
pub(super) fn view(rig: &mut Rig) -> Result<Vec<Figure>> {
    let mut one = Figure::new("one change of 100,000 endpoints", Unit::Seconds, &[Target::NoMore(ONE_MAX)]);
    let mut thousand = Figure::new("1,000 changes at once", Unit::Seconds, &[Target::NoMore(THOUSAND_MAX)]);
    let mut lookup = Figure::new("a look-up by address", Unit::Seconds, &[]);
    for _ in 0..rig.rounds {
        let text = rig.here("mesh", "apply", &["100000"])?;
        one.add(OURS, told(&text, "one change: median ")?);
        thousand.add(OURS, told(&text, "1000 changes in one batch: ")?);
        lookup.add(OURS, told(&text, "one look-up by address: ")?);
    }
    Ok(vec![one, thousand, lookup])
}

/// The duration behind a label.
fn told(text: &str, label: &str) -> Result<f64> {
    let rest =
        text.lines().find_map(|line| line.strip_prefix(label)).with_context(|| format!("no {label:?}: {text}"))?;
    let duration = rest.split(',').next().unwrap_or(rest);
    load::seconds(duration).with_context(|| format!("{duration:?} is no duration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_prints_is_read() {
        let text = "one change: median 12.5µs, 99 % 30µs, worst 1.2ms\n1000 changes in one batch: 4.25ms\n\
                    one look-up by address: 85ns\n";
        for (label, want) in [
            ("one change: median ", 12.5e-6),
            ("1000 changes in one batch: ", 4.25e-3),
            ("one look-up by address: ", 85e-9),
        ] {
            assert!((told(text, label).unwrap() - want).abs() < 1e-12, "{label}");
        }
        assert!(told(text, "nothing").is_err());
    }
}
