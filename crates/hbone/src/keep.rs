//! Whether the peer is still there: a ping when nothing was heard for a while, and an end when
//! nothing is heard after that. Anything that arrives counts, so a busy connection is never asked.

use crate::limits::Limits;
use h2::{Ping, PingPong};
use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

pin_project! {
    /// A stream that counts what is heard on it.
    pub(crate) struct Watched<IO> {
        #[pin]
        io: IO,
        heard: Arc<AtomicU64>,
    }
}

impl<IO> Watched<IO> {
    pub(crate) fn new(io: IO) -> (Self, Arc<AtomicU64>) {
        let heard = Arc::new(AtomicU64::new(0));
        (Self { io, heard: heard.clone() }, heard)
    }
}

/// Asks and waits, for one connection.
pub(crate) struct Keep {
    ping: PingPong,
    heard: Arc<AtomicU64>,
    heard_before: u64,
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
    pub(crate) fn new(ping: PingPong, heard: Arc<AtomicU64>, limits: &Limits) -> Self {
        let (interval, timeout) = (limits.ping_interval, limits.ping_timeout);
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { ping, heard, heard_before: 0, heard_at: Instant::now(), asked: false, timer, interval, timeout }
    }

    /// To be called whenever the connection was polled. Ready when the peer is to be given up.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Silent> {
        // What it says does not matter, only that something arrived; but it must be taken.
        let _ = self.ping.poll_pong(cx);
        let heard = self.heard.load(Ordering::Relaxed);
        if heard != self.heard_before {
            self.heard_before = heard;
            self.heard_at = Instant::now();
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
            // Fails only where an earlier ping is still unanswered, which asks as well.
            let _ = self.ping.send_ping(Ping::opaque());
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
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
