//! Whether the peer is still there: a ping when nothing was heard for a while, and an end when
//! nothing is heard after that. Anything that arrives counts, so a busy connection is never asked.

use crate::limits::Limits;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Asks and waits, for one connection.
pub(crate) struct Keep {
    heard_at: Instant,
    /// We asked, and heard nothing since.
    asked: bool,
    timer: Pin<Box<Sleep>>,
    interval: Duration,
    timeout: Duration,
}

/// Nothing was heard for too long.
pub(crate) struct Silent;

impl Keep {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (interval, timeout) = (limits.ping_interval, limits.ping_timeout);
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { heard_at: Instant::now(), asked: false, timer, interval, timeout }
    }

    /// To be called whenever the connection was polled, with when something was heard since; `ask`
    /// sends a ping. Ready when the peer is to be given up.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, heard: Option<Instant>, mut ask: impl FnMut()) -> Poll<Silent> {
        if let Some(heard) = heard {
            self.heard_at = heard;
            if std::mem::take(&mut self.asked) {
                self.timer.as_mut().reset(self.heard_at + self.interval);
            }
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.asked {
                return Poll::Ready(Silent);
            }
            let ask_at = self.heard_at + self.interval;
            if ask_at > Instant::now() {
                self.timer.as_mut().reset(ask_at);
                continue;
            }
            ask();
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
    }
}
