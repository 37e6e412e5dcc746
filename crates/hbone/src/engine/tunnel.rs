//! One tunnel, as a reader and a writer.

use super::{code::Code, failure::Broken, shared::Handle};
use bytes::{Buf, Bytes};
use std::{
    any::Any,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that one write takes, so that the connection's window is shared among those who wait
/// for it: the largest buffer of the relay.
const GIVE_BYTES_MAX: usize = 256 << 10;

/// One CONNECT stream.
pub(crate) struct Tunnel {
    handle: Handle,
    /// Whoever counts the streams of the connection hears of the end by this being dropped.
    _lease: Box<dyn Any + Send + Sync>,
}

impl Tunnel {
    pub(super) fn new(handle: Handle, lease: Box<dyn Any + Send + Sync>) -> Self {
        Self { handle, _lease: lease }
    }

    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.handle.with(|core, number| core.poll_take(number, cx.waker())).map_err(told)
    }

    pub(crate) fn delivered(&mut self, bytes: usize) {
        self.handle.with(|core, number| core.delivered(number, bytes));
    }

    pub(crate) fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_give_with(cx, bytes.len(), |room| bytes.split_to(room))
    }

    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.handle.with(|core, number| core.finish(number)).map_err(told)
    }

    pub(crate) fn reset(&mut self) {
        self.handle.reset(Code::CONNECT_ERROR);
    }

    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.handle.with(|core, number| core.poll_broken(number, cx.waker())).map(told)
    }

    /// Sends as much of what `piece` gives as there is room for.
    fn poll_give_with(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        piece: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        self.handle.with(|core, number| match ready!(core.poll_room(number, cx.waker())) {
            Ok(Some(room)) => {
                let given = room.min(bytes).min(GIVE_BYTES_MAX);
                core.give(number, piece(given));
                Poll::Ready(Ok(given))
            }
            Ok(None) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(broken) => Poll::Ready(Err(told(broken))),
        })
    }
}

fn told(broken: Broken) -> io::Error {
    broken.error()
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.handle.with(|core, number| {
            let Some(mut bytes) = ready!(core.poll_take(number, cx.waker())).map_err(told)? else {
                return Poll::Ready(Ok(()));
            };
            let length = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..length]);
            bytes.advance(length);
            if !bytes.is_empty() {
                core.put_back(number, bytes);
            }
            core.delivered(number, length);
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_give_with(cx, buf.len(), |room| Bytes::copy_from_slice(&buf[..room]))
    }

    /// What was given is sent without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}
