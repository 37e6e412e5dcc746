//! A listener whose connections belong to no runtime yet.
//!
//! The runtime's own registers each connection where it was accepted. Ours are served by another worker as
//! often as not, so they would be registered, taken out and registered again: three calls of the kernel for one.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A listener.
#[derive(Debug)]
pub struct Listener {
    inner: AsyncFd<TcpListener>,
}

impl Listener {
    /// From one that does not block, on the runtime that is to wait for it.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: the descriptor is the listener's own, which does not change it and is not closed before
        // the registration is gone: both have one owner.
        #[expect(unsafe_code, reason = "tokio asks its caller to vouch for the descriptor")]
        let inner = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?;
        Ok(Self { inner })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.get_ref().local_addr()
    }

    /// Waits for a connection. It does not block.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.inner.async_io(Interest::READABLE, next).await
    }

    /// A connection that waits already, by what the kernel says now.
    pub fn waiting(&self) -> io::Result<(TcpStream, SocketAddr)> {
        next(self.inner.get_ref())
    }
}

fn next(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, from) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, from))
}
