//! When the mesh changes its own root, and in which steps. Pure: the time comes in.
//!
//! 1. *Announce*: everybody learns the new root besides the old; the old still signs.
//! 2. *Switch*: when everybody has renewed once and so knows both, the new one signs.
//! 3. *Drop*: when nobody has a certificate of the old any more, nobody trusts it any more.
//!
//! Between two steps lies an overlap, the life of a certificate.

use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// A root is replaced when this share of its life is left: two years of ten.
const LEFT_MIN: f64 = 0.2;

/// Where a rotation stands; kept in a file, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub(crate) enum Stage {
    /// One root.
    #[default]
    Steady,
    /// The next root is trusted, the old one signs.
    Announced { since: u64 },
    /// The next root signs, the old one is still trusted.
    Switched { since: u64 },
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    Announce,
    Switch,
    Drop,
}

/// The next step of a signer that lives from `not_before` to `not_after`.
pub(crate) fn next(
    stage: Stage,
    not_before: SystemTime,
    not_after: SystemTime,
    overlap: Duration,
    now: SystemTime,
) -> Step {
    let overlapped = |since: u64| seconds(now).saturating_sub(since) >= overlap.as_secs();
    match stage {
        Stage::Steady => {
            let life = not_after.duration_since(not_before).unwrap_or_default();
            let left = not_after.duration_since(now).unwrap_or_default();
            if left < life.mul_f64(LEFT_MIN) { Step::Announce } else { Step::Stay }
        }
        Stage::Announced { since } if overlapped(since) => Step::Switch,
        Stage::Switched { since } if overlapped(since) => Step::Drop,
        Stage::Announced { .. } | Stage::Switched { .. } => Step::Stay,
    }
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_replaced_in_its_last_fifth_and_in_steps() {
        let at = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hours);
        let since = |hours: u64| seconds(at(hours));
        let overlap = Duration::from_secs(24 * 3600);
        for (stage, hour, want) in [
            (Stage::Steady, 0, Step::Stay),
            (Stage::Steady, 800, Step::Stay),
            (Stage::Steady, 801, Step::Announce),
            (Stage::Steady, 2000, Step::Announce),
            (Stage::Announced { since: since(801) }, 824, Step::Stay),
            (Stage::Announced { since: since(801) }, 825, Step::Switch),
            (Stage::Announced { since: since(801) }, 10, Step::Stay),
            (Stage::Switched { since: since(825) }, 848, Step::Stay),
            (Stage::Switched { since: since(825) }, 849, Step::Drop),
        ] {
            assert_eq!(next(stage, at(0), at(1000), overlap, at(hour)), want, "{stage:?} at hour {hour}");
        }
    }
}
