//! How long a request waits for what.

use std::time::Duration;

use mesh::route::http::Timeouts;
use tokio::time::{Instant, sleep, sleep_until};

use crate::body::Passage;
use crate::limits::STREAM_IDLE;

pub(super) fn nonzero(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

pub(super) fn idle(timeouts: &Timeouts) -> Option<Duration> {
    nonzero(Some(timeouts.idle.unwrap_or(STREAM_IDLE)))
}

/// Resolves so long after the whole request has come: who sends slowly is not late. Never without a time.
pub(super) async fn after_whole(passage: &Passage, time: Option<Duration>) {
    match time {
        None => std::future::pending().await,
        Some(time) => {
            passage.whole().await;
            sleep(time).await;
        }
    }
}

/// Resolves when nothing of the request has moved for so long. Never without a time.
pub(super) async fn quiet(passage: &Passage, time: Option<Duration>) {
    let Some(time) = time else { return std::future::pending().await };
    loop {
        let until = passage.moved() + time;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}
