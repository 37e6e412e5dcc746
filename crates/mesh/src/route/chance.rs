//! Shares of requests. Chance comes in: as throws of dice that somebody else makes.

use super::{
    compile::Hit,
    http::{Action, Backend, Mirror},
    limit::{AbortStatus, Fault},
};
use std::time::Duration;

/// The place that a throw of a die with 2^64 faces falls on, each by its weight. None where no
/// weight is.
pub fn weighted(weights: impl Iterator<Item = u32> + Clone, throw: u64) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    // As if the faces were dealt to the weights in order; the error is below 2^-32.
    let mut left = u64::try_from((u128::from(throw) * u128::from(total)) >> 64).unwrap_or_default();
    for (place, weight) in weights.enumerate() {
        let weight = u64::from(weight);
        if left < weight {
            return Some(place);
        }
        left -= weight;
    }
    None
}

impl<'a> Hit<'a> {
    /// The backend of a rule that forwards, by a throw of a die with 2^64 faces. None where the
    /// rule does not forward, or to nobody: that is answered with 500.
    pub fn backend(&self, throw: u64) -> Option<&'a Backend> {
        let Action::Forward(backends) = &self.rule.action else { return None };
        weighted(backends.iter().map(|backend| backend.weight), throw).and_then(|place| backends.get(place))
    }

    /// Who gets a copy; each by a throw of its own of a die with a million faces.
    pub fn mirrors(&self, mut throw: impl FnMut() -> u32) -> impl Iterator<Item = &'a Mirror> {
        self.rule.filters.mirrors.iter().filter(move |mirror| mirror.share.takes(throw()))
    }
}

/// What befalls a request on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishap {
    /// It waits, before all else.
    pub delay: Option<Duration>,
    /// It is answered so.
    pub abort: Option<AbortStatus>,
}

/// What befalls a request of these faults: of each kind the first that falls, by throws of a die
/// with a million faces.
pub fn mishap<'a>(faults: impl Iterator<Item = &'a Fault>, mut throw: impl FnMut() -> u32) -> Mishap {
    let mut mishap = Mishap::default();
    for fault in faults {
        // Each has its throw, fallen or not, so that the same throws fall the same way.
        let delay = fault.delay.filter(|(_, share)| share.takes(throw()));
        let abort = fault.abort.filter(|(_, share)| share.takes(throw()));
        mishap.delay = mishap.delay.or_else(|| delay.map(|(delay, _)| delay));
        mishap.abort = mishap.abort.or_else(|| abort.map(|(status, _)| status));
    }
    mishap
}

#[cfg(test)]
mod tests;
