//! Where a destination has all the connections that it may have: who comes next waits for a turn.

use std::pin::pin;

use tokio::time::timeout;

use super::Way;
use super::kept::{Entry, Key};
use crate::budget::Permit;
use crate::limits::CONNECT_DEADLINE;
use crate::upstream::Upstream;
use crate::upstream::failure::TryFailure;

/// What a request goes on with.
pub(super) enum Turn<T> {
    /// A connection to its endpoint that came free, on whatever core.
    Kept(T),
    /// A place for a new one.
    Place(Permit),
}

impl Upstream {
    /// Waits until there is a place for a connection, or one of those that are kept is found to serve.
    ///
    /// Limits count the connections of all cores and to all endpoints of the destination. So one that another
    /// core keeps is taken, and one to another endpoint that nobody uses is closed, before anybody waits.
    pub(super) async fn turn<T>(
        &self,
        way: &Way<'_>,
        kept: impl Fn(&Entry) -> Option<T>,
    ) -> Result<Turn<T>, TryFailure> {
        let (key, breakers) = (Key::of(way), &way.cluster.breakers);
        let came = async {
            loop {
                let mut freed = pin!(breakers.freed.notified());
                // What comes free while we look is not missed.
                freed.as_mut().enable();
                if let Some(place) = breakers.connect(&way.hosts.most) {
                    return Turn::Place(place);
                }
                if let Some(kept) = self.everyone.find(&key, &kept) {
                    return Turn::Kept(kept);
                }
                self.everyone.evict_idle(&way.cluster.key);
                freed.await;
            }
        };
        let deadline = way.hosts.traffic.pool.connect_timeout.unwrap_or(CONNECT_DEADLINE);
        timeout(deadline, came).await.map_err(|_| TryFailure::Overflow("connections"))
    }
}
