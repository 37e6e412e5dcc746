//! The bytes of a tunnel's session, as long as its peer is believed.

use crate::verify::Peer;
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS session that breaks off, reading and writing, when what the peer showed is revoked.
pub struct Stream<S> {
    session: S,
    /// Resolves when the peer is revoked. None where no revocation lists are heeded.
    revoked: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    broken: bool,
}

impl<S> Stream<S> {
    pub(super) fn new(session: S, peer: &Peer) -> Self {
        let watched = peer.clone();
        let revoked = peer.may_be_revoked().then(|| Box::pin(async move { watched.revoked().await }) as Pin<Box<_>>);
        Self { session, revoked, broken: false }
    }

    /// The TLS session below.
    pub fn session(&self) -> &S {
        &self.session
    }

    fn believed(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.broken {
            self.broken = self.revoked.as_mut().is_some_and(|revoked| revoked.as_mut().poll(cx).is_ready());
            if self.broken {
                // Polled to its end; must not be polled again.
                self.revoked = None;
            }
        }
        if self.broken { Err(revoked()) } else { Ok(()) }
    }

    fn not_broken(&self) -> io::Result<()> {
        if self.broken { Err(revoked()) } else { Ok(()) }
    }
}

const REVOKED: &str = "the peer's certificate has been revoked";

fn revoked() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, REVOKED)
}

/// Whether a connection broke because the certificate of its peer was revoked meanwhile.
pub fn is_revocation(error: &io::Error) -> bool {
    // Layers above keep the kind and the words, and not the error itself.
    error.kind() == io::ErrorKind::ConnectionAborted && error.to_string().contains(REVOKED)
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Somebody always waits to read, so it is the reader whom a revocation wakes.
        self.believed(cx)?;
        Pin::new(&mut self.session).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.not_broken()?;
        Pin::new(&mut self.session).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.not_broken()?;
        Pin::new(&mut self.session).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.session.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.not_broken()?;
        Pin::new(&mut self.session).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_shutdown(cx)
    }
}
