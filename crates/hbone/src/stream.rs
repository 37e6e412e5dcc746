//! One tunnel: a CONNECT stream as a reader and a writer.
//!
//! What holds here whoever reads or writes:
//! * credit goes back to the sender only for bytes that were delivered, not for bytes that arrived;
//! * a reader that stalls stops no other tunnel of its connection, and what waits for it is bounded;
//! * no empty DATA frame is ever sent but the one that ends the stream;
//! * without credit a write waits; without a write nothing is reserved.
//!
//! Dropping a tunnel that did not end both ways resets it.

use crate::{engine, h2::stream as fallback};
use bytes::Bytes;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One CONNECT stream.
pub struct Tunnel(Stream);

enum Stream {
    Own(engine::tunnel::Tunnel),
    H2(Box<fallback::Tunnel>),
}

impl Tunnel {
    pub(crate) fn own(tunnel: engine::tunnel::Tunnel) -> Self {
        Self(Stream::Own(tunnel))
    }

    pub(crate) fn h2(tunnel: fallback::Tunnel) -> Self {
        Self(Stream::H2(Box::new(tunnel)))
    }

    /// The next bytes, without a copy; none at the peer's end of stream. The sender gets its
    /// credit back when [`Tunnel::delivered`] is told.
    pub fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.poll_take(cx),
            Stream::H2(tunnel) => tunnel.poll_take(cx),
        }
    }

    /// Takes in what has arrived while nobody can take it further, and notices a reset.
    /// Ready only with the error of a stream that broke.
    pub fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.0 {
            // What has arrived is in already.
            Stream::Own(tunnel) => tunnel.poll_reset(cx),
            Stream::H2(tunnel) => tunnel.poll_gather(cx),
        }
    }

    /// Says that this many bytes of those taken have gone where they belong.
    pub fn delivered(&mut self, bytes: usize) {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.delivered(bytes),
            Stream::H2(tunnel) => tunnel.delivered(bytes),
        }
    }

    /// Sends some of the bytes, without a copy; waits while the peer grants none. Ready with the
    /// number sent.
    pub fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.poll_give(cx, bytes),
            Stream::H2(tunnel) => tunnel.poll_give(cx, bytes),
        }
    }

    /// Ends our direction; the other one goes on.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.finish(),
            Stream::H2(tunnel) => tunnel.finish(),
        }
    }

    /// Breaks the stream off, both ways: what TCP calls a reset.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.reset(),
            Stream::H2(tunnel) => tunnel.reset(),
        }
    }

    /// Ready when the peer, or the connection, broke the stream off.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.0 {
            Stream::Own(tunnel) => tunnel.poll_reset(cx),
            Stream::H2(tunnel) => tunnel.poll_reset(cx),
        }
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Own(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
            Stream::H2(tunnel) => Pin::new(&mut **tunnel).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Own(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
            Stream::H2(tunnel) => Pin::new(&mut **tunnel).poll_write(cx, buf),
        }
    }

    /// What was written is sent without being asked.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Own(tunnel) => Pin::new(tunnel).poll_flush(cx),
            Stream::H2(tunnel) => Pin::new(&mut **tunnel).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Own(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
            Stream::H2(tunnel) => Pin::new(&mut **tunnel).poll_shutdown(cx),
        }
    }
}
