//! Connections that end because a policy says so: they are old, or nothing has moved for long.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hbone::relay::Meter;
use mesh::route::traffic::Pool;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// How often within its time an idle connection is looked at: it ends a quarter too late at most.
const LOOKS: u32 = 4;

/// Resolves when the policy ends a connection, with the reason.
pub(super) async fn out(meter: &Meter, settings: &Pool) -> &'static str {
    let nonzero = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let old = async {
        match nonzero(settings.age_max) {
            Some(age) => sleep(age).await,
            None => std::future::pending().await,
        }
    };
    let idle = async {
        match nonzero(settings.idle_timeout) {
            Some(time) => idle(meter, time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = old => "it is as old as it may get",
        () = idle => "nothing has moved for long",
    }
}

async fn idle(meter: &Meter, time: Duration) {
    let moved = || meter.sent.load(Relaxed).wrapping_add(meter.received.load(Relaxed));
    let (mut before, mut quiet) = (moved(), 0);
    while quiet < LOOKS {
        sleep(time / LOOKS).await;
        let now = moved();
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
}

/// The caller's end of a connection whose bytes are counted as they pass.
pub(super) struct Counted<'a, T> {
    near: &'a mut T,
    meter: &'a Meter,
}

impl<'a, T> Counted<'a, T> {
    pub(super) fn of(near: &'a mut T, meter: &'a Meter) -> Self {
        Self { near, meter }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut *self.near).poll_read(cx, buf))?;
        self.meter.sent.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.near).poll_write(cx, buf))?;
        self.meter.received.fetch_add(written as u64, Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.near).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.near).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    async fn ends(settings: Pool, moving: impl Future<Output = ()>, meter: &Meter) -> Option<(u64, &'static str)> {
        let began = Instant::now();
        tokio::select! {
            why = out(meter, &settings) => Some((began.elapsed().as_secs(), why)),
            () = moving => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_it_is_old_or_nothing_moves() {
        let meter = Meter::default();
        let nothing = || sleep(Duration::from_secs(1000));
        let trickle = || async {
            for _ in 0..100 {
                sleep(Duration::from_secs(10)).await;
                meter.received.fetch_add(1, Relaxed);
            }
        };
        let secs = |n| Some(Duration::from_secs(n));
        let (old, idle) = ("it is as old as it may get", "nothing has moved for long");
        let settings = |age_max, idle_timeout| Pool { age_max, idle_timeout, ..Pool::default() };
        assert_eq!(ends(settings(None, None), nothing(), &meter).await, None);
        assert_eq!(ends(settings(secs(0), secs(0)), nothing(), &meter).await, None);
        assert_eq!(ends(settings(None, secs(20)), nothing(), &meter).await, Some((20, idle)));
        assert_eq!(ends(settings(secs(50), secs(20)), trickle(), &meter).await, Some((50, old)));
        assert_eq!(ends(settings(None, secs(20)), trickle(), &meter).await, None);
    }
}
