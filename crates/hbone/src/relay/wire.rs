//! The two kinds of end that a relay has: a tunnel, and a TCP connection.

use crate::stream::Tunnel;
use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use std::{
    io,
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::Interest, net::TcpStream};

/// One end of a relay.
///
/// One task polls everything, and after each round has either polled `poll_take` or `poll_stall`
/// last, so each registers its wake-up.
pub trait Wire: Send + Unpin {
    /// The next bytes, about `size` at most; none at the end of this end's direction. Holds no
    /// buffer while it waits.
    fn poll_take(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<Option<Bytes>>>;

    /// To be polled while nothing is taken from it. Ready when this end broke off.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// Says that so many bytes of those taken were delivered.
    fn delivered(&mut self, bytes: usize);

    /// Gives this end some of the bytes and takes them off the front.
    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>>;

    /// Says that nothing more will be given.
    fn finish(&mut self) -> io::Result<()>;

    /// Breaks off both directions, so that the peer sees a reset.
    fn reset(&mut self);
}

impl Wire for Tunnel {
    fn poll_take(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<io::Result<Option<Bytes>>> {
        Self::poll_take(self, cx)
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_gather(cx)
    }

    fn delivered(&mut self, bytes: usize) {
        Self::delivered(self, bytes);
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        Self::poll_give(self, cx, bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        Self::finish(self)
    }

    fn reset(&mut self) {
        Self::reset(self);
    }
}

/// A TCP connection as an end of a relay.
pub struct Tcp {
    stream: Arc<TcpStream>,
    /// Room for the next bytes; let go while nothing comes.
    room: BytesMut,
    /// Waits for a reset while nobody reads: readiness to read would be there all the time.
    watch: Option<Watch>,
}

type Watch = Pin<Box<dyn Future<Output = io::Error> + Send>>;

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), room: BytesMut::new(), watch: None }
    }
}

impl Wire for Tcp {
    fn poll_take(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.stream.poll_read_ready(cx)?.is_pending() {
                self.room = BytesMut::new();
                return Poll::Pending;
            }
            if self.room.capacity() < size / 2 {
                self.room.reserve(size);
            }
            match self.stream.try_read_buf(&mut self.room) {
                Ok(0) => return Poll::Ready(Ok(None)),
                Ok(_) => return Poll::Ready(Ok(Some(self.room.split().freeze()))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.room = BytesMut::new();
        let stream = &self.stream;
        self.watch.get_or_insert_with(|| Box::pin(broken(stream.clone()))).as_mut().poll(cx)
    }

    /// TCP gave its own credit when the bytes were read.
    fn delivered(&mut self, _: usize) {}

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(bytes) {
                Ok(written) => {
                    bytes.advance(written);
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match SockRef::from(&*self.stream).shutdown(Shutdown::Write) {
            // It is gone already, which reading from it will say.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn reset(&mut self) {
        // Closing with a zero linger is how TCP sends a reset. It fails only for a socket that
        // is already dead.
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }
}

async fn broken(stream: Arc<TcpStream>) -> io::Error {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        return error;
    }
    match stream.take_error() {
        // Linux says this of a reset by a peer that had ended its direction before.
        Ok(Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => io::ErrorKind::ConnectionReset.into(),
        Ok(Some(error)) | Err(error) => error,
        Ok(None) => io::ErrorKind::ConnectionReset.into(),
    }
}
