//! Whether the peer of a connection that h2 drives is still there.

use crate::{
    keep::{Keep, Silent},
    limits::Limits,
};
use ::h2::{Ping, PingPong};
use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

pin_project! {
    /// A stream that counts what is heard on it.
    pub(super) struct Watched<IO> {
        #[pin]
        io: IO,
        heard: Arc<AtomicU64>,
    }
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO) -> (Self, Arc<AtomicU64>) {
        let heard = Arc::new(AtomicU64::new(0));
        (Self { io, heard: heard.clone() }, heard)
    }
}

/// Asks with h2's pings.
pub(super) struct Watch {
    ping: PingPong,
    heard: Arc<AtomicU64>,
    heard_before: u64,
    keep: Keep,
}

impl Watch {
    pub(super) fn new(ping: PingPong, heard: Arc<AtomicU64>, limits: &Limits) -> Self {
        Self { ping, heard, heard_before: 0, keep: Keep::new(limits) }
    }

    /// To be called whenever the connection was polled. Ready when the peer is to be given up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Silent> {
        // What it says does not matter, only that something arrived; but it must be taken.
        let _ = self.ping.poll_pong(cx);
        let heard = self.heard.load(Ordering::Relaxed);
        let before = std::mem::replace(&mut self.heard_before, heard);
        let ping = &mut self.ping;
        self.keep.poll(cx, (heard != before).then(Instant::now), || {
            // Fails only where an earlier ping is still unanswered, which asks as well.
            let _ = ping.send_ping(Ping::opaque());
        })
    }
}

impl<IO: AsyncRead> AsyncRead for Watched<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let result = this.io.poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            this.heard.fetch_add(read as u64, Ordering::Relaxed);
        }
        result
    }
}

impl<IO: AsyncWrite> AsyncWrite for Watched<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
