//! How far the drain of a connection has come.

use crate::accept::Drain;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A drain that has begun, or may.
pub(crate) enum Draining {
    NotYet { start: Pin<Box<WaitForCancellationFutureOwned>>, deadline: Duration },
    Until(Pin<Box<Sleep>>),
}

/// What is to be done now.
pub(crate) enum Step {
    /// The peer is to be told.
    Begin,
    /// Nothing may go on any longer.
    Deadline,
}

impl Draining {
    pub(crate) fn new(drain: Drain) -> Self {
        Self::NotYet { start: Box::pin(drain.start.cancelled_owned()), deadline: drain.deadline }
    }

    /// Ready with each step once.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self {
            Self::NotYet { start, deadline } => {
                ready!(start.as_mut().poll(cx));
                *self = Self::Until(Box::pin(tokio::time::sleep(*deadline)));
                Poll::Ready(Step::Begin)
            }
            Self::Until(deadline) => deadline.as_mut().poll(cx).map(|()| Step::Deadline),
        }
    }
}
