//! One tunnel of a connection that h2 drives.
//!
//! While the reader stalls, what arrives is taken out of h2 and small frames are joined, so that a
//! chatty peer cannot exhaust the connection's frame budget, nor a few stalled streams its window:
//! [`Tunnel::poll_gather`] does so, and a flush or a write that waits.

use super::credit::Credit;
use crate::limits;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Buf, Bytes, BytesMut};
use std::{
    any::Any,
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames below this are joined while the reader stalls; h2 charges frames under 256 bytes.
const JOIN_BELOW_BYTES: usize = 1024;
/// What joined frames are collected in.
const JOIN_INTO_BYTES: usize = 16 << 10;
/// Most bytes that one write asks credit for: the largest buffer of the relay.
const RESERVE_BYTES_MAX: usize = 256 << 10;

/// One CONNECT stream.
pub(crate) struct Tunnel {
    send: SendStream<Bytes>,
    recv: RecvStream,
    arrived: Arrived,
    /// Who read last.
    reader: Option<Waker>,
    /// The peer said that nothing more comes.
    ended: bool,
    /// We said so.
    finished: bool,
    /// What the connection holds for its stalled readers, of which `arrived` is a part.
    credit: Arc<Credit>,
    /// Bytes taken from h2 whose credit did not go back yet.
    held: usize,
    /// Whoever counts the streams of the connection hears of the end by this being dropped.
    _lease: Box<dyn Any + Send + Sync>,
}

/// Bytes in the order they came, the small ones joined.
#[derive(Default)]
struct Arrived {
    whole: VecDeque<Bytes>,
    joining: BytesMut,
}

impl Arrived {
    fn push(&mut self, bytes: Bytes) {
        if bytes.len() >= JOIN_BELOW_BYTES {
            self.seal();
            self.whole.push_back(bytes);
            return;
        }
        if self.joining.capacity() - self.joining.len() < bytes.len() {
            self.seal();
            self.joining.reserve(JOIN_INTO_BYTES);
        }
        self.joining.extend_from_slice(&bytes);
    }

    fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.seal();
        }
        self.whole.pop_front()
    }

    fn put_back(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.whole.push_front(bytes);
        }
    }

    fn seal(&mut self) {
        if !self.joining.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.joining).freeze());
        }
    }
}

impl Tunnel {
    pub(super) fn new(
        send: SendStream<Bytes>,
        mut recv: RecvStream,
        credit: Arc<Credit>,
        lease: Box<dyn Any + Send + Sync>,
    ) -> Self {
        credit.enter(&mut recv);
        let (arrived, reader) = (Arrived::default(), None);
        Self { send, recv, arrived, reader, ended: false, finished: false, credit, held: 0, _lease: lease }
    }

    /// The next bytes, without a copy; none at the peer's end of stream. The sender gets its
    /// credit back when [`Tunnel::delivered`] is told.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if let Some(bytes) = self.arrived.pop() {
            return Poll::Ready(Ok(Some(bytes)));
        }
        self.poll_arrival(cx)
    }

    /// Takes in what has arrived while nobody can take it further, and notices a reset.
    /// Ready only with the error of a stream that broke.
    pub(crate) fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.poll_arrivals(cx)) {
            Ok(()) => self.poll_reset(cx),
            Err(error) => Poll::Ready(error),
        }
    }

    /// Says that this many bytes of those taken have gone where they belong.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.credit.released(bytes);
        // Fails only where the stream is gone, and its credit with it.
        let _ = self.recv.flow_control().release_capacity(bytes);
    }

    /// Sends some of the bytes, without a copy; waits while the peer grants none. Ready with the
    /// number sent.
    pub(crate) fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let granted = ready!(self.poll_credit(cx, bytes.len()))?;
        let piece = bytes.split_to(granted.min(bytes.len()));
        self.send_piece(piece)
    }

    /// Ends our direction; the other one goes on.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        self.send.send_data(Bytes::new(), true).map_err(into_io)
    }

    /// Breaks the stream off, both ways: what TCP calls a reset.
    pub(crate) fn reset(&mut self) {
        self.send.send_reset(Reason::CONNECT_ERROR);
    }

    /// Ready when the peer, or the connection, broke the stream off.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.send.poll_reset(cx).map(|reset| match reset {
            Ok(reason) => reset_error(reason),
            Err(error) => into_io(error),
        })
    }

    /// Takes all that arrives out of h2. Ready when nothing more will, or the stream broke.
    fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(bytes) = ready!(self.poll_arrival(cx))? {
            self.arrived.push(bytes);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what has arrived, and asks to be woken for more, where reader and writer are one.
    fn gather_meanwhile(&mut self, cx: &mut Context<'_>) {
        // A stream wakes one task: a writer must not be woken in place of a reader elsewhere.
        if self.reader.as_ref().is_none_or(|reader| reader.will_wake(cx.waker())) {
            // The reader meets an error too, after the bytes that came before it.
            let _ = self.poll_arrivals(cx);
        }
    }

    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        while !self.ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    self.held += bytes.len();
                    self.credit.held(bytes.len());
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => self.ended = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Ready with credit for at least one byte and at most `wanted`.
    fn poll_credit(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.send.reserve_capacity(wanted.min(RESERVE_BYTES_MAX));
        loop {
            let granted = self.send.capacity();
            if granted > 0 {
                return Poll::Ready(Ok(granted));
            }
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => {
                    return Poll::Ready(Err(match self.send.poll_reset(cx) {
                        Poll::Ready(Ok(reason)) => reset_error(reason),
                        Poll::Ready(Err(error)) => into_io(error),
                        Poll::Pending => io::ErrorKind::BrokenPipe.into(),
                    }));
                }
            }
        }
    }

    fn send_piece(&mut self, piece: Bytes) -> Poll<io::Result<usize>> {
        let sent = piece.len();
        self.send.send_data(piece, false).map_err(into_io)?;
        self.send.reserve_capacity(0);
        Poll::Ready(Ok(sent))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // h2 gives the connection's credit back itself when the last handle of a stream goes.
        self.credit.released(self.held);
        self.credit.leave(&self.recv);
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        if let Some(mut bytes) = ready!(self.poll_take(cx))? {
            let length = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..length]);
            bytes.advance(length);
            self.arrived.put_back(bytes);
            self.delivered(length);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Poll::Ready(granted) = self.poll_credit(cx, buf.len())? else {
            self.gather_meanwhile(cx);
            return Poll::Pending;
        };
        let piece = Bytes::copy_from_slice(&buf[..granted.min(buf.len())]);
        self.send_piece(piece)
    }

    /// h2 sends what it has without being asked. But hyper flushes whenever it is woken, also while
    /// it does not read because the reader of a body stalls.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.gather_meanwhile(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

/// A stream that was reset, by whomever, reads as a TCP connection that was.
fn reset_error(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, format!("the tunnel was reset: {reason}"))
}

pub(super) fn into_io(error: ::h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into());
    }
    let kind = match error.is_reset() {
        true => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

// A write must not ask for more than it could ever be granted.
const _: () = assert!(RESERVE_BYTES_MAX <= limits::SEND_BUFFER_BYTES);
