//! On which worker a connection of a pod is served.
//!
//! Those of one worker share tunnels, which never cross cores. A pod with few connections stays on one worker, and has
//! one tunnel to each destination; one with many is spread, so that it is not held to one core.

use std::sync::Arc;

use hbone::limits::Limits;
use hbone::pool::Pool;
use tokio::runtime::Handle;

use crate::limits::{FIRST_WORKER_TAKES, WORKERS_PER_POD};
use crate::node::LocalPod;
use crate::outbound::connect::TunnelDial;

/// A pod's place on one worker. Each of its connections there holds it for as long as it is open.
pub struct Seat {
    /// The pod.
    pub pod: Arc<LocalPod>,
    /// Where its connections of this seat run.
    pub worker: Handle,
    /// Their tunnels to others.
    pub pool: Pool<TunnelDial>,
}

/// All of a pod's places; one at least.
#[derive(Clone)]
pub struct Seats {
    all: Arc<[Arc<Seat>]>,
    /// So many connections the first takes before others are asked.
    first_takes: usize,
}

impl Seats {
    /// Places on `workers`, the first of which is preferred. They share what the limits allow to hold.
    pub fn new(pod: &Arc<LocalPod>, workers: &[Handle], dial: &TunnelDial, tunnels: &Limits) -> Self {
        let tunnels = tunnels.shared_by(workers.len());
        let seat = |worker: &Handle| {
            let pool = Pool::new(dial.clone(), tunnels.clone());
            Arc::new(Seat { pod: pod.clone(), worker: worker.clone(), pool })
        };
        Self { all: workers.iter().map(seat).collect(), first_takes: FIRST_WORKER_TAKES }
    }

    /// The same for connections that carry tunnels, of which one may be as much as many others.
    #[must_use]
    pub fn of_tunnels(&self) -> Self {
        Self { first_takes: 0, ..self.clone() }
    }

    /// One for another connection.
    pub fn take(&self) -> Arc<Seat> {
        // One of the holders is this list.
        let held = self.all.iter().map(|seat| Arc::strong_count(seat) - 1);
        self.all[next(self.first_takes, held)].clone()
    }

    /// Connections that carry tunnels.
    pub fn tunnels(&self) -> usize {
        self.all.iter().map(|seat| seat.pool.connections()).sum()
    }

    /// The pod.
    pub fn pod(&self) -> &Arc<LocalPod> {
        &self.all[0].pod
    }
}

/// The first, as long as it has fewer than it takes; then the one with the fewest, of several the first.
fn next(first_takes: usize, held: impl Iterator<Item = usize>) -> usize {
    let counts = |(number, held): &(usize, usize)| if *number == 0 && *held < first_takes { 0 } else { *held };
    held.enumerate().min_by_key(counts).map_or(0, |(number, _)| number)
}

/// The workers of the pod with this number: pods begin with another one each, so that none is everybody's first.
pub fn workers_of(number: usize, workers: &[Handle]) -> Vec<Handle> {
    order(number, workers.len()).map(|worker| workers[worker].clone()).collect()
}

fn order(number: usize, workers: usize) -> impl Iterator<Item = usize> {
    (0..workers.min(WORKERS_PER_POD)).map(move |after| (number + after) % workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_stay_together_and_many_are_spread() {
        for (first_takes, held, want) in [
            (4, &[0, 0, 0][..], 0),
            (4, &[3, 0, 0], 0),
            (4, &[4, 0, 0], 1),
            (4, &[4, 1, 0], 2),
            (4, &[4, 4, 4], 0),
            (4, &[5, 4, 4], 1),
            (4, &[3, 9, 9], 0),
            (0, &[0, 0, 0], 0),
            (0, &[1, 0, 0], 1),
            (0, &[1, 1, 0], 2),
        ] {
            assert_eq!(next(first_takes, held.iter().copied()), want, "{held:?}");
        }
    }

    #[test]
    fn pods_begin_with_another_worker_each() {
        let of = |number, workers| order(number, workers).collect::<Vec<_>>();
        assert_eq!([of(0, 1), of(7, 1)], [[0], [0]]);
        assert_eq!([of(0, 2), of(1, 2), of(2, 2)], [[0, 1], [1, 0], [0, 1]]);
        assert_eq!(of(6, 8), [6, 7, 0, 1], "no more than {WORKERS_PER_POD}");
    }
}
