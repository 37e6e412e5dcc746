//! How work ends: everybody is told, has until a deadline to finish, and is then told to stop.
//!
//! [`Drain`] starts it and waits for it; [`Signal`] is what everybody else holds. Work that
//! should be waited for holds a [`Guard`].

use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Taking work.
    Running,
    /// Taking no new work; what runs may run until the deadline.
    Draining {
        /// When the rest is ended.
        deadline: Instant,
    },
    /// Whatever still runs ends now.
    Over,
}

/// Starts the drain. Clones start the same one.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    work: TaskTracker,
}

/// Learns of the drain.
#[derive(Clone, Debug)]
pub struct Signal {
    phase: watch::Receiver<Phase>,
    work: TaskTracker,
}

/// Work that the drain waits for while this is held.
#[derive(Debug)]
pub struct Guard {
    _token: TaskTrackerToken,
}

/// A pair that belongs together.
pub fn channel() -> (Drain, Signal) {
    let (phase, receiver) = watch::channel(Phase::Running);
    let work = TaskTracker::new();
    work.close();
    (Drain { phase, work: work.clone() }, Signal { phase: receiver, work })
}

impl Drain {
    /// A new signal of this drain.
    pub fn signal(&self) -> Signal {
        Signal { phase: self.phase.subscribe(), work: self.work.clone() }
    }

    /// Tells everybody to take no new work and to end within `grace`. Only the first call counts.
    pub fn start(&self, grace: Duration) {
        self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Running;
            if first {
                *phase = Phase::Draining { deadline: Instant::now() + grace };
            }
            first
        });
    }

    /// Waits until every guard is dropped or the deadline is reached, then tells the rest to stop.
    /// Waits for a start first. Returns whether all work ended by itself.
    pub async fn finish(&self) -> bool {
        let mut phase = self.phase.subscribe();
        let Ok(draining) = phase.wait_for(|p| *p != Phase::Running).await.map(|p| *p) else { return true };
        let complete = match draining {
            Phase::Draining { deadline } => tokio::select! {
                complete = timeout_at(deadline, self.work.wait()) => complete.is_ok(),
                _ended = phase.wait_for(|p| *p == Phase::Over) => self.work.is_empty(),
            },
            Phase::Running | Phase::Over => self.work.is_empty(),
        };
        self.phase.send_replace(Phase::Over);
        complete
    }

    /// Tells everybody to stop now, whatever the deadline was.
    pub fn end(&self) {
        self.phase.send_replace(Phase::Over);
    }

    /// How many guards are held.
    pub fn outstanding(&self) -> usize {
        self.work.len()
    }
}

impl Signal {
    /// What the process is doing.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Running
    }

    /// Waits for the drain to start; returns the deadline. Cancel safe. If the [`Drain`] was
    /// dropped, that counts as a start with no time left.
    pub async fn draining(&mut self) -> Instant {
        match self.phase.wait_for(|p| *p != Phase::Running).await.map(|p| *p) {
            Ok(Phase::Draining { deadline }) => deadline,
            _ => Instant::now(),
        }
    }

    /// Waits for the moment when the rest must stop. Cancel safe.
    pub async fn over(&mut self) {
        let _gone = self.phase.wait_for(|p| *p == Phase::Over).await;
    }

    /// Work that the drain should wait for.
    pub fn guard(&self) -> Guard {
        Guard { _token: self.work.token() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_when_the_last_guard_is_dropped() {
        let (drain, mut signal) = channel();
        let guard = signal.guard();
        let work = async {
            signal.draining().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(guard);
        };
        let before = Instant::now();
        drain.start(Duration::from_secs(5));
        let ((), complete) = tokio::join!(work, drain.finish());
        assert!(complete);
        assert_eq!(before.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_told_to_stop_at_the_deadline() {
        let (drain, signal) = channel();
        let _guard = signal.guard();
        let mut other = drain.signal();
        drain.start(Duration::from_secs(5));
        let (complete, ()) = tokio::join!(drain.finish(), other.over());
        assert!(!complete);
        assert_eq!(signal.phase(), Phase::Over);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_start_does_not_move_the_deadline() {
        let (drain, mut signal) = channel();
        drain.start(Duration::from_secs(5));
        let first = signal.draining().await;
        drain.start(Duration::from_secs(50));
        assert_eq!(signal.draining().await, first);
    }

    #[tokio::test]
    async fn a_dropped_drain_counts_as_started() {
        let (drain, mut signal) = channel();
        drop(drain);
        signal.draining().await;
        signal.over().await;
    }
}
