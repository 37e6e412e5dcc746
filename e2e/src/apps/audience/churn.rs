//! Pods that come and go at a fixed rate: each change is timed from when it was due until the last proxy has heard of
//! it, so that whatever falls behind is seen.

use super::mesh;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};
use testkit::audience::Told;

/// Pods that come and go and are there at any one time.
const LIVING: usize = 1000;
/// Between two looks at whether all was heard.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What became of the changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stale {
    /// How many changes there were.
    pub changes: usize,
    /// The 99th of a hundred: milliseconds until the last proxy had heard of it.
    pub p99_ms: f64,
    /// The median of those.
    pub p50_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The change of a number: pods come and go in turn, and the oldest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Comes(usize),
    Goes(usize),
}

impl Step {
    fn number(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Comes(LIVING + number / 2) } else { Self::Goes(number / 2) }
    }

    /// Which change it was; none is of the pods that were there before.
    fn its_number(self) -> Option<usize> {
        match self {
            Self::Comes(pod) => Some(pod.checked_sub(LIVING)? * 2),
            Self::Goes(pod) => Some(pod * 2 + 1),
        }
    }

    fn make(self, config: &Path) -> Result<()> {
        match self {
            Self::Comes(pod) => mesh::comes(config, pod),
            Self::Goes(pod) => mesh::goes(config, pod),
        }
    }
}

/// The pods that are there before the first change.
pub(super) fn begin(config: &Path) -> Result<()> {
    (0..LIVING).try_for_each(|pod| mesh::comes(config, pod))
}

/// Who has heard of what.
pub(super) struct Tally {
    proxies: u32,
    began: Instant,
    /// Proxies that have heard of each change.
    heard: Vec<AtomicU32>,
    /// When the last of them had, in microseconds since the beginning.
    last: Vec<AtomicU64>,
}

impl Tally {
    /// Of so many changes and proxies.
    pub(super) fn new(proxies: usize, changes: usize) -> Self {
        Self {
            proxies: proxies as u32,
            began: Instant::now(),
            heard: (0..changes).map(|_| AtomicU32::new(0)).collect(),
            last: (0..changes).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// A proxy was told something.
    pub(super) fn told(&self, told: &Told) {
        let now = self.began.elapsed();
        let comes = told.names().filter_map(mesh::passing).map(Step::Comes);
        let goes = told.removed.iter().filter_map(|name| mesh::passing(name)).map(Step::Goes);
        comes.chain(goes).filter_map(Step::its_number).for_each(|number| self.hear(number, now));
    }

    fn hear(&self, number: usize, now: Duration) {
        let Some(heard) = self.heard.get(number) else { return };
        if heard.fetch_add(1, Ordering::Relaxed) + 1 == self.proxies {
            self.last[number].store(now.as_micros() as u64, Ordering::Relaxed);
        }
    }

    fn unheard(&self) -> usize {
        self.heard.iter().filter(|heard| heard.load(Ordering::Relaxed) < self.proxies).count()
    }

    /// How long each took, from when it was due.
    fn stale(&self, due: impl Fn(usize) -> Duration) -> Stale {
        let late = |(number, last): (usize, &AtomicU64)| {
            Duration::from_micros(last.load(Ordering::Relaxed)).saturating_sub(due(number)).as_secs_f64() * 1e3
        };
        let mut times: Vec<f64> = self.last.iter().enumerate().map(late).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| crate::apps::quantile(&times, share).unwrap_or(0.0);
        Stale { changes: times.len(), p99_ms: at(0.99), p50_ms: at(0.5), max_ms: at(1.0) }
    }
}

/// Makes the changes, so many a second, and waits until all have heard of all.
pub(super) async fn run(config: &Path, rate: f64, tally: &Tally, deadline: Duration) -> Result<Stale> {
    let begin = tally.began.elapsed();
    let due = |number: usize| begin + Duration::from_secs_f64(number as f64 / rate);
    for number in 0..tally.heard.len() {
        tokio::time::sleep_until((tally.began + due(number)).into()).await;
        Step::number(number).make(config)?;
    }
    let ended = Instant::now();
    while tally.unheard() > 0 {
        ensure!(ended.elapsed() < deadline, "{} changes never came to all proxies", tally.unheard());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(tally.stale(due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_come_and_go_in_turn_and_the_oldest_goes() {
        for (number, want) in
            [(0, Step::Comes(LIVING)), (1, Step::Goes(0)), (2, Step::Comes(LIVING + 1)), (3, Step::Goes(1))]
        {
            assert_eq!((Step::number(number), want.its_number()), (want, Some(number)));
        }
        assert_eq!(Step::Comes(LIVING - 1).its_number(), None, "it was there before");
    }

    #[test]
    fn a_change_is_as_late_as_the_last_proxy() {
        let tally = Tally::new(2, 2);
        let ms = Duration::from_millis;
        for (number, at) in [(0, 5), (1, 12), (0, 40), (7, 50)] {
            tally.hear(number, ms(at));
        }
        assert_eq!(tally.unheard(), 1);
        tally.hear(1, ms(13));
        let want = Stale { changes: 2, p99_ms: 3.0, p50_ms: 3.0, max_ms: 40.0 };
        assert_eq!((tally.stale(|number| ms(10 * number as u64)), tally.unheard()), (want, 0));
    }
}
