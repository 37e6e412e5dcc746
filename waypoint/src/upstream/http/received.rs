//! The body of a response, and the connection that it holds until its end.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chassis::task;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use mesh::route::traffic::Pool as Settings;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::kept::{Entry, Idle, Life, Stream};
use crate::body::{BodyError, Outgoing};
use crate::limits::UPSTREAM_IDLE;

/// What a response holds of its connection.
pub(super) enum Lease {
    One { sender: http1::SendRequest<Outgoing>, life: Life, settings: Settings, entry: Weak<Entry>, freed: Arc<Notify> },
    Two { _stream: Stream },
}

impl Lease {
    /// The response has ended in order: the connection may be used again.
    fn give_back(self) {
        let Self::One { mut sender, life, settings, entry, freed } = self else { return };
        if life.over(&settings) || sender.is_closed() {
            return;
        }
        let since = Instant::now();
        if sender.is_ready() {
            if let Some(entry) = entry.upgrade() {
                entry.put(Idle { sender, life, since });
                freed.notify_one();
            }
            return;
        }
        // The connection has yet to notice its end itself, or the request is not all sent.
        task::spawn("upstream connection comes free", async move {
            let ready = timeout(UPSTREAM_IDLE, sender.ready()).await;
            if let (Ok(Ok(())), Some(entry)) = (ready, entry.upgrade()) {
                entry.put(Idle { sender, life, since });
                freed.notify_one();
            }
        })
        .detach();
    }
}

/// The body of a response. Its connection is used again when it has come whole.
pub struct Received {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl Received {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut received = Self { incoming, lease: Some(lease) };
        received.notice_end();
        received
    }

    fn notice_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.notice_end(),
            Some(Err(_)) => drop(self.lease.take()),
            None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
